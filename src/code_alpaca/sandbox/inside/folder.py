"""Empty and measure a folder that untrusted code has filled: any depth, any name, any mode.

Paths are never joined, so none gets too long, and nothing recurses. Standard library alone: this
also runs in the sandbox's own interpreter.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Iterator

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MOST_OPEN = 64  # levels that `exceeds` descends


def empty(path: str) -> None:
    """Remove all in a folder into which nobody writes any more.

    Subfolders are moved up into the folder itself, one level at a time, so that a chain of any
    depth takes two descriptors.

    Raises:
        OSError: something could not be removed.
    """
    top = os.open(path, FOLDER)
    try:
        pending = [name for name in os.listdir(top) if not _unlink(name, top)]
        taken = set(pending)
        fresh = (str(n) for n in itertools.count() if str(n) not in taken)
        while pending:
            name = pending.pop()
            os.chmod(name, 0o700, dir_fd=top)
            inner = os.open(name, FOLDER, dir_fd=top)
            try:
                for entry in os.listdir(inner):
                    if not _unlink(entry, inner):
                        moved = next(fresh)
                        os.chmod(entry, 0o700, dir_fd=inner)  # else it may not be moved
                        os.rename(entry, moved, src_dir_fd=inner, dst_dir_fd=top)
                        pending.append(moved)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)


def remove(path: str) -> None:
    """Remove a folder and all in it; it need not exist.

    Raises:
        OSError: something could not be removed.
    """
    try:
        os.chmod(path, 0o700)
        empty(path)
        os.rmdir(path)
    except FileNotFoundError:
        return


def _unlink(name: str, folder: int) -> bool:
    """Whether it was a file, or an empty folder, and is gone."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=folder)
        return True
    try:
        os.rmdir(name, dir_fd=folder)
    except OSError:
        return False
    return True


def exceeds(path: str, *, size: int, entries: int) -> bool:
    """Whether a folder that is being written holds more than `size` bytes or `entries` entries.

    Also where that cannot be found out, because of its modes or its depth.
    """
    try:
        for found in _entries(path):
            size, entries = size - found.st_size, entries - 1
            if size < 0 or entries < 0:
                return True
    except OSError:
        return True
    return False


def _entries(path: str) -> Iterator[os.stat_result]:
    handles = [os.open(path, FOLDER)]
    try:
        lists = [iter(os.listdir(handles[-1]))]
        while lists:
            name = next(lists[-1], None)
            if name is None:
                lists.pop()
                os.close(handles.pop())
                continue
            try:
                found = os.stat(name, dir_fd=handles[-1], follow_symlinks=False)
                yield found
                if stat.S_ISDIR(found.st_mode):
                    handles.append(os.open(name, FOLDER, dir_fd=handles[-1]))
                    lists.append(iter(os.listdir(handles[-1])))
            except FileNotFoundError:  # it was deleted meanwhile
                continue
            if len(handles) > MOST_OPEN:
                raise OSError(errno.EMFILE, "nested too deeply")
    finally:
        for handle in handles:
            os.close(handle)
