"""The run's memory: every request, raw reply and decision, in one SQLite file.

Three rules make a run survive `kill -9` at any moment without paying twice:
a reply is committed before anything is computed from it; the decisions on one reply are
committed in one transaction; and a reply is found again by the hash of all that was sent.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from code_alpaca.core import ledger_file
from code_alpaca.core.errors import InputError
from code_alpaca.core.schema import Example, content_id

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
KEPT_CHARACTERS = 2_000  # of a damaged row
DAMAGED = "damaged_row"  # the reason of an accepted row whose text is not what it was
# Rejected in the requests up to the one that brought the accepted row at this offset.
REJECTED_WITHIN_LIMIT = (
    "reason != '' AND request <= coalesce((SELECT request FROM decisions WHERE reason = '' "
    "ORDER BY request, position LIMIT 1 OFFSET ?), request)"
)


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
        InputError: another process holds the run, the file is of a newer version, cannot be
            opened or written, or is damaged.
    """

    def __init__(self, path: Path, *, write: bool = True) -> None:
        self.path = path
        self._lock = ledger_file.lock(path) if write else None
        try:
            if write:
                self._db = ledger_file.open_to_write(path, SCHEMA)
            else:
                self._db = ledger_file.open_to_read(path)
            self._check_format(write)
        except sqlite3.DatabaseError as error:
            self._release()
            if (explained := ledger_file.explain(path, error)) is None:
                raise
            raise explained from None
        except BaseException:
            self._release()
            raise

    def _check_format(self, write: bool) -> None:
        found = self.meta("format")
        if found in (None, str(FORMAT)):
            if write:  # also where it is known: a read-only file is better found now than later
                self.set_meta("format", str(FORMAT))
            return
        newer = found.isdecimal() and int(found) > FORMAT
        advice = "a newer code-alpaca; upgrade" if newer else "an older one; use a new run_dir"
        raise InputError(f"{self.path} was written by {advice}")

    def _release(self) -> None:
        if self._lock:
            self._lock.close()

    def close(self) -> None:
        self._db.close()
        self._release()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- facts about the run ---------------------------------------------------------------

    def meta(self, key: str) -> str | None:
        found = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return found[0] if found else None

    def record(self, key: str, default: Any = None) -> Any:
        """The JSON value of a fact about the run.

        Raises:
            InputError: it was damaged.
        """
        text = self.meta(key)
        return default if text is None else self._json(text, key)

    def _json(self, text: str, what: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise InputError(
                f"{self.path} is damaged: {what} cannot be read; the replies in it were paid for, "
                "so keep the file and restore a backup of it"
            ) from None

    def set_meta(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def holds_nothing(self) -> bool:
        """Whether no reply and no decision came of it yet, and none can come of an open batch."""
        return not self._count(
            "SELECT (SELECT count(*) FROM replies) + (SELECT count(*) FROM decisions) "
            "+ (SELECT count(*) FROM batches WHERE collected_at IS NULL)"
        )

    def forget(self) -> None:
        """Empty a run that holds nothing, so that another config may start it.

        What its attempts may have cost stays: a cap counts over all starts.
        """
        with self.transaction():
            self._db.execute("DELETE FROM requests")
            self._db.execute("DELETE FROM attempts WHERE cost = 0")
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
            seed_ids, asked: what its prompt shows and asks for, for reports.
            same: the part of the payload of an answered request that must not change. An
                unanswered one is replaced by whatever is asked now.

        Raises:
            InputError: the ledger holds the answer to another request under this number.
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
        if held is not None and self._is_answered(held[0]):
            if same(self._json(held[1], f"request {number}")) != same(payload):
                raise InputError(
                    f"{self.path}: request {number} was answered with another prompt; this run "
                    "was made by another version of code-alpaca or of its seed tasks: use a new "
                    "run_dir"
                )
            return held[0]
        self._db.execute(
            "INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, NULL) "
            "ON CONFLICT (number) DO UPDATE SET key = excluded.key, payload = excluded.payload, "
            "question_hash = excluded.question_hash, seed_ids = excluded.seed_ids, "
            "asked = excluded.asked, sent_at = excluded.sent_at",
            (
                number,
                key,
                text,
                question_hash,
                json.dumps(list(seed_ids)),
                json.dumps(asked or {}),
                utc_now(),
            ),
        )
        return key

    def reply(self, key: str) -> dict[str, Any] | None:
        """The stored reply to a request, or None if it was never answered."""
        found = self._db.execute("SELECT body FROM replies WHERE key = ?", (key,)).fetchone()
        if found is None:
            return None
        try:
            return json.loads(found[0])
        except (ValueError, RecursionError):  # damaged, or nested too deep for this stack
            return {"unreadable": found[0]}

    def answered(self, number: int) -> tuple[dict[str, Any], dict[str, Any], list[str]] | None:
        """Payload, `asked` and `seed_ids` of request `number` as sent, None if unanswered."""
        found = self._db.execute(
            "SELECT payload, asked, seed_ids FROM requests JOIN replies USING (key) "
            "WHERE number = ?",
            (number,),
        ).fetchone()
        if found is None:
            return None
        payload, asked, seed_ids = (self._json(text, f"request {number}") for text in found)
        return payload, asked, seed_ids

    def first_unanswered(self) -> int:
        """The lowest number of a request without a reply."""
        number = self.next_undecided()
        while self.answered(number) is not None:
            number += 1
        return number

    def _is_answered(self, key: str) -> bool:
        return bool(
            self._db.execute(
                "SELECT EXISTS (SELECT 1 FROM replies WHERE key = ?)", (key,)
            ).fetchone()[0]
        )

    def save_reply(
        self, key: str, body: dict[str, Any], usage: tuple[int, int] | None = None
    ) -> None:
        """Keep a raw reply. Call this, inside durable(), before computing anything from it.

        Args:
            usage: prompt and completion tokens as the teacher counted them.
        """
        asked, answered = usage or (0, 0)
        try:
            text = json.dumps(body)
        except RecursionError:
            text = json.dumps({"unreadable": "nested too deep to be stored"})
        self._db.execute(
            "INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?)",
            (key, text, asked, answered, utc_now()),
        )

    # -- money -----------------------------------------------------------------------------

    def begin_attempt(self, key: str, worst: float) -> int:
        """Set dollars aside for one sending of a request, before it is sent; its number."""
        cursor = self._db.execute(
            "INSERT INTO attempts (key, worst, outcome, sent_at) VALUES (?, ?, 'in flight', ?)",
            (key, worst, utc_now()),
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
            (batch_id, json.dumps(list(keys)), utc_now()),
        )

    def end_batch(self, batch_id: str) -> None:
        self._db.execute("UPDATE batches SET collected_at = ? WHERE id = ?", (utc_now(), batch_id))

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
                        item.evidence.encode("utf-8", "replace").decode(),
                    )
                    for position, item in enumerate(decisions)
                ],
            )
            self._db.execute(
                "UPDATE requests SET decided_at = ? WHERE number = ?", (utc_now(), number)
            )

    def next_undecided(self) -> int:
        """The number of the first request whose decisions are not committed."""
        (count,) = self._db.execute(
            "SELECT count(*) FROM requests WHERE decided_at IS NOT NULL"
        ).fetchone()
        return count

    def accepted(self, limit: int | None = None) -> Iterator[Example]:
        """The first `limit` accepted rows in the order in which they were decided, or all."""
        intact = (example for _, _, example in self.accepted_places())
        yield from itertools.islice(intact, limit)

    def accepted_places(self) -> Iterator[tuple[int, int, Example]]:
        """Request number, place in its reply, and row of everything accepted, in order.

        Damaged rows are left out.
        """
        for number, position, decision in self._checked():
            if not decision.reason:
                yield number, position, decision.example

    def checked(self) -> Iterator[Decision]:
        """Everything accepted, in order; a row that was damaged since has the reason DAMAGED.

        That is a row whose text no longer has the hash that is its id.
        """
        for _, _, decision in self._checked():
            yield decision

    def reject_damaged(self) -> int:
        """Reject the accepted rows that were damaged, for good; how many there are."""
        damaged = [each for each in self._checked() if each[2].reason]
        with self.transaction():
            for number, position, decision in damaged:
                self._db.execute(
                    "UPDATE decisions SET reason = ?, row = ?, evidence = ? "
                    "WHERE request = ? AND position = ?",
                    (
                        decision.reason,
                        json.dumps(decision.example.as_row()),
                        decision.evidence,
                        number,
                        position,
                    ),
                )
        return len(damaged)

    def _checked(self) -> Iterator[tuple[int, int, Decision]]:
        # The plus keeps SQLite from sorting everything: rows come in the order of the key.
        query = (
            "SELECT request, position, row FROM decisions WHERE +reason = '' "
            "ORDER BY request, position"
        )
        for number, position, text in self._db.execute(query):
            example = _example(text)
            if example is not None and _is_intact(example):
                yield number, position, Decision(example, "")
                continue
            where = f"request {number}, row {position} of its reply"
            evidence = f"{where}: the ledger was damaged after this row was accepted"
            yield number, position, Decision(_remains(text), DAMAGED, evidence)

    def row(self, number: int, position: int) -> Example:
        """One candidate by its request and its place in the reply."""
        (text,) = self._db.execute(
            "SELECT row FROM decisions WHERE request = ? AND position = ?", (number, position)
        ).fetchone()
        return _example(text) or _remains(text)

    def asked(self) -> Iterator[tuple[dict[str, Any], list[str]]]:
        """What each decided request asked for, in order, and its accepted rows' languages."""
        query = (
            "SELECT number, asked, (SELECT json_group_array(json_extract(row, '$.language')) "
            "FROM decisions WHERE request = number AND reason = '') FROM requests "
            "WHERE decided_at IS NOT NULL ORDER BY number"
        )
        for number, asked, languages in self._db.execute(query):
            yield self._json(asked, f"request {number}"), json.loads(languages)

    def rejected(self, limit: int | None = None) -> Iterator[Decision]:
        """Yield the rejected candidates in the order in which they were decided.

        Args:
            limit: only those of the requests that brought the first `limit` accepted rows.
        """
        query = (
            f"SELECT reason, row, evidence FROM decisions WHERE {REJECTED_WITHIN_LIMIT} "
            "ORDER BY request, position"
        )
        for reason, text, evidence in self._db.execute(query, (_offset(limit),)):
            yield Decision(_example(text) or _remains(text), reason, evidence)

    # -- sums ------------------------------------------------------------------------------

    def accepted_count(self) -> int:
        return self._count("SELECT count(*) FROM decisions WHERE reason = ''")

    def reasons(self, limit: int | None = None) -> dict[str, int]:
        """Return the number of rejected candidates by reason, most frequent first.

        Args:
            limit: as `rejected` takes it.
        """
        return dict(
            self._db.execute(
                f"SELECT reason, count(*) AS n FROM decisions WHERE {REJECTED_WITHIN_LIMIT} "
                "GROUP BY reason ORDER BY n DESC, reason",
                (_offset(limit),),
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


def _offset(limit: int | None) -> int:
    """Return the position of the last of `limit` accepted rows, behind all of them for None."""
    return (2**62 if limit is None else limit) - 1


def _example(text: str) -> Example | None:
    """A stored row; None where it cannot be read any more."""
    try:
        return Example(**json.loads(text))
    except (ValueError, TypeError, RecursionError):
        return None


def _is_intact(example: Example) -> bool:
    """Whether the text still has the hash that is its id; ids of another form are not hashes."""
    found = content_id(example.instruction, example.input, example.output)
    return example.id == found or len(str(example.id)) != len(found)


def _remains(text: str) -> Example:
    """What is left of a damaged row, as a row that can be shown."""
    return Example("", "", text[:KEPT_CHARACTERS], id=content_id("", "", text))


def utc_now() -> str:
    """The time of a record: ISO 8601, UTC, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
