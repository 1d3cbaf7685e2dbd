"""All of curation in its order: filters, contamination, verification, then novelty.

The first three look at one example alone, as replies arrive: `examine` reads it, `verify` runs
it. Novelty depends on what was kept before, so it is asked in the run's order (`settle`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from code_alpaca.curation.contamination import Contamination
from code_alpaca.curation.filters import FILTERS
from code_alpaca.curation.novelty import Novelty
from code_alpaca.curation.verify import reason as verification_reason
from code_alpaca.curation.verify import verify
from code_alpaca.ledger import Decision
from code_alpaca.sandbox import Pool
from code_alpaca.schema import Example


class Curator:
    """The rules of one run.

    Args:
        filters: names out of `FILTERS`, applied in the order of that table.
        decontaminate: benchmarks by name or file.
        verify: where Python answers run with their tests; None: nowhere. Closed with `close`.
        threshold: ROUGE-L F1 above which an instruction is too like a kept one.
    """

    def __init__(
        self,
        *,
        filters: Iterable[str],
        decontaminate: list[str],
        verify: Pool | None,
        threshold: float,
    ) -> None:
        wanted = set(filters)
        self._filters = [check for name, check in FILTERS.items() if name in wanted]
        self._contamination = Contamination(decontaminate)
        self._verify = verify
        self._novelty = Novelty(threshold)

    @property
    def runners(self) -> int:
        """How many answers can be verified at once."""
        return self._verify.size if self._verify else 1

    def close(self) -> None:
        if self._verify:
            self._verify.close()

    def keep(self, row_id: str, instruction: str) -> None:
        """Let a seed task or an already accepted row into the pool, unconditionally."""
        self._novelty.add(row_id, instruction)

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
        nearest_id, score = self._novelty.nearest(decision.example.instruction)
        example = replace(decision.example, nearest_id=nearest_id, nearest_score=score)
        if self._novelty.too_similar(score):
            return Decision(example, "too_similar")
        self.keep(example.id, example.instruction)
        return Decision(example, "")
