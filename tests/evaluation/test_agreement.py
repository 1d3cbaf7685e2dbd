"""Verdicts equal those of plain Python, for unusual tests and for correct and wrong programs.

`unusual_problems.txt` contains problems whose tests check more than a returned value: identity,
classes, state, streams. Each is `#= name`, the reference solution, `#-`, and the body of
`check(candidate)`.
"""

from __future__ import annotations

import ast
import copy
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from support.sandboxes import BACKENDS

from code_alpaca.evaluation.grading import Grader
from code_alpaca.problems import Problem
from code_alpaca.sandbox import WorkerPool

PLAIN = """\
import linecache, sys, types
source = sys.stdin.read()
module = sys.modules["solution"] = types.ModuleType("solution")
linecache.cache["s.py"] = (len(source), None, source.splitlines(True), "s.py")
exec(compile(source, "s.py", "exec"), vars(module))
"""


def problem(block: str) -> Problem:
    name, _, rest = block.partition("\n")
    solution, tests = rest.split("\n#-\n")
    signature = re.search(r"^def f\(.*\n", solution, re.MULTILINE)
    return Problem(
        task_id=name.strip(),
        prompt=solution[: signature.end()],
        entry_point="f",
        canonical_solution=solution[signature.end() :] + "\n",
        test=f"def check(candidate):\n{textwrap.indent(tests, '    ')}\n",
    )


# The only intended difference: tests use the prompt's own names, so a program that redefines them
# to make wrong answers look right fails.
REDEFINING = ("an enum member", "a helper of the prompt", "a constant of the prompt")
BLOCKS = Path(__file__).with_name("unusual_problems.txt").read_text("utf-8").split("#= ")[1:]
PROBLEMS = [problem(block) for block in BLOCKS]


def test_there_are_200_distinct_problems():
    assert len({problem.task_id for problem in PROBLEMS}) == len(PROBLEMS) >= 200
    assert len({problem.prompt + problem.test for problem in PROBLEMS}) == len(PROBLEMS)


def test_every_reference_passes():
    with WorkerPool(BACKENDS[0], packages=True) as pool:
        grader = Grader(pool, timeout=20)
        grades = grader.grade(PROBLEMS, [p.prompt + p.canonical_solution for p in PROBLEMS])
    assert {
        p.task_id: g for p, g in zip(PROBLEMS, grades, strict=True) if g.status != "passed"
    } == {}


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_wrong_programs_fail_as_in_plain_python(backend, tmp_path):
    pairs = [(problem, program) for problem in PROBLEMS for program in mutants(problem)]
    problems, programs = zip(*pairs, strict=True)
    with WorkerPool(backend, packages=True) as pool:
        grades = Grader(pool, timeout=10).grade(problems, programs)
    differ = {}
    for problem, program, grade in zip(problems, programs, grades, strict=True):
        plain = in_plain_python(program, problem.test, tmp_path)
        if plain != (grade.status == "passed"):
            differ[problem.task_id] = (program, plain, grade)
    assert len(pairs) > 400
    assert set(differ) <= set(REDEFINING), differ


def in_plain_python(program: str, test: str, folder) -> bool:
    source = f"{program}\n{test}\ncheck(f)\n"
    try:
        done = subprocess.run(
            [sys.executable, "-c", PLAIN], input=source, text=True, capture_output=True,
            cwd=folder, timeout=30,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def mutants(problem, max_mutants: int = 3) -> list[str]:
    """Return the reference with one return value, constant, operator or statement changed."""
    tree = ast.parse(problem.prompt + problem.canonical_solution)
    in_strings = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in ast.walk(node)
    }
    places = [n for n in ast.walk(tree) if type(n) in CHANGES and id(n) not in in_strings]
    step = max(1, len(places) // max_mutants)
    mutated = []
    for place in places[::step][:max_mutants]:
        memo: dict = {}
        changed = copy.deepcopy(tree, memo)
        CHANGES[type(place)](memo[id(place)])
        mutated.append(ast.unparse(ast.fix_missing_locations(changed)))
    return mutated


def change_return(node: ast.Return) -> None:
    node.value = ast.Constant(None) if node.value is not None else ast.Constant(1)


def change_constant(node: ast.Constant) -> None:
    node.value = node.value + 1 if isinstance(node.value, int) else None


def remove_statement(node: ast.Expr) -> None:
    node.value = ast.Constant(...)


def change_operator(node: ast.BinOp) -> None:
    node.op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()


CHANGES = {
    ast.Return: change_return,
    ast.Constant: change_constant,
    ast.Expr: remove_statement,
    ast.BinOp: change_operator,
}
