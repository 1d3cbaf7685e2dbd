"""Store every request, raw reply and decision of a run in one SQLite file.

Three rules let a run survive `kill -9` at any moment without paying twice: a reply is committed
before anything is computed from it; all decisions on one reply are committed in one transaction;
and a reply is found by the hash of everything that was sent. No queue or cache library gives
these guarantees together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from code_alpaca.core.errors import InputError
from code_alpaca.core.ledger_costs import CostTables
from code_alpaca.core.ledger_database import utc_now
from code_alpaca.core.ledger_decisions import DAMAGED, Decision, DecisionTable

__all__ = ["DAMAGED", "Decision", "Ledger", "utc_now"]


class Ledger(DecisionTable, CostTables):
    """The store of one run: requests and replies, with decisions and costs of the base classes."""

    # One parameter for each column of the table.
    def request(
        self,
        number: int,
        endpoint: str,
        payload: dict[str, Any],
        *,
        seed_ids: Sequence[str] = (),  # of the examples in its prompt, for reports
        asked: dict[str, Any] | None = None,  # strategy, number of tasks, quota labels, for reports
        # Returns the part of the payload that must not change once it is answered.
        same: Callable[[dict[str, Any]], Any] = lambda payload: payload,
    ) -> str:
        """Record request `number` and return its key; replace an unanswered request.

        Raises:
            InputError: the ledger contains the reply to another request of this number.
        """
        text = json.dumps(payload, sort_keys=True)
        question_hash = _sha256(json.dumps(same(payload), sort_keys=True))
        # A repeated question requests another reply. Counted by question, not by payload: if the
        # server needs another form, requests are sent again in any order and keep their index.
        (sample,) = self._db.execute(
            "SELECT count(*) FROM requests WHERE question_hash = ? AND number < ?",
            (question_hash, number),
        ).fetchone()
        key = _sha256(json.dumps([endpoint, _sha256(text), sample]))
        recorded = self._db.execute(
            "SELECT key, payload FROM requests WHERE number = ?", (number,)
        ).fetchone()
        if recorded is not None and recorded[0] == key:
            return key
        if recorded is not None and self._is_answered(recorded[0]):
            if same(self._parse(recorded[1], f"request {number}")) != same(payload):
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
        """Return the number of requests and replies, and the tokens counted by the teacher.

        Args:
            decided: count only replies whose decisions are committed.
        """
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

    def _is_answered(self, key: str) -> bool:
        query = "SELECT EXISTS (SELECT 1 FROM replies WHERE key = ?)"
        return bool(self._db.execute(query, (key,)).fetchone()[0])


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
