"""Apply all curation rules to rows: filters, decontamination, verification, duplicates, novelty.

The first three depend on one row only and run as rows arrive: `check_row` reads it, `verify` runs
its code. The last two depend on the rows accepted before: `check_pool` runs in row order.

An exception that a row causes rejects that row as `internal_error`, with the place in the code as
evidence. Errors of the machine (a full disk, a sandbox that cannot start) and of a user's filter
end the run before the row is decided.
"""

from __future__ import annotations

import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from code_alpaca.core.errors import InputError, Stopped, error_message, is_disk_full
from code_alpaca.core.ledger import Decision
from code_alpaca.core.plugins import is_plugin
from code_alpaca.core.row_checks import make_storable, validate_row
from code_alpaca.core.schema import Example, SeedTask
from code_alpaca.curation.decontamination.detect import ContaminationDetector
from code_alpaca.curation.duplicates import DuplicateOutputs
from code_alpaca.curation.filters import DUPLICATE_OUTPUT, load_filters, resolve_names
from code_alpaca.curation.verification import Verifier, find_rejection_reason

if TYPE_CHECKING:
    from code_alpaca.curation.novelty.pool import NoveltyPool  # compiles on import

INTERNAL_ERROR = "internal_error"
TOO_SIMILAR = "too_similar"


class Curator:
    """The rules of one run.

    Args:
        filters: names of filters (see `filters.resolve_names`).
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
        self.failures: Counter[str] = Counter()  # rows by failure in code-alpaca
        self.users_reasons: dict[str, str] = {}  # reason -> the user's filter that gave it
        self._counter_lock = threading.Lock()  # `verify` runs in threads

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
        fault = validate_row(example)
        if fault and fault[0] != "not_text":
            return Decision(make_storable(example), *fault)
        decision = self._guard(self._check_row, Decision(example, ""))
        if not fault:
            return decision
        # Filters can read text that cannot be stored, and may have a more specific reason.
        if decision.reason:
            return replace(decision, example=make_storable(example))
        return Decision(make_storable(example), *fault)

    def needs_sandbox(self, decision: Decision) -> bool:
        """Return whether `verify` may start a process for this row, and so belongs in a thread."""
        if self._verifier is None or decision.reason:
            return False
        try:
            return self._verifier.has_program(decision.example)
        except Exception:
            return False  # `verify` raises the same error, which rejects the row

    def verify(self, decision: Decision) -> Decision:
        """Run the output of a row that is not rejected yet. Thread-safe."""
        return decision if decision.reason else self._guard(self._verify, decision)

    def check_pool(self, decision: Decision) -> Decision:
        """Compare a row with the pool, in row order, and add it if it is novel."""
        return decision if decision.reason else self._guard(self._check_pool, decision)

    def _guard(self, check: Callable[[Decision], Decision], decision: Decision) -> Decision:
        """Return the result of a check, which rejects the row if it raises."""
        try:
            return check(decision)
        except (InputError, Stopped):
            raise
        except Exception as error:
            if is_disk_full(error):
                raise
            evidence = f"{check.__name__.lstrip('_')}: {describe_failure(error)}"
        with self._counter_lock:
            self.failures[evidence] += 1
        return Decision(decision.example, INTERNAL_ERROR, evidence)

    def _check_row(self, decision: Decision) -> Decision:
        example = decision.example
        for row_filter in self._filters:
            if reason := row_filter.find_reason(example):
                if is_plugin(row_filter.name):
                    self.users_reasons[reason] = row_filter.name
                return Decision(example, reason, row_filter.find_evidence(example))
        matches = self._contamination.find_matches(example)
        if not matches:
            return decision
        example = replace(example, contamination=sorted({match.task_id for match in matches}))
        evidence = "; ".join(f"{m.task_id} by {m.method}: {m.evidence}" for m in matches)
        return Decision(example, "" if self._mark else "contaminated", evidence)

    def _verify(self, decision: Decision) -> Decision:
        example = decision.example
        verdict = self._verifier.verify(example) if self._verifier else "skipped"
        reason = find_rejection_reason(verdict, has_tests=bool(example.tests.strip()))
        example = replace(example, verification=verdict)
        if self._verifier and verdict == "passed":
            example = self._verifier.check_tests(example)
        return replace(decision, example=example, reason=reason)

    def _check_pool(self, decision: Decision) -> Decision:
        example = decision.example
        if self._duplicates is not None and (first := self._duplicates.find(example)) is not None:
            return replace(decision, reason=DUPLICATE_OUTPUT, evidence=f"the output of {first}")
        (verdict,) = self._novelty.check([example])
        example = replace(example, nearest_id=verdict.nearest_id, nearest_score=verdict.score)
        if not verdict.is_novel:
            return replace(decision, example=example, reason=TOO_SIMILAR)
        if self._duplicates is not None:
            self._duplicates.add(example)
        return replace(decision, example=example)

    def _add_outputs(self, tasks: Iterable[SeedTask | Example]) -> Iterator[SeedTask | Example]:
        for task in tasks:
            if self._duplicates is not None:
                self._duplicates.add(task)
            yield task


def describe_failure(error: Exception) -> str:
    """Return an error and the last place in the code, on one line."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error_message(error)}{place}"
