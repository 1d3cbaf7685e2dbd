"""The curator of a run, for which no single row is fatal.

Rows come from teachers and strangers' files: an exception that a row causes in a check becomes
the verdict on that row (`internal_error`, with the place in the code as evidence).
"""

from __future__ import annotations

import threading
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from code_alpaca.core.errors import InputError, Stopped, is_disk_full, one_line
from code_alpaca.core.ledger import Decision
from code_alpaca.core.row_checks import fault_of, storable
from code_alpaca.core.schema import Example
from code_alpaca.curation.pipeline import Curator

INTERNAL_ERROR = "internal_error"


class GuardedCurator(Curator):
    """A `Curator` whose checks never raise for a row.

    What concerns the machine and not the row (a full disk, a sandbox that cannot start) still
    ends the run, which can then be resumed.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.failures: Counter[str] = Counter()  # rows by what went wrong
        self._counting = threading.Lock()  # `verify` runs in threads

    def check_row(self, example: Example) -> Decision:
        fault = fault_of(example)
        if fault is None:
            return self._guarded(super().check_row, example, Decision(example, ""))
        shown = storable(example)
        if fault[0] != "not_text":
            return Decision(shown, *fault)
        # Filters can read it, and may find more to say.
        decision = self._guarded(super().check_row, example, Decision(example, ""))
        return replace(decision, example=shown) if decision.reason else Decision(shown, *fault)

    def needs_sandbox(self, decision: Decision) -> bool:
        try:
            return super().needs_sandbox(decision)
        except Exception:
            return False  # `verify` meets the same error and rejects the row

    def verify(self, decision: Decision) -> Decision:
        return self._guarded(super().verify, decision, decision)

    def check_pool(self, decision: Decision) -> Decision:
        return self._guarded(super().check_pool, decision, decision)

    def _guarded(
        self, check: Callable[[Any], Decision], subject: Any, before: Decision
    ) -> Decision:
        try:
            decision = check(subject)
        except (InputError, Stopped):
            raise
        except Exception as error:
            if is_disk_full(error):
                raise
            evidence = f"{check.__name__}: {describe_failure(error)}"
            decision = Decision(before.example, INTERNAL_ERROR, evidence)
        if decision.reason == INTERNAL_ERROR != before.reason:
            with self._counting:
                self.failures[decision.evidence] += 1
        return decision


def describe_failure(error: Exception) -> str:
    """An error with the last place in the code, on one line."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {one_line(error)}{where}"
