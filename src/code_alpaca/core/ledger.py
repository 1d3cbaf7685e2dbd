"""Store every request, raw reply and decision of a run in one SQLite file.

Three rules let a run survive `kill -9` at any moment without paying twice: a reply is committed
before anything is computed from it; all decisions on one reply are committed in one transaction;
and a reply is found by the hash of everything that was sent. No queue or cache library gives
these guarantees together.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from code_alpaca.core.errors import InputError
from code_alpaca.core.ledger_database import LedgerDatabase, utc_now
from code_alpaca.core.schema import Example, content_id

__all__ = ["DAMAGED", "Decision", "Ledger", "utc_now"]

MAX_EXCERPT_CHARACTERS = 2_000  # of a damaged row
DAMAGED = "damaged_row"  # reason of an accepted row whose text no longer matches its id
# Rejected in the requests up to that of the accepted row at this offset.
REJECTED_WITHIN_LIMIT = (
    "reason != '' AND request <= coalesce((SELECT request FROM decisions WHERE reason = '' "
    "ORDER BY request, position LIMIT 1 OFFSET ?), request)"
)


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision on a candidate: `reason` is "" if it was accepted."""

    example: Example
    reason: str
    evidence: str = ""  # what a filter found, for people

    def as_row(self) -> dict[str, Any]:
        """Return the columns of the config `rejected`, in their order."""
        return {**self.example.as_row(), "reason": self.reason, "evidence": self.evidence}


class Ledger(LedgerDatabase):
    """The store of one run: requests and replies, decisions on them, and what they cost."""

    def request(
        self,
        number: int,
        endpoint: str,
        payload: dict[str, Any],
        *,
        seed_ids: Sequence[str] = (),  # of the examples in its prompt, for reports
        asked: dict[str, Any] | None = None,  # strategy, number of tasks, quota labels, for reports
        # What is asked, however it is sent: by it repetitions are counted.
        question: Any = None,
        revises: str | None = None,  # key of the answered request that this one replaces
        # Returns the part of the payload that must not change once it is answered.
        immutable_part: Callable[[dict[str, Any]], Any] = lambda payload: payload,
    ) -> str:
        """Record request `number` and return its key; replace an unanswered request.

        The reply to a request that is revised stays in the ledger, and so does its cost.

        Raises:
            InputError: the ledger contains the reply to another request of this number.
        """
        text = json.dumps(payload, sort_keys=True)
        question = immutable_part(payload) if question is None else question
        question_hash = _sha256(json.dumps(question, sort_keys=True))
        # A repeated question requests another reply. Counted by question, not by payload: if the
        # server needs another form, requests are sent again in any order and keep their index.
        (sample,) = self._db.execute(
            "SELECT count(*) FROM requests WHERE question_hash = ? AND number < ?",
            (question_hash, number),
        ).fetchone()
        recorded = self._db.execute(
            "SELECT key, payload, question_hash FROM requests WHERE number = ?", (number,)
        ).fetchone()
        if revises is not None:  # what others count stays, whenever this happens
            sample, question_hash = f"revised {number}", recorded[2]
        key = _sha256(json.dumps([endpoint, _sha256(text), sample]))
        if recorded is not None and recorded[0] == key:
            return key
        if recorded is not None and recorded[0] != revises and self.reply(recorded[0]) is not None:
            answered = self._parse(recorded[1], f"request {number}")
            if immutable_part(answered) != immutable_part(payload):
                raise InputError(
                    f"{self.path}: request {number} was answered with another prompt; this run "
                    "was made by another version of code-alpaca or of its seed tasks: use a new "
                    "run_dir"
                )
            return recorded[0]
        about = (json.dumps(list(seed_ids)), json.dumps(asked or {}), utc_now())
        self._db.execute(
            "INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, NULL) "
            "ON CONFLICT (number) DO UPDATE SET key = excluded.key, payload = excluded.payload, "
            "question_hash = excluded.question_hash, seed_ids = excluded.seed_ids, "
            "asked = excluded.asked, sent_at = excluded.sent_at",
            (number, key, text, question_hash, *about),
        )
        return key

    def reply(self, key: str) -> dict[str, Any] | None:
        """Return the stored reply to a request, or None."""
        found = self._db.execute("SELECT body FROM replies WHERE key = ?", (key,)).fetchone()
        try:
            return json.loads(found[0]) if found else None
        except (ValueError, RecursionError):  # damaged, or nested too deeply for this stack
            return {"unreadable": found[0]}

    def save_reply(
        self, key: str, body: dict[str, Any], usage: tuple[int, int] | None = None
    ) -> None:
        """Store a raw reply and its prompt and completion tokens, inside durable()."""
        try:
            text = json.dumps(body)
        except RecursionError:
            text = json.dumps({"unreadable": "nested too deep to be stored"})
        self._db.execute(
            "INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?, ?)",
            (key, text, *(usage or (0, 0)), utc_now()),
        )

    def answered(self, number: int) -> tuple[dict[str, Any], dict[str, Any], list[str]] | None:
        """Return payload, `asked` and `seed_ids` of request `number`; None without a reply."""
        found = self._db.execute(
            "SELECT payload, asked, seed_ids FROM requests JOIN replies USING (key) "
            "WHERE number = ?",
            (number,),
        ).fetchone()
        if found is None:
            return None
        payload, asked, seed_ids = (self._parse(text, f"request {number}") for text in found)
        return payload, asked, seed_ids

    def first_unanswered(self) -> int:
        """Return the lowest number of a request without a reply."""
        number = self.next_undecided()
        while self.answered(number) is not None:
            number += 1
        return number

    def usage(self, *, decided: bool = False) -> dict[str, int]:
        """Return the number of requests, and of (decided) replies with their token counts."""
        only = "JOIN requests USING (key) WHERE decided_at IS NOT NULL" if decided else ""
        counts = self._db.execute(
            "SELECT (SELECT count(*) FROM requests), count(*), coalesce(sum(prompt_tokens), 0), "
            f"coalesce(sum(completion_tokens), 0) FROM replies {only}"
        ).fetchone()
        names = ("requests", "replies", "prompt_tokens", "completion_tokens")
        return dict(zip(names, counts, strict=True))

    def is_empty(self) -> bool:
        """Return whether the run has no reply, no decision and no batch in progress."""
        return not self._number(
            "SELECT (SELECT count(*) FROM replies) + (SELECT count(*) FROM decisions) "
            "+ (SELECT count(*) FROM batches WHERE collected_at IS NULL)"
        )

    def reset(self) -> None:
        """Clear an empty run for another config, except what its attempts may have cost."""
        with self.transaction():
            self._db.execute("DELETE FROM requests")
            self._db.execute("DELETE FROM attempts WHERE cost = 0")
            self._db.execute("DELETE FROM meta WHERE key NOT IN ('format', 'run_id')")

    # -- decisions -------------------------------------------------------------------------------

    def decide(self, number: int, decisions: Sequence[Decision]) -> None:
        """Commit all decisions on the reply to request `number` in one transaction."""
        with self.transaction():
            for position, decision in enumerate(decisions):
                row = json.dumps(decision.example.as_row())
                evidence = decision.evidence.encode("utf-8", "replace").decode()
                self._db.execute(
                    "INSERT INTO decisions VALUES (?, ?, ?, ?, ?)",
                    (number, position, decision.reason, row, evidence),
                )
            self._db.execute(
                "UPDATE requests SET decided_at = ? WHERE number = ?", (utc_now(), number)
            )

    def next_undecided(self) -> int:
        """Return the number of the first request without committed decisions."""
        return self._number("SELECT count(*) FROM requests WHERE decided_at IS NOT NULL")

    def accepted(self, limit: int | None = None) -> Iterator[Example]:
        """Yield the first `limit` accepted rows in the order of decisions, or all."""
        intact = (example for _, _, example in self.accepted_places())
        yield from itertools.islice(intact, limit)

    def accepted_places(self) -> Iterator[tuple[int, int, Example]]:
        """Yield request number, position in its reply, and row of every intact accepted row."""
        for number, position, decision in self.accepted_decisions():
            if not decision.reason:
                yield number, position, decision.example

    def accepted_decisions(self) -> Iterator[tuple[int, int, Decision]]:
        """Yield every accepted row with its place; one damaged later has the reason DAMAGED."""
        # The plus prevents SQLite from sorting all rows: they come in the order of the key.
        query = (
            "SELECT request, position, row FROM decisions WHERE +reason = '' "
            "ORDER BY request, position"
        )
        for number, position, text in self._db.execute(query):
            example = _parse_example(text)
            if example is not None and _is_intact(example):
                yield number, position, Decision(example, "")
                continue
            place = f"request {number}, row {position} of its reply"
            evidence = f"{place}: the ledger was damaged after this row was accepted"
            yield number, position, Decision(_excerpt(text), DAMAGED, evidence)

    def reject_damaged(self) -> int:
        """Reject the accepted rows that were damaged, and return how many there are."""
        damaged = [accepted for accepted in self.accepted_decisions() if accepted[2].reason]
        with self.transaction():
            for number, position, decision in damaged:
                row = json.dumps(decision.example.as_row())
                self._db.execute(
                    "UPDATE decisions SET reason = ?, row = ?, evidence = ? "
                    "WHERE request = ? AND position = ?",
                    (decision.reason, row, decision.evidence, number, position),
                )
        return len(damaged)

    def row(self, number: int, position: int) -> Example:
        """Return a candidate by its request and its position in the reply."""
        (text,) = self._db.execute(
            "SELECT row FROM decisions WHERE request = ? AND position = ?", (number, position)
        ).fetchone()
        return _parse_example(text) or _excerpt(text)

    def rejected(self, limit: int | None = None) -> Iterator[Decision]:
        """Yield the rejected candidates of the requests for the first `limit` accepted rows."""
        query = (
            f"SELECT reason, row, evidence FROM decisions WHERE {REJECTED_WITHIN_LIMIT} "
            "ORDER BY request, position"
        )
        for reason, text, evidence in self._db.execute(query, (_last_offset(limit),)):
            yield Decision(_parse_example(text) or _excerpt(text), reason, evidence)

    def accepted_count(self) -> int:
        return self._number("SELECT count(*) FROM decisions WHERE reason = ''")

    def reasons(self, limit: int | None = None) -> dict[str, int]:
        """Return the number of candidates that `rejected` yields by reason, most frequent first."""
        query = (
            f"SELECT reason, count(*) AS n FROM decisions WHERE {REJECTED_WITHIN_LIMIT} "
            "GROUP BY reason ORDER BY n DESC, reason"
        )
        return dict(self._db.execute(query, (_last_offset(limit),)))

    def pace(self, buckets: int = 50) -> list[list[int]]:
        """Return [candidates, accepted] of at most `buckets` equal slices of the run, in order."""
        query = (
            "SELECT count(*), sum(reason = '') FROM (SELECT reason, "
            "ntile(?) OVER (ORDER BY request, position) AS slice FROM decisions) "
            "GROUP BY slice ORDER BY slice"
        )
        return [list(counts) for counts in self._db.execute(query, (buckets,))]

    def requested(self) -> Iterator[tuple[dict[str, Any], list[str]]]:
        """Yield what each decided request asked for, and the languages of its accepted rows."""
        query = (
            "SELECT number, asked, (SELECT json_group_array(json_extract(row, '$.language')) "
            "FROM decisions WHERE request = number AND reason = '') FROM requests "
            "WHERE decided_at IS NOT NULL ORDER BY number"
        )
        for number, asked, languages in self._db.execute(query):
            yield self._parse(asked, f"request {number}"), json.loads(languages)

    # -- costs -----------------------------------------------------------------------------------

    def begin_attempt(self, key: str, reserved_cost: float) -> int:
        """Reserve dollars before a request is sent, and return the number of the attempt."""
        cursor = self._db.execute(
            "INSERT INTO attempts (key, worst, outcome, sent_at) VALUES (?, ?, 'in flight', ?)",
            (key, reserved_cost, utc_now()),
        )
        return int(cursor.lastrowid or 0)

    def end_attempt(self, number: int, cost: float, outcome: str) -> None:
        """Record what an attempt cost and how it ended."""
        self._db.execute(
            "UPDATE attempts SET cost = ?, outcome = ? WHERE number = ?", (cost, outcome, number)
        )

    def charge_replies(self, price: Callable[[dict[str, Any], tuple[int, int]], float]) -> None:
        """Add the cost of replies that were received while no price was known.

        `price` returns dollars for a payload and its (prompt, completion) tokens.
        """
        rows = self._db.execute(
            "SELECT key, payload, prompt_tokens, completion_tokens FROM replies "
            "LEFT JOIN requests USING (key) WHERE key NOT IN (SELECT key FROM attempts)"
        ).fetchall()
        with self.transaction():
            for key, payload, *tokens in rows:  # no payload: the request was revised
                cost = price(json.loads(payload or "{}"), tuple(tokens))
                self.end_attempt(self.begin_attempt(key, cost), cost, "answered, priced later")

    def close_lost_attempts(self, keep: set[str]) -> float:
        """Close the attempts of an earlier start at their reserved cost: they may be billed.

        Those of the request keys in `keep` stay open. Return the dollars spent without them.
        """
        with self.transaction():
            for number, key, reserved_cost in list(self.open_attempts()):
                if key not in keep:
                    self.end_attempt(number, reserved_cost, "interrupted")
        return float(self._number("SELECT coalesce(sum(cost), 0) FROM attempts"))

    def open_attempts(self) -> Iterator[tuple[int, str, float]]:
        """Yield number, request key and reserved cost of every unfinished attempt."""
        yield from self._db.execute("SELECT number, key, worst FROM attempts WHERE cost IS NULL")

    def spent(self) -> float:
        """Return the dollars spent; requests in flight count at their reserved cost."""
        return float(self._number("SELECT coalesce(sum(coalesce(cost, worst)), 0) FROM attempts"))

    def run_id(self) -> str:
        """Return the random name of this run, which is created once."""
        if self.meta("run_id") is None:
            self.set_meta("run_id", uuid.uuid4().hex)
        return str(self.meta("run_id"))

    def add_batch(self, batch_id: str, keys: Sequence[str]) -> None:
        """Record a submitted batch and the requests in it."""
        self._db.execute(
            "INSERT OR IGNORE INTO batches VALUES (?, ?, ?, NULL)",
            (batch_id, json.dumps(list(keys)), utc_now()),
        )

    def end_batch(self, batch_id: str) -> None:
        """Record that the replies of a batch are stored."""
        self._db.execute("UPDATE batches SET collected_at = ? WHERE id = ?", (utc_now(), batch_id))

    def open_batches(self) -> list[tuple[str, list[str]]]:
        """Return id and request keys of every batch whose replies are not stored yet."""
        rows = self._db.execute(
            "SELECT id, keys FROM batches WHERE collected_at IS NULL ORDER BY submitted_at, id"
        )
        return [(batch_id, json.loads(keys)) for batch_id, keys in rows]

    def batch_ids(self) -> set[str]:
        """Return the ids of all batches."""
        return {batch_id for (batch_id,) in self._db.execute("SELECT id FROM batches")}


def _last_offset(limit: int | None) -> int:
    """Return the offset of the last of `limit` accepted rows; for None, one beyond all rows."""
    return (2**62 if limit is None else limit) - 1


def _parse_example(text: str) -> Example | None:
    try:
        return Example(**json.loads(text))
    except (ValueError, TypeError, RecursionError):
        return None


def _is_intact(example: Example) -> bool:
    """Return whether the text still has the hash that is its id; other ids are not hashes."""
    found = content_id(example.instruction, example.input, example.output)
    return example.id == found or len(str(example.id)) != len(found)


def _excerpt(text: str) -> Example:
    """Return a damaged row as a row that can be displayed."""
    return Example("", "", text[:MAX_EXCERPT_CHARACTERS], id=content_id("", "", text))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
