"""Record decisions in the ledger: every candidate row, accepted or rejected with a reason."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from code_alpaca.core.ledger_database import LedgerDatabase, utc_now
from code_alpaca.core.schema import Example, content_id

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


class DecisionTable(LedgerDatabase):
    """Decisions in the order of requests, and statistics of them."""

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
        for number, position, decision in self._checked():
            if not decision.reason:
                yield number, position, decision.example

    def checked(self) -> Iterator[Decision]:
        """Yield every accepted row; one that was damaged later has the reason DAMAGED."""
        for _, _, decision in self._checked():
            yield decision

    def reject_damaged(self) -> int:
        """Reject the accepted rows that were damaged, and return how many there are."""
        damaged = [checked for checked in self._checked() if checked[2].reason]
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

    def _checked(self) -> Iterator[tuple[int, int, Decision]]:
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
