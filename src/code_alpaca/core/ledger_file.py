"""The file of a run's ledger: lock it, open it, and see that it is not damaged."""

from __future__ import annotations

import errno
import fcntl
import sqlite3
from pathlib import Path
from typing import IO
from urllib.parse import quote

from code_alpaca.core.errors import InputError, error_message, explain_database_error


def explain(path: Path, error: sqlite3.DatabaseError) -> InputError | None:
    """What an error at opening means to the user; None for a full disk, which others explain."""
    if "full" in str(error):
        return None
    advice = (
        explain_database_error(error)
        or f"cannot be used as the ledger of a run ({error_message(error)})"
    )
    return InputError(f"{path} {advice}")


def lock(path: Path) -> IO[str]:
    """Hold the run for this process; the kernel lets go however the process ends."""
    place = path.with_name(".lock")
    try:
        handle = open(place, "w")  # noqa: SIM115 - held until close()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"cannot write to {path.parent} ({error.strerror}); make the folder writable, or use "
            "another run_dir"
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        raise InputError(
            f"{path.parent} is in use by another process; wait for it or use another run_dir"
        ) from None
    except OSError as error:
        handle.close()
        raise InputError(
            f"cannot lock {place} ({error.strerror}); use a run_dir on a disk of this machine"
        ) from None
    return handle


def open_to_write(path: Path, schema: str) -> sqlite3.Connection:
    """Open a ledger, made where there is none.

    Raises:
        sqlite3.DatabaseError: it is damaged or cannot be written.
    """
    existed = path.exists() and path.stat().st_size > 0
    database = sqlite3.connect(path, isolation_level=None)
    database.text_factory = _text
    if existed:
        _check(database)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")  # outlives any kill; see durable()
    database.executescript(f"BEGIN;{schema}COMMIT;")
    return database


def _check(database: sqlite3.Connection) -> None:
    """Raise if pages are damaged; a fraction of a second for some hundred megabytes."""
    found = [row[0] for row in database.execute("PRAGMA quick_check(1)")]
    if found != ["ok"]:
        raise sqlite3.DatabaseError(f"database disk image is malformed: {found[0]}")


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open a ledger to read.

    Raises:
        InputError: there is none.
        sqlite3.DatabaseError: it is damaged.
    """
    if not path.exists():
        raise InputError(f"no ledger at {path}; is {path.parent} a run folder?")
    database = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)
    database.text_factory = _text
    _check(database)
    return database


def _text(stored: bytes) -> str:
    """Text of the database; a damaged byte must not keep the rest from being read."""
    return stored.decode("utf-8", "replace")
