"""Cache verification verdicts on disk, in the user's cache folder."""

from __future__ import annotations

import hashlib
import sqlite3
import threading

from code_alpaca.core.fs import cache_dir


class VerdictCache:
    """Verdicts by the hash of what was run. Thread-safe.

    If the cache folder cannot be written, verdicts are kept in memory.

    Args:
        salt: everything besides the key that a verdict depends on.
    """

    def __init__(self, salt: str) -> None:
        self._salt, self._lock = salt, threading.Lock()
        folder = cache_dir()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(folder / "verdicts.sqlite", check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=OFF")  # a lost verdict only costs another run
            self._db.execute("CREATE TABLE IF NOT EXISTS verdicts (key PRIMARY KEY, verdict)")
            self._db.commit()
        except (OSError, sqlite3.Error):
            self._db = sqlite3.connect(":memory:", check_same_thread=False)
            self._db.execute("CREATE TABLE verdicts (key PRIMARY KEY, verdict)")

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    def get(self, key: str) -> str | None:
        """Return the verdict for a key, or None."""
        with self._lock:
            try:
                row = self._db.execute(
                    "SELECT verdict FROM verdicts WHERE key = ?", (self._hash(key),)
                ).fetchone()
            except sqlite3.Error:
                return None
        return row[0] if row else None

    def put(self, key: str, verdict: str) -> None:
        """Store the verdict for a key; a locked or full database is ignored."""
        with self._lock:
            try:
                self._db.execute(
                    "INSERT OR REPLACE INTO verdicts VALUES (?, ?)", (self._hash(key), verdict)
                )
                self._db.commit()
            except sqlite3.Error:
                pass

    def _hash(self, key: str) -> str:
        return hashlib.sha256(f"{self._salt}\0{key}".encode("utf-8", "replace")).hexdigest()
