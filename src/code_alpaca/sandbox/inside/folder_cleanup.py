"""Empty, remove and measure folders that untrusted code has filled.

Entries may have any depth, name and mode: `shutil.rmtree` fails on paths that are too long and
on folders without permissions. Paths are never joined, and nothing recurses. Functions raise
OSError if something could not be removed.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Iterator

OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_DEPTH = 64  # levels that `exceeds` descends


def remove_folder(path: str) -> None:
    """Remove a folder and everything in it, if it exists."""
    with contextlib.suppress(FileNotFoundError):
        os.chmod(path, 0o700)
        empty_folder(path)
        os.rmdir(path)


def empty_folder(path: str) -> None:
    """Remove everything in a folder that no process writes to.

    Subfolders are moved up into the folder itself, one level at a time, so that a chain of any
    depth needs two file descriptors.
    """
    top = os.open(path, OPEN_FOLDER)
    try:
        pending = [name for name in os.listdir(top) if not _try_remove(name, top)]
        taken = set(pending)
        unused_names = (str(n) for n in itertools.count() if str(n) not in taken)
        while pending:
            name = pending.pop()
            os.chmod(name, 0o700, dir_fd=top)
            inner = os.open(name, OPEN_FOLDER, dir_fd=top)
            try:
                for entry in os.listdir(inner):
                    if not _try_remove(entry, inner):
                        moved = next(unused_names)
                        os.chmod(entry, 0o700, dir_fd=inner)  # needed to move it
                        os.rename(entry, moved, src_dir_fd=inner, dst_dir_fd=top)
                        pending.append(moved)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)


def exceeds(path: str, max_bytes: int, max_entries: int) -> bool:
    """Whether a folder contains more than a limit allows, or cannot be measured.

    A program that is still writing can prevent that by modes and depth.
    """
    num_bytes = num_entries = 0
    try:
        for status in _iter_entries(path):
            num_bytes, num_entries = num_bytes + status.st_size, num_entries + 1
            if num_bytes > max_bytes or num_entries > max_entries:
                return True
    except OSError:
        return True
    return False


def _try_remove(name: str, folder: int) -> bool:
    """Remove a file or an empty folder; return False for a folder with entries."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=folder)
        return True
    try:
        os.rmdir(name, dir_fd=folder)
    except OSError:
        return False
    return True


def _iter_entries(path: str) -> Iterator[os.stat_result]:
    """Yield the status of every entry below a folder, depth first."""
    folders = [os.open(path, OPEN_FOLDER)]
    try:
        listings = [iter(os.listdir(folders[-1]))]
        while listings:
            name = next(listings[-1], None)
            if name is None:
                listings.pop()
                os.close(folders.pop())
                continue
            try:
                status = os.stat(name, dir_fd=folders[-1], follow_symlinks=False)
                yield status
                if stat.S_ISDIR(status.st_mode):
                    folders.append(os.open(name, OPEN_FOLDER, dir_fd=folders[-1]))
                    listings.append(iter(os.listdir(folders[-1])))
            except FileNotFoundError:  # deleted in the meantime
                continue
            if len(folders) > MAX_DEPTH:
                raise OSError(errno.EMFILE, "nested too deeply")
    finally:
        for folder in folders:
            os.close(folder)
