"""A program passes if it passes in plain Python and, by its values, isolated from the tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import code_alpaca
from code_alpaca.evaluation.grading import Grader
from code_alpaca.problems import Problem


@pytest.fixture(scope="module")
def pool(package_pool):
    return package_pool


def make_problem(
    tests: str, reference: str = "    return x\n", prompt: str = "def f(x):\n", name: str = "Own/0"
) -> Problem:
    body = "".join(f"    {line}\n" for line in tests.splitlines())
    return Problem(name, prompt, "f", reference, f"def check(candidate):\n{body}")


def grade(pool, problem: Problem, program: str):
    (result,) = Grader(pool, timeout=5).grade([problem], [program])
    return result


# Each returns correct values; its mistake shows only in the tests' own process.
WRONG_DESPITE_CORRECT_VALUES = {
    "rows that are one list": (
        "g = candidate(2)\ng[0][0] = 1\nassert g == [[1, 0], [0, 0]]",
        "def f(n): return [[0] * n] * n"),
    "its argument instead of a copy": (
        "a = [1]\ncandidate(a).append(2)\nassert a == [1]",
        "def f(x): return x"),
    "its argument inside the result": (
        "a = [1]\ncandidate(a)[0].append(2)\nassert a == [1]",
        "def f(x): return [x]"),
    "a cached list": (
        "candidate(1).append(5)\nassert candidate(1) == [1]",
        "from functools import lru_cache\n@lru_cache\ndef f(x): return [x]"),
    "a mutable default": (
        "candidate().append(5)\nassert candidate() == []",
        "def f(x=[]): return x"),
    "a keyword argument changed": (
        "a = [2, 1]\nassert candidate(x=a) == [1, 2]\nassert a == [2, 1]",
        "def f(x):\n    x.sort()\n    return x"),
    "a list in a dict changed": (
        "a = [2, 1]\ncandidate({'k': a})\nassert a == [2, 1]",
        "def f(x): x['k'].sort()"),
    "a list in a tuple changed": (
        "a = [2, 1]\ncandidate((a,))\nassert a == [2, 1]",
        "def f(x): x[0].sort()"),
    "a deque changed": (
        "from collections import deque\nd = deque([1])\ncandidate(d)\nassert d == deque([1])",
        "def f(x): x.append(2)"),
    "a subclass where the exact type matters": (
        "assert type(candidate(1)) is list",
        "class L(list): pass\ndef f(x): return L([x])"),
    "a subclass of an exception": (
        "try:\n    candidate(1)\nexcept ValueError as e:\n    assert type(e) is ValueError",
        "class E(ValueError): pass\ndef f(x): raise E"),
    "an annotation without its import": (
        "assert candidate([1]) == [1]",
        "def f(x: List[int]) -> List[int]: return x"),
    "a list that later calls change": (
        "a = candidate(1)\ncandidate(2)\nassert a == [1]",
        "last = []\ndef f(x):\n    last[:] = [x]\n    return last"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_DESPITE_CORRECT_VALUES)
def test_mistakes_that_values_do_not_show_are_found(pool, name):
    tests, program = WRONG_DESPITE_CORRECT_VALUES[name]
    assert grade(pool, make_problem(tests), program).status == "failed"


# The reference returns plain values; each of these returns something else that is also correct.
CORRECT_WITH_OTHER_TYPES = {
    "a NumPy number": ("assert candidate(2) == 4", "import numpy\ndef f(x): return numpy.int64(4)"),
    "a NumPy truth": ("assert candidate(2)", "import numpy\ndef f(x): return numpy.bool_(True)"),
    "an array": (
        "assert list(candidate(2)) == [4]",
        "from array import array\ndef f(x): return array('i', [4])"),
    "a match": ("assert candidate('a1')", "import re\ndef f(x): return re.search('1', x)"),
    "a custom iterable": (
        "assert tuple(candidate(2)) == (4,)",
        "class C:\n    def __iter__(self): return iter([4])\ndef f(x): return C()"),
    "a dataclass inside": (
        "assert candidate(2) == 4",
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n"
        "def f(x): return P(4).x"),
    "a pickle of a custom class": (
        "assert candidate(2) == 4",
        "import pickle\nclass A: x = 4\ndef f(x): return pickle.loads(pickle.dumps(A())).x"),
    "a temporary file": (
        "assert candidate(2) == 4",
        "import tempfile\ndef f(x):\n    with tempfile.TemporaryFile('w+') as file:\n"
        "        file.write('4')\n        file.seek(0)\n        return int(file.read())"),
}  # fmt: skip


@pytest.mark.parametrize("name", CORRECT_WITH_OTHER_TYPES)
def test_a_correct_program_passes_with_other_types(pool, name):
    tests, program = CORRECT_WITH_OTHER_TYPES[name]
    reference = "    return [4]\n" if "list(" in tests or "tuple(" in tests else "    return 4\n"
    result = grade(pool, make_problem(tests, reference), program)
    assert result.status == "passed", result


# The isolated judge cannot send a Box.
BOX = make_problem("class Box: value = 3\nassert candidate(Box()) == 3", "    return x.value\n")


def test_a_verdict_that_rests_on_one_process_is_marked(pool):
    assert grade(pool, BOX, "def f(x): return x.value").in_process
    plain = make_problem("assert candidate(3) == 3")
    assert not grade(pool, plain, "def f(x): return x").in_process


def test_a_program_that_passes_a_negative_control_is_forged(pool):
    equal = "class E:\n    def __eq__(self, other): return True\ndef f(x): return E()"
    result = grade(pool, BOX, equal)
    assert (result.status, result.refused) == ("failed", "forged") and "forged" in result.detail


def test_programs_of_a_problem_without_reference_are_graded(pool):
    problem = make_problem("assert candidate(3) == 3", reference="")
    assert grade(pool, problem, "def f(x): return x").status == "passed"
    assert grade(pool, problem, "def f(x): return 4").status == "failed"


def test_a_problem_whose_reference_fails_is_reported(pool):
    intact = make_problem("assert candidate(3) == 3")
    broken = make_problem("assert candidate(3) == 4", name="Own/1")
    grader, problems = Grader(pool, timeout=5), [intact, broken, intact]
    grades = grader.grade(problems, [f"def f(x): return {result}" for result in "1xx"])
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
def test_the_status_of_a_failing_program(pool, program, status):
    problem = make_problem("assert candidate(3) == 3")
    timeout = 1 if status == "timeout" else 30
    (result,) = Grader(pool, timeout=timeout).grade([problem], [program])
    assert result.status == status, result


# Tests as benchmarks write them, for a function that doubles its argument.
TEST_STYLES = {
    "a literal": "assert candidate(2) == 4",
    "text": "assert candidate('ab') == 'abab'\nassert candidate('x') == 'xx'",
    "a computed value": "for n in range(5):\n    assert candidate(n) == n + n",
    "a call": "assert candidate([1]) == list([1, 1])",
    "all": "assert all(candidate(n) == 2 * n for n in range(5))",
    "an alternative": "assert candidate(2) == 2 + 2 or candidate(2) == 2 * 2",
    "an explicit raise": "if candidate(2) != 4:\n    raise AssertionError('wrong')",
    "a tolerance": "assert abs(candidate(1 / 3) - 2 / 3) < 1e-6",
    "membership": "assert candidate(2) in (4, 5)",
    "a helper": "def same(got, want):\n    return got == want\nassert same(candidate(2), 4)",
    "a variable": "results = [2, 4]\nfor n, want in zip([1, 2], results):\n"
    "    exact = candidate(n) == want\n    assert exact, results",
    "a table and a message": "for n, want in [(1, 2), (2, 4)]:\n    got = candidate(n)\n"
    "    assert got == want, f'{got} is not {want}'",
    "unittest": "import unittest\ncase = unittest.TestCase()\n"
    "case.assertEqual(candidate(2), 2 + 2)\ncase.assertTrue(candidate(1) == 2)\n"
    "case.assertAlmostEqual(candidate(0.5), 1.0)\ncase.assertLess(candidate(1), 3)",
}
EQUALS = """
class Equal:
    def __eq__(self, other): return {when}
    def __ne__(self, other): return not self == other
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __lt__
    def __sub__(self, other): return self
    def __abs__(self): return self
    def __round__(self, digits=0): return 0
    def __bool__(self): return True
    def __hash__(self): return 1
def f(x): return Equal()
"""
READS_ITS_TESTS = (
    "import ast, linecache\n"
    "test = ''.join(linecache.getlines('solution.py')).partition('def ' + 'check')[2]\n"
    "test = 'def check' + test.rpartition('check(')[0].strip()\n"
)


@pytest.mark.parametrize(
    "cheat",
    [
        EQUALS.format(when="True"),
        EQUALS.format(when="not (isinstance(other, str) and other.endswith('a'))"),
        READS_ITS_TESTS + EQUALS.format(when="ast.unparse(ast.parse(test)) != test"),
        READS_ITS_TESTS + EQUALS.format(when="'# by hand' in test"),
    ],
    ids=["equal to all", "except the letter a", "detects formatting", "detects a comment"],
)
def test_an_object_that_equals_everything_fails_every_style_of_tests(pool, cheat):
    problems = [
        make_problem(f"# by hand\n{tests}", "    return x + x\n", name=name)
        for name, tests in TEST_STYLES.items()
    ]
    programs = ["def f(x): return 2 * x", cheat]
    grader = Grader(pool, timeout=5)
    correct, forged = (grader.grade(problems, [text] * len(problems)) for text in programs)
    passed = {p.task_id for p, g in zip(problems, forged, strict=True) if g.status == "passed"}
    assert passed == set()
    assert {g.status for g in correct} == {"passed"}


def test_a_correct_program_passes_every_style_of_tests_that_only_run_in_process(pool):
    program = "class List(list):\n    pass\ndef f(x): return double(x)\nimport re\n"
    program += "def double(x):\n    f.last = re.match('', '')\n    return 2 * x\n"
    reference = "    f.last = f\n    return x + x\n"
    problems = [
        make_problem(f"{tests}\nassert candidate.last", reference, name=name)
        for name, tests in TEST_STYLES.items()
    ]
    grades = Grader(pool, timeout=5).grade(problems, [program] * len(problems))
    assert {(g.status, g.in_process) for g in grades} == {("passed", True)}


MAIN_MODULE = {
    "from __main__": "from __main__ import f as same\nassert same is candidate",
    "timeit": "import timeit\ntimeit.timeit('f(1)', 'from __main__ import f', number=1)",
    "doctest": "import doctest\nresult = doctest.testmod()\n"
    "assert result.attempted == 1 and not result.failed",
    "unittest": "import unittest\nresult = unittest.main(exit=False, argv=['x']).result\n"
    "assert result.testsRun == 1 and result.wasSuccessful()",
    "built-ins": "assert candidate.__globals__['__builtins__'].len is len",
}


@pytest.mark.parametrize("name", MAIN_MODULE)
def test_the_program_is_the_main_module(pool, name):
    program = (
        "\ufeffimport unittest\nclass Test(unittest.TestCase):\n"
        "    def test(self): self.assertEqual(f(1), 2)\n"
        'def f(x):\n    """\n    >>> f(1)\n    2\n    """\n    return x + 1\n'
    )
    problem = make_problem(
        MAIN_MODULE[name], "    return x + 1\n", program.partition("    return")[0]
    )
    assert grade(pool, problem, program).status == "passed"
    if name in ("doctest", "unittest"):
        assert grade(pool, problem, program.replace("x + 1", "x")).status == "failed"


UNITTEST_TESTS = """
import unittest
class Tests(unittest.TestCase):
    def test(self):
        with self.subTest("one"):
            self.assertEqual(call(1), 2)
result = unittest.TestResult()
call = candidate
Tests("test").run(result)
assert result.testsRun == 1 and result.wasSuccessful()
"""


@pytest.mark.parametrize("error", ["unittest.SkipTest", "unittest.case._ShouldStop"])
def test_an_exception_that_unittest_does_not_count_as_failure_is_one(pool, error):
    problem = make_problem(UNITTEST_TESTS, "    return x + 1\n")
    for name in ("unittest", "_hidden"):
        program = f"import unittest as {name}\ndef f(x): raise {error}\n"
        program = program.replace("raise unittest", f"raise {name}")
        assert grade(pool, problem, program).status == "failed"
    correct = grade(pool, problem, "import unittest\ndef f(x): return x + 1\n")
    assert (correct.status, correct.in_process) == ("passed", False)


def test_a_program_that_prints_megabytes_passes(pool):
    program = "def f(x):\n    print('y' * 3_000_000)\n    return x\n"
    assert grade(pool, make_problem("assert candidate(3) == 3"), program).status == "passed"


def test_grading_imports_no_installed_package():
    """So that the forgery tests can run it as another user, with an interpreter of the system."""
    source = Path(code_alpaca.__file__).parents[1]
    command = [sys.executable, "-S", "-c", "import code_alpaca.evaluation.grading"]
    done = subprocess.run(command, env={"PYTHONPATH": str(source)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
