"""From a model's answer to a verdict: extract the program, run it with the problem's tests."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from code_alpaca import sandbox
from code_alpaca.benchmarks import Problem

FENCED = re.compile(r"```[\w+#-]*[ \t]*\n(.*?)(?:\n```|\Z)", re.DOTALL)


def extract_program(problem: Problem, answer: str) -> str:
    """The program in an answer: the fenced block that defines the function, else all of it.

    An answer without the function's definition is taken as the continuation of the prompt.
    """
    blocks = FENCED.findall(answer)
    defines = re.compile(rf"^\s*def\s+{re.escape(problem.entry_point)}\b", re.MULTILINE)
    for text in [*blocks, answer]:
        if defines.search(text):
            return text
    return problem.prompt + (blocks[0] if blocks else answer)


def grade(
    problems: Sequence[Problem],
    programs: Sequence[str],
    *,
    timeout: float,
    done: Callable[[int], None] = lambda _: None,
) -> list[str]:
    """The status of each program against its problem's tests, all cores busy.

    Args:
        problems, programs: aligned, (n,) each.
        done: called with the number graded so far.
    """
    statuses = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for status in pool.map(
            lambda pair: _grade_one(*pair, timeout), zip(problems, programs, strict=True)
        ):
            statuses.append(status)
            done(len(statuses))
    return statuses


def _grade_one(problem: Problem, program: str, timeout: float) -> str:
    if problem.language != "python":
        return "unsupported"
    text = f"{program}\n\n{problem.test}\n\ncheck({problem.entry_point})\n"
    return sandbox.run(text, timeout=timeout, memory_mb=1024).status
