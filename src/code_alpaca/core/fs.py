"""Write files and folders atomically, lock and hash them, and locate the user's cache.

A file or folder is written under a temporary name in the same directory and then renamed, which
the file system does atomically. Replacing a folder takes two renames; `recover` repairs a kill
between them.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from code_alpaca.core.errors import InputError


@contextmanager
def atomic_writer(path: Path) -> Iterator[IO[str]]:
    """Open a text file that replaces `path` on success; of concurrent writers the last one wins."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            yield file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace the text file at `path` atomically."""
    with atomic_writer(path) as file:
        file.write(text)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write indented JSON atomically."""
    write_text(path, json.dumps(values, indent=2) + "\n")


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to `path` on success and deleted on failure.

    Hold `lock` if another process may write the same path. Without `replace`, a folder that is not
    empty is refused.
    """
    path = path.resolve()
    if os.path.ismount(path):
        raise InputError(
            f"{path} is a mount point and cannot be replaced; choose a folder below it"
        )
    part, old = _siblings(path)
    _remove(part)  # left by a kill
    recover(path)
    part.mkdir(parents=True)
    try:
        yield part
        if path.exists() and replace:
            os.rename(path, old)
        elif path.exists():
            _remove_empty(path)
        os.rename(part, path)
    finally:
        _remove(part)
        recover(path)


def recover(path: Path) -> None:
    """Restore the previous folder after a kill between two renames; the caller holds `lock`."""
    path = path.resolve()
    old = _siblings(path)[1]
    if old.exists() and not path.exists():
        os.rename(old, path)
    _remove(old)


def recover_for_reading(path: Path) -> None:
    """Recover `path` before it is read, unless nothing was interrupted."""
    if _siblings(path.resolve())[1].exists() and not path.exists():
        with lock(path, wait=True):
            pass  # taking the lock recovers the folder


@contextmanager
def lock(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Lock `path` against other processes that lock it; wait for them, or raise InputError.

    The lock file stays: if it were deleted, processes that wait for it and those that create
    another would have a lock each.
    """
    from filelock import FileLock, Timeout  # not at the top: the sandbox needs no packages

    path = path.resolve()
    lock_path = path.with_name(f".{path.name}.lock")
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    file_lock = FileLock(lock_path, blocking=wait)
    try:
        file_lock.acquire()
    except Timeout:
        raise InputError(f"another process is writing {path}; wait until it has finished") from None
    try:
        recover(path)
        yield
    finally:
        file_lock.release()


def cache_dir() -> Path:
    """Return this user's cache directory, which may not exist or be writable."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "code_alpaca")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def weights_sha256(model: str | Path) -> str | None:
    """Return one hash of the safetensors files in a folder; None for a Hub id."""
    shards = sorted(Path(model).glob("*.safetensors"))
    if not shards:
        return None
    digest = hashlib.sha256()
    for shard in shards:
        digest.update(bytes.fromhex(file_sha256(shard)))
    return digest.hexdigest()


def _siblings(path: Path) -> tuple[Path, Path]:
    """Return the temporary path of a new folder and the backup path of the one it replaces."""
    return path.with_name(f".{path.name}.part"), path.with_name(f".{path.name}.old")


def _remove_empty(path: Path) -> None:
    try:
        path.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.ENOTDIR):
            raise
        raise InputError(
            f"another process filled {path} meanwhile; nothing was written, choose another path"
        ) from None


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)
