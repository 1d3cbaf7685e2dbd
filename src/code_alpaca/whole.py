"""Files and folders that are there whole or not at all, whatever stops us while we write them.

Each is written beside its place and put there by a rename, which the file system does at once; a
folder that takes the place of another one by two, between which a kill is made good later.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from code_alpaca.errors import InputError


@contextmanager
def writing(path: Path) -> Iterator[IO[str]]:
    """A text file to write; several processes may do so at a time, and the last one stays."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            yield file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """A text file in the place of what was there."""
    with writing(path) as file:
        file.write(text)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """JSON that people can read as well."""
    write_text(path, json.dumps(values, indent=2) + "\n")


@contextmanager
def folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A new folder to fill, which gets its name if all goes well, and else is deleted.

    Two processes must not do so at a time: see `alone`.

    Args:
        replace: let it take the place of a folder that is there; an empty one does not count.

    Raises:
        InputError: `path` holds something at the end, and is not to be replaced; or it is a mount
            point, which cannot be.
    """
    path = path.resolve()
    if os.path.ismount(path):
        raise InputError(f"{path} is a mount point, which stays as it is; give a folder within it")
    part, old = _beside(path)
    _remove(part)  # of a kill
    mend(path)
    part.mkdir(parents=True)
    try:
        yield part
        if path.exists() and replace:
            os.rename(path, old)
        elif path.exists():
            _rmdir(path)
        os.rename(part, path)
    finally:
        _remove(part)
        mend(path)


def mend(path: Path) -> None:
    """Make good a kill between the two renames of `folder`: what was there before is there again.

    Whoever may meet another process at it holds `alone`.
    """
    path = path.resolve()
    old = _beside(path)[1]
    if old.exists() and not path.exists():
        os.rename(old, path)
    _remove(old)


def restore(path: Path) -> None:
    """The same for whoever reads `path` before it is made anew."""
    if _beside(path.resolve())[1].exists() and not path.exists():
        with alone(path, wait=True):
            pass  # which mends


@contextmanager
def alone(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Within it no other process has `path` to write, if all of them ask.

    Args:
        wait: for another one to be ready, instead of raising.

    Raises:
        InputError: another one has it.
    """
    path = path.resolve()
    lock = path.with_name(f".{path.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = lock.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            file.close()
            raise InputError(f"another process is writing {path}; let it end first") from None
        if _is(lock, file):
            break
        file.close()  # its owner deleted it meanwhile
    try:
        mend(path)
        yield
    finally:
        lock.unlink(missing_ok=True)
        file.close()


def _beside(path: Path) -> tuple[Path, Path]:
    """Where a folder is filled, and where the one that it replaces waits for its end."""
    return path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.old")


def _is(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _rmdir(path: Path) -> None:
    try:
        path.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.ENOTDIR):
            raise
        raise InputError(
            f"something came into {path} meanwhile; nothing was written, choose another one"
        ) from None


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)
