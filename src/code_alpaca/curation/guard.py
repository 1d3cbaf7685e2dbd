"""Keep one bad row from ending a run.

Rows come from teachers and from files of unknown origin. An exception that a row causes in a check
rejects that row as `internal_error`, with the place in the code as evidence.
"""

from __future__ import annotations

import threading
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from code_alpaca.core.errors import InputError, Stopped, error_message, is_disk_full
from code_alpaca.core.ledger import Decision
from code_alpaca.core.row_checks import make_storable, validate_row
from code_alpaca.core.schema import Example
from code_alpaca.curation.filters import FilterError
from code_alpaca.curation.pipeline import Curator

INTERNAL_ERROR = "internal_error"


class GuardedCurator(Curator):
    """A `Curator` whose checks never raise for a row.

    Errors of the machine (a full disk, a sandbox that cannot start) still end the run, which can
    be resumed.

    Attributes:
        failures: number of rows by failure in code-alpaca.
        filter_failures: number of rows by failure in a user's filter.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.failures: Counter[str] = Counter()
        self.filter_failures: Counter[str] = Counter()
        self._counter_lock = threading.Lock()  # `verify` runs in threads

    def check_row(self, example: Example) -> Decision:
        fault = validate_row(example)
        if fault is None:
            return self._guard(super().check_row, example, Decision(example, ""))
        stored = make_storable(example)
        if fault[0] != "not_text":
            return Decision(stored, *fault)
        # Filters can read the row and may reject it for a more specific reason.
        decision = self._guard(super().check_row, example, Decision(example, ""))
        return replace(decision, example=stored) if decision.reason else Decision(stored, *fault)

    def needs_sandbox(self, decision: Decision) -> bool:
        try:
            return super().needs_sandbox(decision)
        except Exception:
            return False  # `verify` raises the same error, which rejects the row

    def verify(self, decision: Decision) -> Decision:
        return self._guard(super().verify, decision, decision)

    def check_pool(self, decision: Decision) -> Decision:
        return self._guard(super().check_pool, decision, decision)

    def _guard(self, check: Callable[[Any], Decision], subject: Any, before: Decision) -> Decision:
        """Return the result of a check; if it raises, reject the row of `before`."""
        try:
            return check(subject)
        except (InputError, Stopped):
            raise
        except FilterError as error:
            failures, evidence = self.filter_failures, str(error)
        except Exception as error:
            if is_disk_full(error):
                raise
            failures, evidence = self.failures, f"{check.__name__}: {describe_failure(error)}"
        with self._counter_lock:
            failures[evidence] += 1
        return Decision(before.example, INTERNAL_ERROR, evidence)


def describe_failure(error: Exception) -> str:
    """Return an error and the last place in the code, on one line."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error_message(error)}{place}"
