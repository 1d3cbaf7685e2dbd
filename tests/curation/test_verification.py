"""Outputs run in a sandbox, and each verdict rejects a row or keeps it."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.needs import need, need_program

from code_alpaca import sandbox
from code_alpaca.core.schema import Example
from code_alpaca.curation.verification import Verifier, find_rejection_reason

ADD = "def add(a, b):\n    return a + b\n"
UNITTEST = """\
import unittest

class TestSum(unittest.TestCase):
    def test_sum(self):
        self.assertEqual(1 + 2, {sum})

if __name__ == "__main__":
    unittest.main()
"""
OWN_CLASS = """\
import doctest, inspect, pickle, tempfile, warnings
from dataclasses import dataclass
from typing import ClassVar

@dataclass
class Point:
    \'\'\'
    >>> Point().x
    1
    \'\'\'
    count: ClassVar[int] = 0
    x: int = 1

assert pickle.loads(pickle.dumps(Point(2))) == Point(2)
assert doctest.testmod().attempted == 1
assert inspect.getsource(Point).startswith("@dataclass")
with tempfile.TemporaryFile() as file:
    file.write(b"x")
warnings.warn("old")
"""


@pytest.fixture(scope="module")
def verifier(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        verifier = Verifier(sandbox.WorkerPool(sandbox.choose_backend().backend))
    yield verifier
    verifier.close()


def row(output: str, tests: str = "", input: str = "", language: str = "python") -> Example:
    return Example("Do the task.", input, output, language=language, tests=tests)


@pytest.mark.parametrize(
    ("example", "verdict"),
    [
        (row(ADD, "assert add(1, 2) == 3"), "passed"),
        (row(ADD, "assert add(1, 2) == 4"), "failed"),
        (row(ADD, "add(1)"), "error"),
        (row(ADD.replace("a + b", "a + c"), "assert add(1, 2) == 3"), "error"),
        (row(ADD), "no_tests"),
        (row(ADD + "add(1)"), "error"),
        (row("import sys\nprint(1)\nsys.exit(0)"), "no_tests"),
        (row("import sys\nprint(sys.argv[1])"), "env_missing"),
        (row("name = input()"), "env_missing"),
        (row("print(frame.mean())"), "env_missing"),
        (row("import no_such_module_xyz"), "env_missing"),
        (row("open('data.csv')"), "env_missing"),
        (row("print(sum(values))", input="values = [1, 2]"), "no_tests"),
        (row("print(sum(values))", input="the values 1 and 2"), "env_missing"),
        (row("You can use sum() to add them all up, of course."), "not_python"),
        (row("def add(a, b):"), "not_python"),
        (row("FROM python:3.11\nCMD [\"python\", \"/app/main.py\"]\n"), "not_python"),
        (row("services:\n  web:\n    image: python\n"), "not_python"),
        (row("SELECT name FROM users;", input="CREATE TABLE users (name);", language="sql"),
         "no_tests"),
        (row("SELECT name FROM users;", language="sql"), "env_missing"),
        (row("fn main() {}", language="rust"), "not_python"),
        (row(f"Here it is:\n```python\n{ADD}```\nThat's all.", "assert add(1, 2) == 3"), "passed"),
        (row(f"```python\n{ADD}```\n```python\nadd(1)\n```", "assert add(1, 2) == 3"), "passed"),
        (row(f"```python\n{ADD}```\n\nUse it:\n```python\nprint(add(1, 2))\n```"), "no_tests"),
        (row("```python\nprint(sum(values))\n```", input="```\nvalues = [1, 2]\n```"), "no_tests"),
        (row("```python\nprint(1 / 0)\n```"), "error"),
        (row("1. Loop over it.\n2. Add to the sum, as in s += x."), "not_python"),
        (row("def total(xs: List[int]):\n    return sum(xs)"), "error"),
        (row("class Case(unittest.TestCase):\n    pass"), "error"),
        (row("@app.route('/')\ndef home():\n    return 'hi'"), "env_missing"),
        (row("import sys, logging\nlogging.warning('w')\nsys.exit(1)"), "no_tests"),
        (row(UNITTEST.format(sum=3)), "no_tests"),
        (row(UNITTEST.format(sum=4)), "error"),
        (row(OWN_CLASS), "no_tests"),
    ],
)  # fmt: skip
def test_verdict_of_a_row(verifier, example, verdict):
    assert verifier.verify(example) == verdict
    assert verifier.verify(example) == verdict, "from the cache"


RAISES = "x = -1\nif x < 0:\n    raise ValueError('negative')\n"


@pytest.mark.parametrize(
    ("instruction", "output", "verdict"),
    [
        ("Raise a ValueError in Python if x is negative.", RAISES, "no_tests"),
        ("Modify the code to throw an exception where x is negative.", RAISES, "no_tests"),
        ("Write Python code that causes a KeyError.", "{}['key']", "no_tests"),
        ("Write an assertion that raises an error if x is negative.", "x = -1\nassert x > 0",
         "no_tests"),
        ("Raise a ValueError in Python if x is negative.", "x = 1 / 0", "error"),
        ("Fix the code that raises a KeyError.", "{}['key']", "error"),
        ("Print the square root of x in Python.", RAISES, "error"),
    ],
)  # fmt: skip
def test_a_script_may_raise_the_error_that_its_task_requests(
    verifier, instruction, output, verdict
):
    example = Example(instruction, "", output, language="python")
    assert verifier.verify(example) == verdict


def test_javascript_runs(verifier):
    need_program("node", "nodejs")
    runs = verifier.has_program(row("let x = 1;", language="javascript"))
    need(runs, "the sandbox contains only /usr, and node is elsewhere (apt install nodejs)")
    assert verifier.verify(row("console.log(1);", language="javascript")) == "no_tests"
    page = row("document.title = 'x';", language="javascript")
    assert verifier.verify(page) == "env_missing"


@pytest.mark.parametrize(
    ("verdict", "has_tests", "reason"),
    [
        ("passed", True, ""),
        ("no_tests", False, ""),
        ("env_missing", True, ""),
        ("timeout", False, ""),  # a server is right not to end
        ("timeout", True, "run_timeout"),
        ("failed", True, "run_failed"),
        ("error", False, "run_error"),
    ],
)
def test_only_a_clear_verdict_rejects_a_row(verdict, has_tests, reason):
    assert find_rejection_reason(verdict, has_tests=has_tests) == reason


class CountingPool:
    """Counts the programs that a pool of sandboxes runs."""

    def __init__(self, pool) -> None:
        self.size, self.backend, self.count = pool.size, pool.backend, 0
        self._pool = pool

    def run_program(self, program, limits):
        self.count += 1
        return self._pool.run_program(program, limits)

    def close(self) -> None:
        pass


def test_a_program_runs_once_in_all_runs(tmp_path, monkeypatch, pool):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    example = row(ADD, "assert add(1, 2) == 3")
    counting_pool = CountingPool(pool)
    for expected in (1, 1):
        verifier = Verifier(counting_pool)
        assert verifier.verify(example) == "passed"
        with ThreadPoolExecutor(2) as threads:
            assert set(threads.map(verifier.verify, [example] * 2)) == {"passed"}
        verifier.close()
        assert counting_pool.count == expected
    with sqlite3.connect(tmp_path / "code_alpaca/verdicts.sqlite") as db:
        assert db.execute("SELECT verdict FROM verdicts").fetchall() == [("passed",)]


def test_without_a_writable_home_only_the_cache_is_lost(tmp_path, monkeypatch, pool):
    (tmp_path / "code_alpaca").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    verifier = Verifier(CountingPool(pool))
    assert verifier.verify(row(ADD, "assert add(1, 2) == 3")) == "passed"
    verifier.close()
