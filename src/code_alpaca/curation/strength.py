"""Measure the strength of a row's tests: which faults in the row's program they detect.

Tests detect a faulty copy of the program if they fail on it. They must detect two stubs, whose
functions return None or always the same value, and should detect the mutants, which have one small
change each (see `sandbox.inside.mutants`). Tests such as `assert True`, those that compare the
program with itself, and those that check a single case accept a stub. Mutants measure what is
checked of the code that is there (Just et al. 2014, https://doi.org/10.1145/2635868.2635929): a
case that both program and tests forget is not found.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from code_alpaca.sandbox import MutationTest, ResourceLimits, RunResult, Worker, WorkerPool

RESULTS_VERSION = 1  # cached results of another version are ignored
MAX_MUTANTS = 12  # of one program
# More are never needed, but untrusted code reports which copies remain.
MAX_PROCESSES = 4 * MAX_MUTANTS
STUBS = (0, 1)  # the numbers of the stubs among the copies


class Strength(NamedTuple):
    """What tests detected."""

    share: float | None  # of the mutants; 0.0 if they accept a stub, None if there is no mutant
    detects_stubs: bool | None  # None if each stub is the program
    is_certain: bool = True  # False if a time limit decided, which depends on the machine

    def is_weak(self, minimum: float) -> bool:
        """Return whether the tests were not shown to detect wrong code."""
        if self.share is None:
            return not self.detects_stubs
        return self.share < minimum or self.detects_stubs is False


def measure_strength(
    pool: WorkerPool, program: str, tests: str, limits: ResourceLimits
) -> Strength | None:
    """Run tests on the faulty copies of a program; return None if the program itself fails them.

    The copies share a process, unless that changes what they do.
    """
    test = MutationTest(program, tests, MAX_MUTANTS)
    outcome = _run_copies(pool, test, limits)
    if outcome is not None and not outcome.is_stable:
        outcome = _run_copies(pool, replace(test, alone=True), limits)
    return outcome.summarize() if outcome is not None else None


@dataclass
class _Outcome:
    """What is known so far about the copies of one program."""

    detected: dict[int, bool | None] = field(default_factory=dict)  # None: there is no such copy
    is_done: bool = False
    is_stable: bool = False
    is_certain: bool = True

    @property
    def num_mutants(self) -> int:
        return len(self._results(stubs=False))

    def add(self, lines: list[dict[str, Any]], result: RunResult, first: int) -> int:
        """Add what a process reported that began with copy `first`; return the next to run.

        A copy that ended its process is run again in a fresh one, in case an earlier copy was the
        cause. Otherwise the tests have detected it.
        """
        copies: dict[int, bool | None] = {}
        for line in lines:  # untrusted code may have written them
            copy, found = line.get("copy"), line.get("detected")
            if isinstance(copy, int) and copy >= first:
                copies[copy] = found if isinstance(found, bool) else None
        self.detected.update(copies)
        self.is_done = any("done" in line for line in lines)
        self.is_stable = any(line.get("stable") is True for line in lines)
        following = max(copies, default=first - 1) + 1
        if self.is_done or any(found is not None for found in copies.values()):
            return following
        self.detected[following] = True
        self.is_certain = self.is_certain and result.status != "timeout"
        return following + 1

    def summarize(self) -> Strength:
        stubs, mutants = self._results(stubs=True), self._results(stubs=False)
        detects_stubs = all(stubs) if stubs else None
        if detects_stubs is False:
            return Strength(0.0, False, self.is_certain)
        share = sum(mutants) / len(mutants) if mutants else None
        return Strength(share, detects_stubs, self.is_certain)

    def _results(self, *, stubs: bool) -> list[bool]:
        """Return for each stub, or each mutant, whether it was detected."""
        copies = self.detected.items()
        return [found for copy, found in copies if found is not None and (copy in STUBS) == stubs]


def _run_copies(pool: WorkerPool, test: MutationTest, limits: ResourceLimits) -> _Outcome | None:
    outcome = _Outcome()
    for _ in range(MAX_PROCESSES):
        lines, result = _run_process(pool, test, limits)
        if not test.alone and not any(line.get("passed") is True for line in lines):
            return None
        first = outcome.add(lines, result, test.first)
        if outcome.is_done:
            return outcome
        test = replace(test, first=first, max_mutants=MAX_MUTANTS - outcome.num_mutants)
    return None


def _run_process(
    pool: WorkerPool, test: MutationTest, limits: ResourceLimits
) -> tuple[list[dict[str, Any]], RunResult]:
    lines: list[dict[str, Any]] = []

    def run(worker: Worker) -> RunResult:
        lines.clear()  # of a process whose sandbox failed
        return worker.test_mutants(test, limits, lines.append)

    result = pool.run(run)
    return lines, result
