"""A program passes if plain Python says so and its values, judged in another process, agree."""

from __future__ import annotations

import dataclasses

import pytest

from code_alpaca.benchmarks import Problem
from code_alpaca.evaluation.grading import Grader
from code_alpaca.sandbox import Pool, choose


@pytest.fixture(scope="module")
def pool():
    with Pool(choose().backend, packages=True) as made:
        yield made


def problem(tests: str, reference: str = "    return x\n", prompt: str = "def f(x):\n") -> Problem:
    body = "".join(f"    {line}\n" for line in tests.splitlines())
    return Problem("Own/0", prompt, "f", reference, f"def check(candidate):\n{body}")


def grade(pool, asked: Problem, program: str):
    (found,) = Grader(pool, timeout=5).grade([asked], [program])
    return found


# Each returns values that are right; what is wrong shows only in one process.
WRONG_BUT_FOR_ITS_VALUES = {
    "rows that are one list": (
        "g = candidate(2)\ng[0][0] = 1\nassert g == [[1, 0], [0, 0]]",
        "def f(n): return [[0] * n] * n",
    ),
    "its argument instead of a copy": (
        "a = [1]\ncandidate(a).append(2)\nassert a == [1]",
        "def f(x): return x",
    ),
    "its argument inside of an answer": (
        "a = [1]\ncandidate(a)[0].append(2)\nassert a == [1]",
        "def f(x): return [x]",
    ),
    "a cached list": (
        "candidate(1).append(5)\nassert candidate(1) == [1]",
        "from functools import lru_cache\n@lru_cache\ndef f(x): return [x]",
    ),
    "a default that is shared": (
        "candidate().append(5)\nassert candidate() == []",
        "def f(x=[]): return x",
    ),
    "a keyword argument changed": (
        "a = [2, 1]\nassert candidate(x=a) == [1, 2]\nassert a == [2, 1]",
        "def f(x):\n    x.sort()\n    return x",
    ),
    "a list in a dict changed": (
        "a = [2, 1]\ncandidate({'k': a})\nassert a == [2, 1]",
        "def f(x): x['k'].sort()",
    ),
    "a list in a tuple changed": (
        "a = [2, 1]\ncandidate((a,))\nassert a == [2, 1]",
        "def f(x): x[0].sort()",
    ),
    "a deque changed": (
        "from collections import deque\nd = deque([1])\ncandidate(d)\nassert d == deque([1])",
        "def f(x): x.append(2)",
    ),
    "a subclass where an exact type is asked": (
        "assert type(candidate(1)) is list",
        "class L(list): pass\ndef f(x): return L([x])",
    ),
    "a subclass of an exception": (
        "try:\n    candidate(1)\nexcept ValueError as e:\n    assert type(e) is ValueError",
        "class E(ValueError): pass\ndef f(x): raise E",
    ),
    "an annotation without its import": (
        "assert candidate([1]) == [1]",
        "def f(x: List[int]) -> List[int]: return x",
    ),
    "a list kept and changed later": (
        "a = candidate(1)\ncandidate(2)\nassert a == [1]",
        "kept = []\ndef f(x):\n    kept[:] = [x]\n    return kept",
    ),
}


@pytest.mark.parametrize("name", WRONG_BUT_FOR_ITS_VALUES)
def test_what_values_do_not_show_is_seen(pool, name):
    tests, program = WRONG_BUT_FOR_ITS_VALUES[name]
    assert grade(pool, problem(tests), program).status == "failed"


# The reference returns something plain, and each of these something else that is as right.
RIGHT_IN_ITS_OWN_WAY = {
    "a NumPy number": ("assert candidate(2) == 4", "import numpy\ndef f(x): return numpy.int64(4)"),
    "a NumPy truth": ("assert candidate(2)", "import numpy\ndef f(x): return numpy.bool_(True)"),
    "an array": (
        "assert list(candidate(2)) == [4]",
        "from array import array\ndef f(x): return array('i', [4])",
    ),
    "a match": ("assert candidate('a1')", "import re\ndef f(x): return re.search('1', x)"),
    "an iterable of its own": (
        "assert tuple(candidate(2)) == (4,)",
        "class C:\n    def __iter__(self): return iter([4])\ndef f(x): return C()",
    ),
    "a dataclass inside": (
        "assert candidate(2) == 4",
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n"
        "def f(x): return P(4).x",
    ),
    "a pickle of its own class": (
        "assert candidate(2) == 4",
        "import pickle\nclass A: x = 4\ndef f(x): return pickle.loads(pickle.dumps(A())).x",
    ),
    "a temporary file": (
        "assert candidate(2) == 4",
        "import tempfile\ndef f(x):\n    with tempfile.TemporaryFile('w+') as file:\n"
        "        file.write('4')\n        file.seek(0)\n        return int(file.read())",
    ),
}


@pytest.mark.parametrize("name", RIGHT_IN_ITS_OWN_WAY)
def test_a_right_program_passes_whatever_it_is_made_of(pool, name):
    tests, program = RIGHT_IN_ITS_OWN_WAY[name]
    reference = "    return [4]\n" if "list(" in tests or "tuple(" in tests else "    return 4\n"
    found = grade(pool, problem(tests, reference), program)
    assert found.status == "passed", found


def test_a_verdict_that_rests_on_one_process_is_marked(pool):
    asked = problem("class Box: value = 3\nassert candidate(Box()) == 3", "    return x.value\n")
    assert grade(pool, asked, "def f(x): return x.value").shared
    plain = problem("assert candidate(3) == 3")
    assert not grade(pool, plain, "def f(x): return x").shared


def test_a_program_that_passes_what_a_right_one_must_fail_is_forged(pool):
    asked = problem("class Box: value = 3\nassert candidate(Box()) == 3", "    return x.value\n")
    equal = "class E:\n    def __eq__(self, other): return True\ndef f(x): return E()"
    found = grade(pool, asked, equal)
    assert found.status == "failed" and "forged" in found.detail


def test_without_a_reference_programs_are_judged_all_the_same(pool):
    asked = dataclasses.replace(problem("assert candidate(3) == 3"), canonical_solution="")
    assert grade(pool, asked, "def f(x): return x").status == "passed"
    assert grade(pool, asked, "def f(x): return 4").status == "failed"


def test_a_problem_whose_reference_fails_is_reported(pool):
    right, broken = problem("assert candidate(3) == 3"), problem("assert candidate(3) == 4")
    broken = dataclasses.replace(broken, task_id="Own/1")
    grader = Grader(pool, timeout=5)
    problems = [right, broken, right]
    grades = grader.grade(
        problems, ["def f(x): return 1", "def f(x): return x", "def f(x): return x"]
    )
    assert [g.status for g in grades] == ["failed", "failed", "passed"]
    assert grader.failing_references(problems, grades) == {"Own/1": "AssertionError"}


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("def f(x):\n    while True: pass", "timeout"),
        ("def f(x): return ' ' * (8 << 30)", "out_of_memory"),
        ("def f(x):\n    import os\n    os._exit(0)", "exited"),
        ("def f(x):\n    while True: print('x' * 10000)", "output_limit"),
        ("def f(x): \0", "failed"),
        ("def f(x): return '\ud800'", "failed"),
        ("def f(x): return " + "(" * 500 + "1" + ")" * 500, "failed"),
    ],
)
def test_a_failing_program_says_how(pool, program, status):
    (found,) = Grader(pool, timeout=1).grade([problem("assert candidate(3) == 3")], [program])
    assert found.status == status, found
