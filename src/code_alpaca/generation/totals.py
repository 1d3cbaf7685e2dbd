"""Count what a run has accepted, rejected and used."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class RunTotals:
    """Totals over all starts of a run, in memory so that reading them costs nothing.

    Attributes:
        target: accepted rows to collect.
        accepted: accepted rows in the ledger; the last reply may bring more than the target.
        rejected: rejected rows by reason.
    """

    target: int
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    replies: int = 0
    tokens: int = 0
    _started_at: float = field(default_factory=time.monotonic)
    _accepted_at_start: int = 0
    _replies_at_start: int = 0
    _checkpoint: int = 0  # accepted rows at the last one

    def start(self) -> None:
        """Measure speeds from now: the totals so far come from earlier starts."""
        self._started_at = time.monotonic()
        self._accepted_at_start, self._replies_at_start = self.accepted, self.replies
        self._checkpoint = self.accepted

    @property
    def in_dataset(self) -> int:
        """Accepted rows that are part of the dataset."""
        return min(self.accepted, self.target)

    @property
    def candidates(self) -> int:
        return self.in_dataset + self.rejected.total()

    @property
    def acceptance(self) -> float:
        """Fraction of candidates that were accepted."""
        return self.in_dataset / self.candidates if self.candidates else 0.0

    @property
    def replies_per_second(self) -> float:
        return (self.replies - self._replies_at_start) / max(1e-9, self._elapsed)

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds until the target, None while there is no rate."""
        new_rows = self.accepted - self._accepted_at_start
        if new_rows <= 0:
            return None
        return max(0, self.target - self.accepted) * self._elapsed / new_rows

    def checkpoint_due(self, every: int) -> bool:
        """Return whether `every` rows were accepted since the last time this was true."""
        due = self.accepted - self._checkpoint >= every
        if due:
            self._checkpoint = self.accepted
        return due

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._started_at
