"""Temporary folders that do not outlive their users, however these end.

A folder's user, and every process that it gives the lock to, holds a lock on it. Who makes the
next one removes those on which nobody holds a lock any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path

from code_alpaca.sandbox.inside import folder

PREFIX = "code-alpaca-sandbox-"


class Scratch:
    """A locked temporary folder. `lock` is a descriptor that child processes may inherit."""

    def __init__(self) -> None:
        remove_stale()
        while True:
            self.path = tempfile.mkdtemp(prefix=PREFIX)
            with contextlib.suppress(FileNotFoundError):  # removed as stale before it was locked
                self.lock = os.open(self.path, folder.FOLDER)
                with contextlib.suppress(OSError):  # without locks it is never seen as stale
                    if not _lock(self.lock):
                        os.close(self.lock)
                        continue
                if os.path.isdir(self.path):
                    return
                os.close(self.lock)

    def __enter__(self) -> str:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the folder with all in it."""
        with contextlib.suppress(OSError):
            folder.remove(self.path)
        os.close(self.lock)


def remove_stale() -> None:
    """Remove the folders of this user whose processes were killed before they could."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if path.lstat().st_uid != os.geteuid():
                continue
            handle = os.open(path, folder.FOLDER)
            try:
                if _lock(handle):
                    folder.remove(str(path))
            finally:
                os.close(handle)


def _lock(handle: int) -> bool:
    """Whether nobody else holds the lock.

    Raises:
        OSError: this file system has no locks.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
