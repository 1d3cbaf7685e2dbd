"""Tests of a row count as verification only if they detect faulty copies of its program."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from code_alpaca.core.schema import Example
from code_alpaca.curation.verification import Verifier

CLAMP = """\
def clamp(x, low, high):
    if x < low:
        return low
    if x > high:
        return high
    return x
"""
STRONG = """\
assert clamp(5, 0, 9) == 5
assert clamp(-5, 0, 9) == 0
assert clamp(50, 0, 9) == 9
"""
VACUOUS = {
    "nothing": "pass",
    "true": "assert True",
    "assignment": "x = 1",
    "callable": "assert callable(clamp)",
    "same name": "assert clamp == clamp",
    "printed": "print(clamp(5, 0, 9))",
    "caught": "try:\n    assert clamp(5, 0, 9) == 7\nexcept BaseException:\n    pass",
    "compared with itself": "assert clamp(5, 0, 9) == clamp(5, 0, 9)",
    "its own expected value": "expected = clamp(5, 0, 9)\nassert clamp(5, 0, 9) == expected",
    "other implementation": f"{CLAMP}\nassert clamp(5, 0, 9) == 5",
    "model that calls it": "model = lambda *a: clamp(*a)\nassert model(5, 0, 9) == clamp(5, 0, 9)",
    "never called": "def test_clamp():\n    assert clamp(5, 0, 9) == 7",
}


@pytest.fixture(scope="module")
def verifier(tmp_path_factory, pool):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        verifier = Verifier(pool, min_test_strength=0.4)
    yield verifier
    verifier.close()  # the pool starts new workers when it needs some


def row(output: str, tests: str, language: str = "python") -> Example:
    return Example("Do the task.", "", output, language=language, tests=tests)


@pytest.mark.parametrize("tests", VACUOUS.values(), ids=VACUOUS)
def test_tests_that_pass_on_a_stub_are_weak(verifier, tests):
    assert verifier.verify(row(CLAMP, tests)) == "passed"
    strength = verifier.measure_tests(row(CLAMP, tests))
    assert (strength.share, strength.detects_stubs) == (0.0, False)
    assert strength.is_weak(0.01)


ONE_VALUE = {
    "one case": "assert clamp(5, 0, 9) == 5",
    "types": "for x in (5, -5, 50):\n    assert isinstance(clamp(x, 0, 9), int)",
    "one expected value": "for x in (-5, -6, -7):\n    assert clamp(x, 0, 9) == 0",
}


@pytest.mark.parametrize("tests", ONE_VALUE.values(), ids=ONE_VALUE)
def test_tests_that_pass_on_a_function_with_one_value_are_weak(verifier, tests):
    strength = verifier.measure_tests(row(CLAMP, tests))
    assert (strength.share, strength.detects_stubs) == (0.0, False)


def test_more_cases_detect_more_mutants(verifier):
    lines = [*STRONG.splitlines(), "assert clamp(9, 0, 9) == 9"]
    shares = [
        verifier.measure_tests(row(CLAMP, "\n".join(lines[:count]))).share for count in (1, 2, 3)
    ]
    assert shares == sorted(set(shares)) and shares[0] == 0.0 and shares[2] > 0.7


@pytest.mark.parametrize(
    ("tests", "share"),
    [
        ("assert double(3) == 6\nassert double(4) == 8", 1.0),
        ("assert double(2) == 4\nassert double(3) > double(2)", 2 / 3),  # accepts 2 + x
        ("assert double(3) > double(2) > 0", 1 / 3),  # accepts 3 * x too
    ],
)
def test_the_share_counts_the_mutants_that_fail(verifier, tests, share):
    program = "def double(x):\n    return 2 * x"
    assert verifier.measure_tests(row(program, tests)).share == share


def test_the_program_is_taken_from_the_markdown_of_the_output(verifier):
    output = f"Here it is:\n```python\n{CLAMP}```\nUse it:\n```python\nclamp(1)\n```"
    assert verifier.measure_tests(row(output, STRONG)).share > 0.5


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        ("def f(n):\n    while n > 3:\n        n -= 1\n    return n",
         "assert f(9) == 3\nassert f(1) == 1"),
        ("import re\ndef f(end):\n    n = 14\n    return re.match('(a+)+$', 'a' * n + n * end)",
         "assert f('')\nassert not f('!')"),
        ("def f(n):\n    return 1 if n <= 0 else n * f(n - 1)",
         "assert f(5) == 120\nassert f(1) == 1"),
        ("import os\ndef f(n):\n    return n + 1\nif f(1) != 2:\n    os._exit(0)",
         "assert f(1) == 2\nassert f(2) == 3"),
    ],
    ids=["endless loop", "slow match", "endless recursion", "early exit"],
)  # fmt: skip
def test_a_mutant_that_does_not_end_normally_is_detected(verifier, program, tests):
    strength = verifier.measure_tests(row(program, tests))
    assert strength.detects_stubs and strength.share > 0.4


LEAVES_A_FILE = """\
import os
VERSION = 1
def add_run(step):
    is_first = not os.path.exists("runs")
    open("runs", "a").close()
    return step if is_first else -step
"""


def test_mutants_that_change_something_for_others_run_alone(verifier):
    tests = "assert add_run(7) == 7\nassert add_run(7) == -7"
    strength = verifier.measure_tests(row(LEAVES_A_FILE, tests))
    assert strength.detects_stubs and 0.5 < strength.share < 1


@pytest.mark.parametrize(
    ("program", "tests", "weak"),
    [
        ("total = sum([1, 2, 3])", "assert total == 6", False),
        ("total = sum([1, 2, 3])", "assert total", True),
        ("words = sorted(open.__name__)", "assert words[0] == 'e'", False),
        ("words = sorted(open.__name__)", "assert True", True),
        ("print('done')", "pass", True),
        ("import math", "assert math.pi > 3", True),
    ],
)
def test_a_script_without_functions_is_measured_by_its_values(verifier, program, tests, weak):
    assert verifier.measure_tests(row(program, tests)).is_weak(0.5) == weak


def test_tests_that_fail_on_the_program_show_nothing(verifier):
    strength = verifier.measure_tests(row(CLAMP, "assert clamp(5, 0, 9) == 7"))
    assert strength.share is None and strength.is_weak(0.01)


def test_tests_in_other_languages_and_missing_tests_are_not_measured(verifier):
    assert verifier.measure_tests(row(CLAMP, " ")) is None
    assert verifier.measure_tests(row("let x = 1;", "x === 1", "javascript")) is None


def test_tests_that_are_not_run_are_no_verification(verifier):
    query = row("SELECT 1;", "SELECT 2;", "sql")
    assert verifier.verify(query) == "passed"
    assert verifier.check_tests(query).verification == "no_tests"


class CountingPool:
    """Counts the processes that a pool of sandboxes runs."""

    def __init__(self, pool) -> None:
        self.backend, self.count, self._pool = pool.backend, 0, pool

    def run(self, job):
        self.count += 1
        return self._pool.run(job)

    def close(self) -> None:
        pass


def test_all_mutants_share_one_process_and_a_result_is_cached(tmp_path, monkeypatch, pool):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    counting_pool = CountingPool(pool)
    measured = set()
    for _ in range(2):
        verifier = Verifier(counting_pool)
        measured |= {verifier.measure_tests(row(CLAMP, STRONG)) for _ in range(2)}
        verifier.close()
    assert len(measured) == 1 and counting_pool.count == 1
    with contextlib.closing(sqlite3.connect(tmp_path / "code_alpaca/verdicts.sqlite")) as database:
        assert len(database.execute("SELECT * FROM verdicts").fetchall()) == 1
