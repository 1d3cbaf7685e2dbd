"""The run's memory: every request, raw reply and decision, in one SQLite file.

Three rules make a run survive `kill -9` at any moment without paying twice:
a reply is committed before anything is computed from it; the decisions on one reply are
committed in one transaction; and a reply is found again by the hash of all that was sent.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from code_alpaca.errors import InputError
from code_alpaca.schema import Example

FORMAT = 4
SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS requests (
    number INTEGER PRIMARY KEY,   -- k: requests are decided in this order
    key TEXT NOT NULL UNIQUE,     -- hash of payload, endpoint and sample index
    payload TEXT NOT NULL,        -- the JSON body as sent, no headers and so no secrets
    question_hash TEXT NOT NULL,  -- of the payload without what is negotiated with the server
    seed_ids TEXT NOT NULL,       -- JSON list: the examples its prompt shows
    asked TEXT NOT NULL,          -- JSON: strategy, number of tasks, labels of the quotas
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
    worst REAL NOT NULL,          -- US dollars set aside before sending
    cost REAL,                    -- NULL while in flight
    outcome TEXT NOT NULL,
    sent_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS batches (
    id TEXT PRIMARY KEY,          -- of the Batch API
    keys TEXT NOT NULL,           -- JSON list of the requests in it
    submitted_at TEXT NOT NULL,
    collected_at TEXT             -- NULL until its replies are in
);
CREATE TABLE IF NOT EXISTS decisions (
    request INTEGER NOT NULL REFERENCES requests (number),
    position INTEGER NOT NULL,    -- the candidate's place in its reply
    reason TEXT NOT NULL,         -- '' for an accepted row
    row TEXT NOT NULL,            -- the candidate, as the columns of the dataset
    evidence TEXT NOT NULL,       -- what a rule found in it, in words
    PRIMARY KEY (request, position)
);
CREATE INDEX IF NOT EXISTS decisions_by_reason ON decisions (reason);
"""


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one candidate: `reason` is "" for an accepted one; `evidence` is in words."""

    example: Example
    reason: str
    evidence: str = ""

    def as_row(self) -> dict[str, Any]:
        """The columns of the config `rejected`, in their order."""
        return {**self.example.as_row(), "reason": self.reason, "evidence": self.evidence}


class Ledger:
    """One run's store. One process at a time may write; reading is free.

    Raises:
        InputError: another process holds the run, or the file is of a newer version.
    """

    def __init__(self, path: Path, *, write: bool = True) -> None:
        self.path = path
        self._lock = _lock(path) if write else None
        try:
            self._db = _open(path) if write else _open_to_read(path)
            found = int(self.meta("format") or FORMAT)
        except sqlite3.DatabaseError as error:
            if "full" in str(error):
                raise
            raise InputError(f"{path} is not the ledger of a run ({error})") from None
        if found != FORMAT:
            newer = found > FORMAT
            told = "a newer code-alpaca; upgrade" if newer else "an older one; use a new run_dir"
            raise InputError(f"{path} was written by {told}")
        if write and self.meta("format") is None:
            self.set_meta("format", str(FORMAT))

    def close(self) -> None:
        self._db.close()
        if self._lock:
            self._lock.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- facts about the run ---------------------------------------------------------------

    def meta(self, key: str) -> str | None:
        found = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return found[0] if found else None

    def set_meta(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def cost_nothing(self) -> bool:
        """Whether nothing came of it yet: no reply, no decision, and nothing that may be billed."""
        held = self._count(
            "SELECT (SELECT count(*) FROM replies) + (SELECT count(*) FROM batches) "
            "+ (SELECT count(*) FROM decisions)"
        )
        return not held and not self.spent()

    def forget(self) -> None:
        """Empty everything but the format and the name of the run: for one that cost nothing."""
        with self.transaction():
            for table in ("requests", "attempts", "decisions"):
                self._db.execute(f"DELETE FROM {table}")
            self._db.execute("DELETE FROM meta WHERE key NOT IN ('format', 'run_id')")

    # -- requests and replies --------------------------------------------------------------

    def request(
        self,
        number: int,
        endpoint: str,
        payload: dict[str, Any],
        *,
        seed_ids: Sequence[str] = (),
        asked: dict[str, Any] | None = None,
        same: Callable[[dict[str, Any]], Any] = lambda payload: payload,
    ) -> str:
        """Record request `number` and return its key.

        The sample index counts earlier requests with the very same question, so that asking
        the same thing twice asks for two replies.

        Args:
            seed_ids, asked: what its prompt shows and asks for; they are told again in reports.
            same: the part of a payload that must not change. Where only the rest differs from
                what the ledger holds, an answered request keeps its key, an open one is replaced.

        Raises:
            InputError: the ledger holds another request under this number.
        """
        text = json.dumps(payload, sort_keys=True)
        question_hash = _sha256(json.dumps(same(payload), sort_keys=True))
        # Of the question, not of the payload: a server that wants another form gets some requests
        # again, in any order, and each must keep the index that it had.
        (sample,) = self._db.execute(
            "SELECT count(*) FROM requests WHERE question_hash = ? AND number < ?",
            (question_hash, number),
        ).fetchone()
        key = _sha256(json.dumps([endpoint, _sha256(text), sample]))
        held = self._db.execute(
            "SELECT key, payload FROM requests WHERE number = ?", (number,)
        ).fetchone()
        if held is not None and held[0] == key:
            return key
        if held is not None:
            if same(json.loads(held[1])) != same(payload):
                raise InputError(
                    f"{self.path}: request {number} was recorded with another prompt; this run "
                    "was made by another version of code-alpaca or of its seed tasks: use a new "
                    "run_dir"
                )
            if self.reply(held[0]) is not None:
                return held[0]
        self._db.execute(
            "INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, NULL) "
            "ON CONFLICT (number) DO UPDATE SET key = excluded.key, payload = excluded.payload, "
            "sent_at = excluded.sent_at",
            (
                number,
                key,
                text,
                question_hash,
                json.dumps(list(seed_ids)),
                json.dumps(asked or {}),
                now(),
            ),
        )
        return key

    def reply(self, key: str) -> dict[str, Any] | None:
        """The stored reply to a request, or None if it was never answered."""
        found = self._db.execute("SELECT body FROM replies WHERE key = ?", (key,)).fetchone()
        return json.loads(found[0]) if found else None

    def save_reply(
        self, key: str, body: dict[str, Any], usage: tuple[int, int] | None = None
    ) -> None:
        """Keep a raw reply. Call this, inside durable(), before computing anything from it.

        Args:
            usage: prompt and completion tokens as the teacher counted them.
        """
        asked, told = usage or (0, 0)
        self._db.execute(
            "INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?)",
            (key, json.dumps(body), asked, told, now()),
        )

    # -- money -----------------------------------------------------------------------------

    def begin_attempt(self, key: str, worst: float) -> int:
        """Set dollars aside for one sending of a request, before it is sent; its number."""
        cursor = self._db.execute(
            "INSERT INTO attempts (key, worst, outcome, sent_at) VALUES (?, ?, 'in flight', ?)",
            (key, worst, now()),
        )
        return int(cursor.lastrowid or 0)

    def end_attempt(self, number: int, cost: float, outcome: str) -> None:
        self._db.execute(
            "UPDATE attempts SET cost = ?, outcome = ? WHERE number = ?", (cost, outcome, number)
        )

    def charge_replies(self, price: Callable[[dict[str, Any], tuple[int, int]], float]) -> None:
        """Give a cost to replies that came while no price was known.

        Args:
            price: dollars for a payload and its (prompt, completion) tokens, (0, 0) if unknown.
        """
        rows = self._db.execute(
            "SELECT key, payload, prompt_tokens, completion_tokens FROM replies "
            "JOIN requests USING (key) WHERE key NOT IN (SELECT key FROM attempts)"
        ).fetchall()
        with self.transaction():
            for key, payload, asked, told in rows:
                cost = price(json.loads(payload), (asked, told))
                self.end_attempt(self.begin_attempt(key, cost), cost, "answered, priced later")

    def give_up_attempts(self, keep: set[str]) -> float:
        """Close open attempts at their worst case, but for those of the keys in `keep`.

        What was in flight when an earlier start died may have been billed.

        Returns:
            dollars spent, without those that stay open.
        """
        with self.transaction():
            for number, key, worst in list(self.open_attempts()):
                if key not in keep:
                    self.end_attempt(number, worst, "lost at a kill")
        (total,) = self._db.execute("SELECT coalesce(sum(cost), 0) FROM attempts").fetchone()
        return float(total)

    def open_attempts(self) -> Iterator[tuple[int, str, float]]:
        """Number, request key and worst case of every attempt whose end is not recorded."""
        yield from self._db.execute("SELECT number, key, worst FROM attempts WHERE cost IS NULL")

    def spent(self) -> float:
        """Dollars, over all starts of the run; what is in flight counts at its worst case."""
        (total,) = self._db.execute(
            "SELECT coalesce(sum(coalesce(cost, worst)), 0) FROM attempts"
        ).fetchone()
        return float(total)

    # -- batches ---------------------------------------------------------------------------

    def run_id(self) -> str:
        """A random name of this run, made once."""
        found = self.meta("run_id")
        if found is None:
            found = uuid.uuid4().hex
            self.set_meta("run_id", found)
        return found

    def add_batch(self, batch_id: str, keys: Sequence[str]) -> None:
        """Remember a submitted batch and the requests in it."""
        self._db.execute(
            "INSERT OR IGNORE INTO batches VALUES (?, ?, ?, NULL)",
            (batch_id, json.dumps(list(keys)), now()),
        )

    def end_batch(self, batch_id: str) -> None:
        self._db.execute("UPDATE batches SET collected_at = ? WHERE id = ?", (now(), batch_id))

    def open_batches(self) -> list[tuple[str, list[str]]]:
        """Id and request keys of every batch that was not collected yet."""
        rows = self._db.execute(
            "SELECT id, keys FROM batches WHERE collected_at IS NULL ORDER BY submitted_at, id"
        )
        return [(batch_id, json.loads(keys)) for batch_id, keys in rows]

    def batch_ids(self) -> set[str]:
        return {batch_id for (batch_id,) in self._db.execute("SELECT id FROM batches")}

    # -- decisions -------------------------------------------------------------------------

    def decide(self, number: int, decisions: Sequence[Decision]) -> None:
        """Commit everything decided about request `number` in one transaction."""
        with self.transaction():
            self._db.executemany(
                "INSERT INTO decisions VALUES (?, ?, ?, ?, ?)",
                [
                    (
                        number,
                        position,
                        item.reason,
                        json.dumps(item.example.as_row()),
                        item.evidence,
                    )
                    for position, item in enumerate(decisions)
                ],
            )
            self._db.execute("UPDATE requests SET decided_at = ? WHERE number = ?", (now(), number))

    def next_undecided(self) -> int:
        """The number of the first request whose decisions are not committed."""
        (count,) = self._db.execute(
            "SELECT count(*) FROM requests WHERE decided_at IS NOT NULL"
        ).fetchone()
        return count

    def accepted(self, limit: int | None = None) -> Iterator[Example]:
        """Accepted rows in the order in which they were decided, so many at most."""
        query = "SELECT row FROM decisions WHERE reason = '' ORDER BY request, position LIMIT ?"
        for (row,) in self._db.execute(query, (-1 if limit is None else limit,)):
            yield Example(**json.loads(row))

    def accepted_places(self) -> Iterator[tuple[int, int, Example]]:
        """Request number, place in its reply, and row of everything accepted, in order."""
        query = (
            "SELECT request, position, row FROM decisions WHERE reason = '' "
            "ORDER BY request, position"
        )
        for number, position, row in self._db.execute(query):
            yield number, position, Example(**json.loads(row))

    def row(self, number: int, position: int) -> Example:
        """One candidate by its request and its place in the reply."""
        (row,) = self._db.execute(
            "SELECT row FROM decisions WHERE request = ? AND position = ?", (number, position)
        ).fetchone()
        return Example(**json.loads(row))

    def asked(self) -> Iterator[tuple[dict[str, Any], list[str]]]:
        """What each decided request asked for, in order, and its accepted rows' languages."""
        query = (
            "SELECT asked, (SELECT json_group_array(json_extract(row, '$.language')) "
            "FROM decisions WHERE request = number AND reason = '') FROM requests "
            "WHERE decided_at IS NOT NULL ORDER BY number"
        )
        for asked, languages in self._db.execute(query):
            yield json.loads(asked), json.loads(languages)

    def rejected(self) -> Iterator[Decision]:
        """Rejected candidates in the order in which they were decided."""
        query = (
            "SELECT reason, row, evidence FROM decisions WHERE reason != '' "
            "ORDER BY request, position"
        )
        for reason, row, evidence in self._db.execute(query):
            yield Decision(Example(**json.loads(row)), reason, evidence)

    # -- sums ------------------------------------------------------------------------------

    def accepted_count(self) -> int:
        return self._count("SELECT count(*) FROM decisions WHERE reason = ''")

    def reasons(self) -> dict[str, int]:
        """Rejected candidates by reason, most frequent first."""
        return dict(
            self._db.execute(
                "SELECT reason, count(*) AS n FROM decisions WHERE reason != '' "
                "GROUP BY reason ORDER BY n DESC, reason"
            )
        )

    def pace(self, buckets: int = 50) -> list[list[int]]:
        """How acceptance went: [candidates, accepted] of so many equal slices, in order.

        Slices differ by one candidate at most; fewer candidates than `buckets` give fewer slices.
        """
        query = (
            "SELECT count(*), sum(reason = '') FROM (SELECT reason, "
            "ntile(?) OVER (ORDER BY request, position) AS slice FROM decisions) "
            "GROUP BY slice ORDER BY slice"
        )
        return [list(counts) for counts in self._db.execute(query, (buckets,))]

    def usage(self, *, decided: bool = False) -> dict[str, int]:
        """Requests recorded, replies paid for, and the tokens that the teacher counted.

        Args:
            decided: only of requests whose decisions are committed.
        """
        requests = self._count("SELECT count(*) FROM requests")
        only = "JOIN requests USING (key) WHERE decided_at IS NOT NULL" if decided else ""
        row = self._db.execute(
            "SELECT count(*), coalesce(sum(prompt_tokens), 0), "
            f"coalesce(sum(completion_tokens), 0) FROM replies {only}"
        ).fetchone()
        return dict(
            zip(
                ("requests", "replies", "prompt_tokens", "completion_tokens"),
                (requests, *row),
                strict=True,
            )
        )

    def _count(self, query: str) -> int:
        return self._db.execute(query).fetchone()[0]

    @contextlib.contextmanager
    def durable(self) -> Iterator[None]:
        """A transaction that outlives a power cut, not only a kill, at five times the price.

        For replies, which were paid for; all else can be made again from them.
        """
        self._db.execute("PRAGMA synchronous = FULL")
        try:
            with self.transaction():
                yield
        finally:
            self._db.execute("PRAGMA synchronous = NORMAL")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is committed together, or not at all."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")  # outlives any kill; see durable()
    database.executescript(f"BEGIN;{SCHEMA}COMMIT;")
    return database


def _open_to_read(path: Path) -> sqlite3.Connection:
    if not path.exists():
        raise InputError(f"no ledger at {path}; is {path.parent} a run folder?")
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)


def now() -> str:
    """The time of a record: ISO 8601, UTC, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _lock(path: Path):
    """Hold the run for this process; the kernel lets go however the process ends."""
    handle = open(path.with_name(".lock"), "w")  # noqa: SIM115 - held until close()
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise InputError(
            f"{path.parent} is in use by another process; wait for it or use another run_dir"
        ) from None
    return handle
