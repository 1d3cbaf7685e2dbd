"""Temporary folders that are removed even if their users were killed.

The process that creates a folder locks it, and its child processes can inherit the lock. Creating
another one removes all folders that are no longer locked. `filelock` cannot do this: its locks
cannot be inherited.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path

from code_alpaca.sandbox.inside.folder_cleanup import OPEN_FOLDER, remove_folder

PREFIX = "code-alpaca-sandbox-"
TRY_LOCK = fcntl.LOCK_EX | fcntl.LOCK_NB


class LockedTempFolder:
    """A locked temporary folder; child processes may inherit the descriptor `lock`."""

    def __init__(self) -> None:
        remove_stale_folders()
        while True:
            self.path = tempfile.mkdtemp(prefix=PREFIX)
            with contextlib.suppress(FileNotFoundError):  # removed as stale before it was locked
                self.lock = os.open(self.path, OPEN_FOLDER)
                try:
                    fcntl.flock(self.lock, TRY_LOCK)
                except BlockingIOError:  # another process is removing it as stale
                    os.close(self.lock)
                    continue
                except OSError:  # no locks on this file system, so it is never removed as stale
                    pass
                if os.path.isdir(self.path):
                    return
                os.close(self.lock)

    def close(self) -> None:
        """Remove the folder and everything in it."""
        with contextlib.suppress(OSError):
            remove_folder(self.path)
        os.close(self.lock)


def remove_stale_folders() -> None:
    """Remove this user's folders whose processes were killed before they could."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if path.lstat().st_uid != os.geteuid():
                continue
            fd = os.open(path, OPEN_FOLDER)
            try:
                fcntl.flock(fd, TRY_LOCK)  # raises BlockingIOError if a process uses the folder
                remove_folder(str(path))
            finally:
                os.close(fd)
