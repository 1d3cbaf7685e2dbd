"""Verdicts: programs against their problems' tests, in sandboxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from code_alpaca.benchmarks import Problem
from code_alpaca.sandbox import Limits, Pool, Result, interpreters

MEMORY_MB = 1024


@dataclass(frozen=True, slots=True)
class Grade:
    """The verdict on one program: a status of the contract, the end of what it said, and how.

    `shared` is True where the tests had to run in the program's own process.
    """

    status: str
    detail: str = ""
    shared: bool = False


class Grader:
    """Judges programs against their problems' tests, in sandboxes of their own.

    The tests run in one sandbox and the program in another; plain values go between them, so
    that nothing a program does to its own process can touch its verdict. A problem whose tests
    need more than plain values of its own reference solution (an object of a class that the
    solution defines) is graded in one process, and says so.
    """

    def __init__(self, pool: Pool, *, timeout: float) -> None:
        self._pool = pool
        self._limits = Limits(wall_s=timeout, memory_mb=MEMORY_MB)
        self._shares: dict[str, bool] = {}

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

    def _grade(self, problem: Problem, program: str) -> Grade:
        if problem.language in interpreters.LANGUAGES:
            text = f"{program}\n{problem.test}"
            result = interpreters.run(self._pool, problem.language, text, self._limits.wall_s)
            return Grade(result.status, result.stderr, shared=True)
        if problem.language != "python":
            return Grade("unsupported")
        result = self._apart(problem, program)
        if result.status != "unplain":
            return Grade(result.status, result.stderr)
        if not self._needs_one_process(problem):
            return Grade("failed", f"the answer is no plain value: {result.stderr}")
        result = self._together(problem, program)
        return Grade(result.status, result.stderr, shared=True)

    def _apart(self, problem: Problem, program: str) -> Result:
        return self._pool.run(
            lambda worker: worker.test(
                program,
                entry_point=problem.entry_point,
                prompt=problem.prompt,
                test=problem.test,
                limits=self._limits,
            )
        )

    def _together(self, problem: Problem, program: str) -> Result:
        source = f"{program}\n\n{problem.test}\n\ncheck({problem.entry_point})\n"
        return self._pool.run_program(source, self._limits)

    def _needs_one_process(self, problem: Problem) -> bool:
        """Whether the reference solution, too, can only be tested in the tests' own process."""
        if problem.task_id not in self._shares:
            reference = problem.prompt + problem.canonical_solution
            self._shares[problem.task_id] = (
                self._apart(problem, reference).status == "unplain"
                and self._together(problem, reference).status == "passed"
            )
        return self._shares[problem.task_id]
