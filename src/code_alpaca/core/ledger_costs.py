"""Record costs in the ledger: attempts to send a request, and batches of the Batch API."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from code_alpaca.core.ledger_database import LedgerDatabase, utc_now


class CostTables(LedgerDatabase):
    """What was sent and what it cost, over all starts of a run."""

    def begin_attempt(self, key: str, worst: float) -> int:
        """Reserve dollars before a request is sent, and return the number of the attempt."""
        cursor = self._db.execute(
            "INSERT INTO attempts (key, worst, outcome, sent_at) VALUES (?, ?, 'in flight', ?)",
            (key, worst, utc_now()),
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
            "JOIN requests USING (key) WHERE key NOT IN (SELECT key FROM attempts)"
        ).fetchall()
        with self.transaction():
            for key, payload, *tokens in rows:
                cost = price(json.loads(payload), tuple(tokens))
                self.end_attempt(self.begin_attempt(key, cost), cost, "answered, priced later")

    def close_lost_attempts(self, keep: set[str]) -> float:
        """Close the attempts of an earlier start at their reserved cost: they may be billed.

        Those of the request keys in `keep` stay open. Return the dollars spent without them.
        """
        with self.transaction():
            for number, key, worst in list(self.open_attempts()):
                if key not in keep:
                    self.end_attempt(number, worst, "lost at a kill")
        return float(self._number("SELECT coalesce(sum(cost), 0) FROM attempts"))

    def open_attempts(self) -> Iterator[tuple[int, str, float]]:
        """Yield number, request key and reserved cost of every attempt without an end."""
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
