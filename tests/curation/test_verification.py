"""Answers are run, in a sandbox, and their verdicts say what can be said."""

from __future__ import annotations

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.needs import need, need_program

from code_alpaca import sandbox
from code_alpaca.core.schema import Example
from code_alpaca.curation.verification import Verifier, rejection_reason

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
        made = Verifier(sandbox.WorkerPool(sandbox.choose_backend().backend))
    yield made
    made.close()


def row(output: str, tests: str = "", input: str = "", language: str = "python") -> Example:
    return Example("Do what is wanted.", input, output, language=language, tests=tests)


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
def test_verdicts(verifier, example, verdict):
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
def test_a_script_may_raise_what_its_task_asks_for(verifier, instruction, output, verdict):
    example = Example(instruction, "", output, language="python")
    assert verifier.verify(example) == verdict


def test_javascript_runs_too(verifier):
    need_program("node", "nodejs")
    seen = verifier.has_program(row("let x = 1;", language="javascript"))
    need(seen, "the sandbox shows /usr alone, and this node is elsewhere (apt install nodejs)")
    assert verifier.verify(row("console.log(1);", language="javascript")) == "no_tests"
    page = row("document.title = 'x';", language="javascript")
    assert verifier.verify(page) == "env_missing"


def test_what_is_dropped_is_what_was_judged():
    assert rejection_reason("passed", tested=True) is None
    assert rejection_reason("no_tests", tested=False) is None
    assert rejection_reason("env_missing", tested=True) is None
    assert rejection_reason("timeout", tested=False) is None, (
        "a server never ends, and is right not to"
    )
    assert rejection_reason("timeout", tested=True) == "run_timeout"
    assert rejection_reason("failed", tested=True) == "run_failed"
    assert rejection_reason("error", tested=False) == "run_error"


def test_the_same_program_is_run_once_in_any_run(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    slow = row("import time\ntime.sleep(1.5)\n" + ADD, "assert add(1, 2) == 3")
    for most in (20.0, 0.7):
        made = Verifier(sandbox.WorkerPool(sandbox.choose_backend().backend))
        began = time.monotonic()
        with ThreadPoolExecutor(2) as threads:
            assert set(threads.map(made.verify, [slow] * 2)) == {"passed"}
        assert time.monotonic() - began < most
        made.close()
    with sqlite3.connect(tmp_path / "code_alpaca/verdicts.sqlite") as db:
        assert db.execute("SELECT verdict FROM verdicts").fetchall() == [("passed",)]


def test_a_home_that_cannot_be_written_costs_the_cache_alone(tmp_path, monkeypatch):
    (tmp_path / "code_alpaca").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = Verifier(sandbox.WorkerPool(sandbox.choose_backend().backend))
    assert made.verify(row(ADD, "assert add(1, 2) == 3")) == "passed"
    made.close()
