"""All of curation in its order: filters, contamination, verification, duplicates, novelty.

The first three look at one row alone, as rows arrive: `examine` reads it, `verify` runs it. The
last two depend on what was kept before, so they are asked in the run's order (`settle`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from code_alpaca.core.ledger import Decision
from code_alpaca.core.schema import Example, SeedTask
from code_alpaca.curation.decontamination.detect import ContaminationDetector
from code_alpaca.curation.duplicates import DuplicateOutputs
from code_alpaca.curation.filters import FILTERS
from code_alpaca.curation.verification import Verifier
from code_alpaca.curation.verification import rejection_reason as verification_reason

if TYPE_CHECKING:
    from code_alpaca.curation.novelty.pool import (
        NoveltyPool,  # compiles: only where rows are decided
    )


class Curator:
    """The rules of one run.

    Args:
        filters: names out of `filters.NAMES`, applied in the order of that table.
        contamination: the benchmarks that no row may give away.
        mark: keep rows that do, with the problems in their column `contamination`.
        verifier: where answers are run; None: nowhere. Closed with `close`.
        novelty: what was kept so far, and how new a task must be.
    """

    def __init__(
        self,
        *,
        filters: Iterable[str],
        contamination: ContaminationDetector,
        novelty: NoveltyPool,
        verifier: Verifier | None = None,
        mark: bool = False,
    ) -> None:
        wanted = set(filters)
        self._filters = [check for name, check in FILTERS.items() if name in wanted]
        self._duplicates = DuplicateOutputs() if "duplicate_output" in wanted else None
        self._contamination, self._mark = contamination, mark
        self._verifier, self._novelty = verifier, novelty

    @property
    def num_workers(self) -> int:
        """How many answers can be verified at once."""
        return self._verifier.pool.size if self._verifier else 1

    def close(self) -> None:
        if self._verifier:
            self._verifier.close()

    def add_to_pool(self, tasks: Iterable[SeedTask | Example]) -> None:
        """Let seed tasks or already accepted rows into the pool, unconditionally."""
        self._novelty.add(self._noted(tasks))

    def check_row(self, example: Example) -> Decision:
        """What can be said of a row by reading it alone."""
        for check in self._filters:
            if found := check(example):
                return Decision(example, found)
        hits = self._contamination.find_matches(example)
        if not hits:
            return Decision(example, "")
        example = replace(example, contamination=sorted({hit.task_id for hit in hits}))
        told = "; ".join(f"{hit.task_id} by {hit.method}: {hit.evidence}" for hit in hits)
        return Decision(example, "" if self._mark else "contaminated", told)

    def needs_sandbox(self, decision: Decision) -> bool:
        """Whether `verify` starts a process for it, and so is worth a thread."""
        return bool(
            self._verifier and not decision.reason and self._verifier.has_program(decision.example)
        )

    def verify(self, decision: Decision) -> Decision:
        """What running says of a row that reading did not drop. Safe in many threads."""
        if decision.reason:
            return decision
        example = decision.example
        verdict = self._verifier.verify(example) if self._verifier else "skipped"
        found = verification_reason(verdict, tested=bool(example.tests.strip()))
        return replace(decision, example=replace(example, verification=verdict), reason=found or "")

    def check_pool(self, decision: Decision) -> Decision:
        """The last word on a row that nothing spoke against, in the run's order."""
        example = decision.example
        if decision.reason:
            return decision
        if self._duplicates is not None and example in self._duplicates:
            return replace(decision, reason="duplicate_output")
        (verdict,) = self._novelty.check([example])
        example = replace(example, nearest_id=verdict.nearest_id, nearest_score=verdict.score)
        if not verdict.is_novel:
            return replace(decision, example=example, reason="too_similar")
        if self._duplicates is not None:
            self._duplicates.add(example)
        return replace(decision, example=example)

    def _noted(self, tasks: Iterable[SeedTask | Example]) -> Iterator[SeedTask | Example]:
        for task in tasks:
            if self._duplicates is not None:
                self._duplicates.add(task)
            yield task
