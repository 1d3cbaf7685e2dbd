"""All of curation in its order: filters, contamination, verification, then novelty.

The first three look at one example alone, as replies arrive: `examine` reads it, `verify` runs
it. Novelty depends on what was kept before, so it is asked in the run's order (`settle`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from code_alpaca.curation.contamination import Contamination
from code_alpaca.curation.filters import FILTERS
from code_alpaca.curation.measures import Task
from code_alpaca.curation.verify import reason as verification_reason
from code_alpaca.curation.verify import verify
from code_alpaca.ledger import Decision
from code_alpaca.sandbox import Pool
from code_alpaca.schema import Example

if TYPE_CHECKING:
    from code_alpaca.curation.novelty import Novelty  # compiles: only where rows are decided


class Curator:
    """The rules of one run.

    Args:
        filters: names out of `FILTERS`, applied in the order of that table.
        decontaminate: benchmarks by name or file.
        verify: where Python answers run with their tests; None: nowhere. Closed with `close`.
        novelty: what was kept so far, and how new a task must be.
    """

    def __init__(
        self,
        *,
        filters: Iterable[str],
        decontaminate: list[str],
        verify: Pool | None,
        novelty: Novelty,
    ) -> None:
        wanted = set(filters)
        self._filters = [check for name, check in FILTERS.items() if name in wanted]
        self._contamination = Contamination(decontaminate)
        self._verify = verify
        self._novelty = novelty

    @property
    def runners(self) -> int:
        """How many answers can be verified at once."""
        return self._verify.size if self._verify else 1

    def close(self) -> None:
        if self._verify:
            self._verify.close()

    def keep(self, tasks: Iterable[Task]) -> None:
        """Let seed tasks or already accepted rows into the pool, unconditionally."""
        self._novelty.keep(tasks)

    def examine(self, example: Example) -> Decision:
        """What can be said of the example by reading it alone."""
        for check in self._filters:
            if found := check(example):
                return Decision(example, found)
        if hits := self._contamination.matches(example):
            return Decision(replace(example, contamination=hits), "contaminated")
        return Decision(example, "")

    def to_run(self, decision: Decision) -> bool:
        """Whether `verify` starts a process for it, and so is worth a thread."""
        return bool(self._verify and not decision.reason and decision.example.tests)

    def verify(self, decision: Decision) -> Decision:
        """What running says of an example that reading did not drop. Safe in many threads."""
        if decision.reason:
            return decision
        verdict = verify(decision.example, self._verify) if self._verify else "skipped"
        example = replace(decision.example, verification=verdict)
        return Decision(example, verification_reason(verdict) or "")

    def settle(self, decision: Decision) -> Decision:
        """Novelty's word on an example that nothing else spoke against, in the run's order."""
        if decision.reason:
            return decision
        (verdict,) = self._novelty.offer([decision.example])
        example = replace(
            decision.example, nearest_id=verdict.nearest_id, nearest_score=verdict.score
        )
        return Decision(example, "" if verdict.fresh else "too_similar")
