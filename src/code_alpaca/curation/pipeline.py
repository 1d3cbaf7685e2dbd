"""Apply all curation rules to rows: filters, decontamination, verification, duplicates, novelty.

The first three depend on one row only and run as rows arrive: `check_row` reads it, `verify` runs
its code. The last two depend on the rows accepted before and run in row order: `check_pool`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from code_alpaca.core.ledger import Decision
from code_alpaca.core.schema import Example, SeedTask
from code_alpaca.curation.decontamination.detect import ContaminationDetector
from code_alpaca.curation.duplicates import DuplicateOutputs
from code_alpaca.curation.filters import DUPLICATE_OUTPUT, load_filters, resolve_names
from code_alpaca.curation.verification import Verifier, find_rejection_reason

if TYPE_CHECKING:
    from code_alpaca.curation.novelty.pool import NoveltyPool  # compiles on import


class Curator:
    """The rules of one run.

    Args:
        filters: names of filters (see `filters.load_filters`).
        contamination: the benchmarks that no row may leak.
        mark: keep contaminated rows, with the problems in their column `contamination`.
        verifier: runs outputs in sandboxes; None: no output is run. Closed with `close`.
        novelty: the pool of accepted rows.
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
        names = resolve_names(filters)
        self._filters = load_filters(names)
        self._duplicates = DuplicateOutputs() if DUPLICATE_OUTPUT in names else None
        self._contamination, self._mark = contamination, mark
        self._verifier, self._novelty = verifier, novelty

    @property
    def num_workers(self) -> int:
        """The number of rows that can be verified at once."""
        return self._verifier.pool.size if self._verifier else 1

    def close(self) -> None:
        """Stop the sandboxes."""
        if self._verifier:
            self._verifier.close()

    def add_to_pool(self, tasks: Iterable[SeedTask | Example]) -> None:
        """Add seed tasks or rows accepted earlier to the pool, without checks."""
        self._novelty.add(self._add_outputs(tasks))

    def check_row(self, example: Example) -> Decision:
        """Apply the filters and search for benchmark problems."""
        for row_filter in self._filters:
            if reason := row_filter.find_reason(example):
                return Decision(example, reason)
        matches = self._contamination.find_matches(example)
        if not matches:
            return Decision(example, "")
        example = replace(example, contamination=sorted({match.task_id for match in matches}))
        evidence = "; ".join(f"{m.task_id} by {m.method}: {m.evidence}" for m in matches)
        return Decision(example, "" if self._mark else "contaminated", evidence)

    def needs_sandbox(self, decision: Decision) -> bool:
        """Return whether `verify` may start a process for this row, and so belongs in a thread."""
        return bool(
            self._verifier and not decision.reason and self._verifier.has_program(decision.example)
        )

    def verify(self, decision: Decision) -> Decision:
        """Run the output of a row that is not rejected yet. Thread-safe."""
        if decision.reason:
            return decision
        example = decision.example
        verdict = self._verifier.verify(example) if self._verifier else "skipped"
        reason = find_rejection_reason(verdict, has_tests=bool(example.tests.strip()))
        return replace(decision, example=replace(example, verification=verdict), reason=reason)

    def check_pool(self, decision: Decision) -> Decision:
        """Compare a row that is not rejected yet with the pool, and add it if it is novel.

        Call it in row order.
        """
        example = decision.example
        if decision.reason:
            return decision
        if self._duplicates is not None and example in self._duplicates:
            return replace(decision, reason=DUPLICATE_OUTPUT)
        (verdict,) = self._novelty.check([example])
        example = replace(example, nearest_id=verdict.nearest_id, nearest_score=verdict.score)
        if not verdict.is_novel:
            return replace(decision, example=example, reason="too_similar")
        if self._duplicates is not None:
            self._duplicates.add(example)
        return replace(decision, example=example)

    def _add_outputs(self, tasks: Iterable[SeedTask | Example]) -> Iterator[SeedTask | Example]:
        for task in tasks:
            if self._duplicates is not None:
                self._duplicates.add(task)
            yield task
