"""A reward function for reinforcement learning with TRL: do an answer's tests pass?

    trl grpo --dataset_name runs/code-alpaca/dataset --dataset_config rl \\
        --reward_funcs code_alpaca.rewards.tests_passed ...

TRL calls a reward function with the completions of a batch and the columns of their rows
(https://huggingface.co/docs/trl/grpo_trainer#using-a-custom-reward-function).
"""

from __future__ import annotations

import ast
import atexit
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from code_alpaca import sandbox
from code_alpaca.core.conversations import parse_turns
from code_alpaca.core.reasoning import strip_reasoning
from code_alpaca.curation.language_detection import extract_programs, is_valid_python
from code_alpaca.evaluation.grading import Grader
from code_alpaca.evaluation.slicing import undefined_names
from code_alpaca.problems import Problem
from code_alpaca.problems.formats import wrap_assertions

TIMEOUT_S = 10.0  # for one program
Completion = str | Sequence[dict[str, Any]]  # a text, or the messages of a conversation


def tests_passed(
    completions: Sequence[Completion],
    tests: Sequence[str],
    solution: Sequence[str] | None = None,
    **columns: Any,
) -> list[float | None]:
    """Return 1.0 for each completion whose program passes the tests of its row, 0.0 for others.

    Completions are graded as in `code-alpaca eval`, in sandboxes and by two judges, so that a
    program that cheats the tests earns nothing. All cores are used; of several processes on one
    machine, each uses its share.

    Args:
        completions: what the model wrote; the program is extracted from text around it.
        tests: assert statements, the column `tests` of the dataset config `rl`.
        solution: answers known to pass them, the column `solution`. Where tests use objects that
            are changed when they are sent between two sandboxes, such as a list with methods of its
            own, it shows that the second judge cannot be trusted; without it, right programs earn
            nothing there.
        columns: other columns and values that TRL passes; not used.

    Returns:
        One reward per completion; None, which TRL leaves out, for tests that call nothing.

    Raises:
        InputError: no sandbox works on this machine.
    """
    answers = solution or [""] * len(tests)
    problems = [_make_problem(*pair) for pair in zip(tests, answers, strict=True)]
    judged = [place for place, problem in enumerate(problems) if problem]
    programs = [
        _find_program(_read_text(completion))
        for problem, completion in zip(problems, completions, strict=True)
        if problem
    ]
    grades = _grader().grade(list(filter(None, problems)), programs)
    rewards: list[float | None] = [None] * len(problems)
    for place, grade in zip(judged, grades, strict=True):
        rewards[place] = float(grade.status == "passed")
    return rewards


@cache
def _grader() -> Grader:
    """Return the grader of this process: its sandboxes stay open between batches."""
    cores = len(os.sched_getaffinity(0))
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # set by accelerate and torchrun
    backend = sandbox.choose_backend().backend
    pool = sandbox.WorkerPool(backend, size=max(1, cores // processes), packages=True)
    atexit.register(pool.close)
    return Grader(pool, timeout=TIMEOUT_S)


def _make_problem(tests: str, answer: str) -> Problem | None:
    """Return a problem with these tests; None if they do not parse, or test nothing."""
    try:
        tree = ast.parse(tests or "")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if (entry_point := _find_entry_point(tree)) is None:
        return None
    problem = Problem("rl", "", entry_point, "", wrap_assertions(entry_point, tree.body))
    return replace(problem, canonical_solution=answer and _find_program(answer))


def _find_program(text: str) -> str:
    """Return the program in a text, as verification finds it in an output: with all functions."""
    text = strip_reasoning(text)
    programs = extract_programs(text, "python") or [text]
    return next(filter(is_valid_python, programs), programs[0])


def _find_entry_point(tree: ast.Module) -> str | None:
    """Return the first name that the tests use and do not define: called ones come first."""
    undefined = undefined_names(tree)
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in undefined]
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names.sort(key=lambda node: (id(node) not in called, node.lineno, node.col_offset))
    return names[0].id if names else None


def _read_text(completion: Completion) -> str:
    """Return what the assistant wrote, also if it is given as messages."""
    if isinstance(completion, str):
        return completion
    turns = parse_turns(list(completion)) or []
    return "".join(turn.content for turn in turns if isinstance(turn.content, str))
