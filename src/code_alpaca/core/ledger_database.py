"""Open, lock and check the SQLite file of a run's ledger, and commit to it."""

from __future__ import annotations

import contextlib
import errno
import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import FileLock, Timeout

from code_alpaca.core.errors import InputError, error_message, explain_database_error

FORMAT = 4
SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS requests (
    number INTEGER PRIMARY KEY,   -- k: requests are decided in this order
    key TEXT NOT NULL UNIQUE,     -- hash of payload, endpoint and sample index
    payload TEXT NOT NULL,        -- the JSON body as sent, without headers and so without secrets
    question_hash TEXT NOT NULL,  -- of the payload without what is negotiated with the server
    seed_ids TEXT NOT NULL,       -- JSON list: the examples in its prompt
    asked TEXT NOT NULL,          -- JSON: strategy, number of tasks, quota labels
    sent_at TEXT NOT NULL,
    decided_at TEXT               -- NULL until its decisions are committed
);
CREATE INDEX IF NOT EXISTS requests_by_question ON requests (question_hash);
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY REFERENCES requests (key),
    body TEXT NOT NULL,           -- the JSON reply as received
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    received_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS attempts (
    number INTEGER PRIMARY KEY,
    key TEXT NOT NULL,            -- of the request that was sent
    worst REAL NOT NULL,          -- US dollars reserved before sending
    cost REAL,                    -- NULL while in flight
    outcome TEXT NOT NULL,
    sent_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS batches (
    id TEXT PRIMARY KEY,          -- of the Batch API
    keys TEXT NOT NULL,           -- JSON list of the requests in it
    submitted_at TEXT NOT NULL,
    collected_at TEXT             -- NULL until its replies are stored
);
CREATE TABLE IF NOT EXISTS decisions (
    request INTEGER NOT NULL REFERENCES requests (number),
    position INTEGER NOT NULL,    -- the candidate's place in its reply
    reason TEXT NOT NULL,         -- '' for an accepted row
    row TEXT NOT NULL,            -- the candidate, as the columns of the dataset
    evidence TEXT NOT NULL,       -- what a filter found in it
    PRIMARY KEY (request, position)
);
CREATE INDEX IF NOT EXISTS decisions_by_reason ON decisions (reason);
"""


class LedgerDatabase(contextlib.AbstractContextManager):
    """A connection to a ledger. One process at a time may write; any number may read."""

    def __init__(self, path: Path, *, write: bool = True) -> None:
        self.path = path
        self._lock = _lock(path) if write else None
        try:
            self._db = _open(path, write=write)
            self._check_format(write)
        except BaseException as error:
            self._release()
            # `core.errors` explains a full disk.
            if not isinstance(error, sqlite3.DatabaseError) or "full" in str(error):
                raise
            unknown = f"cannot be used as the ledger of a run ({error_message(error)})"
            raise InputError(f"{path} {explain_database_error(error) or unknown}") from None

    def _check_format(self, write: bool) -> None:
        found = self.meta("format")
        if found in (None, str(FORMAT)):
            if write:  # even if unchanged, so that a read-only file fails now and not later
                self.set_meta("format", str(FORMAT))
            return
        newer = found.isdecimal() and int(found) > FORMAT
        advice = "a newer code-alpaca; upgrade" if newer else "an older one; use a new run_dir"
        raise InputError(f"{self.path} was written by {advice}")

    def close(self) -> None:
        self._db.close()
        self._release()

    def _release(self) -> None:
        if self._lock:
            self._lock.release()

    def __exit__(self, *_: object) -> None:
        self.close()

    def meta(self, key: str) -> str | None:
        """Return a fact about the run, or None."""
        found = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return found[0] if found else None

    def record(self, key: str, default: Any = None) -> Any:
        """Return a fact about the run that is stored as JSON."""
        text = self.meta(key)
        return default if text is None else self._parse(text, key)

    def set_meta(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything inside together, or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextlib.contextmanager
    def durable(self) -> Iterator[None]:
        """Commit replies so that they survive a power failure, at five times the cost."""
        self._db.execute("PRAGMA synchronous = FULL")
        try:
            with self.transaction():
                yield
        finally:
            self._db.execute("PRAGMA synchronous = NORMAL")

    def _parse(self, text: str, name: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise InputError(
                f"{self.path} is damaged: {name} cannot be read; the replies in it were paid for, "
                "so keep the file and restore a backup of it"
            ) from None

    def _number(self, query: str) -> Any:
        return self._db.execute(query).fetchone()[0]


def utc_now() -> str:
    """Return the current time as ISO 8601 in UTC, without fractions of a second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _lock(path: Path) -> FileLock:
    """Lock a run for this process; the kernel releases the lock when the process ends."""
    lock = FileLock(path.with_name(".lock"), blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"{path.parent} is in use by another process; wait for it or use another run_dir"
        ) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"cannot lock {path.parent} ({error.strerror}); make the folder writable, or use a "
            "run_dir on a disk of this machine"
        ) from None
    return lock


def _open(path: Path, *, write: bool) -> sqlite3.Connection:
    """Open a ledger, and raise if pages are damaged (fast even for large files)."""
    if not write and not path.exists():
        raise InputError(f"no ledger at {path}; is {path.parent} a run folder?")
    is_new = not path.exists() or not path.stat().st_size
    uri = f"file:{quote(str(path))}?mode={'rwc' if write else 'ro'}"
    database = sqlite3.connect(uri, uri=True, isolation_level=None)
    # A damaged byte must not prevent reading the rest.
    database.text_factory = lambda stored: stored.decode("utf-8", "replace")
    if not (write and is_new):
        (result,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if result != "ok":
            raise sqlite3.DatabaseError(f"database disk image is malformed: {result}")
    if write:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")  # survives any kill; see durable()
        database.executescript(f"BEGIN;{SCHEMA}COMMIT;")
    return database
