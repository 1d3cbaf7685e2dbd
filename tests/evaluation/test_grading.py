"""A program passes if plain Python says so and its values, judged in another process, agree."""

from __future__ import annotations

import dataclasses

import pytest

from code_alpaca.evaluation.grading import Grader
from code_alpaca.problems import Problem
from code_alpaca.sandbox import WorkerPool, choose_backend


@pytest.fixture(scope="module")
def pool():
    with WorkerPool(choose_backend().backend, packages=True) as made:
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
    assert grade(pool, asked, "def f(x): return x.value").in_process
    plain = problem("assert candidate(3) == 3")
    assert not grade(pool, plain, "def f(x): return x").in_process


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


# Tests in the forms that benchmarks have, for a function that doubles its argument.
STYLES = {
    "a literal": "assert candidate(2) == 4",
    "text": "assert candidate('ab') == 'abab'\nassert candidate('x') == 'xx'",
    "a computed value": "for n in range(5):\n    assert candidate(n) == n + n",
    "a call": "assert candidate([1]) == list([1, 1])",
    "all": "assert all(candidate(n) == 2 * n for n in range(5))",
    "a choice": "assert candidate(2) == 2 + 2 or candidate(2) == 2 * 2",
    "a refusal": "if candidate(2) != 4:\n    raise AssertionError('wrong')",
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
    ids=["equal to all", "but for the letter a", "tells by the form", "tells by a comment"],
)
def test_an_object_that_equals_everything_fails_every_form_of_tests(pool, cheat):
    problems = [
        dataclasses.replace(problem(f"# by hand\n{tests}", "    return x + x\n"), task_id=name)
        for name, tests in STYLES.items()
    ]
    programs = ["def f(x): return 2 * x", cheat]
    grader = Grader(pool, timeout=5)
    right, forged = (grader.grade(problems, [text] * len(problems)) for text in programs)
    passed = {p.task_id for p, g in zip(problems, forged, strict=True) if g.status == "passed"}
    assert passed == set()
    assert {g.status for g in right} == {"passed"}


def test_a_right_program_passes_where_one_process_decides_for_every_form_of_tests(pool):
    by_hand = "class List(list):\n    pass\ndef f(x): return kept(x)\nimport re\n"
    by_hand += "def kept(x):\n    f.last = re.match('', '')\n    return 2 * x\n"
    problems = [
        dataclasses.replace(
            problem(f"{tests}\nassert candidate.last", "    f.last = f\n    return x + x\n"),
            task_id=name,
        )
        for name, tests in STYLES.items()
    ]
    grades = Grader(pool, timeout=5).grade(problems, [by_hand] * len(problems))
    assert {(g.status, g.in_process) for g in grades} == {("passed", True)}


MAIN_MODULE = {
    "from __main__": "from __main__ import f as same\nassert same is candidate",
    "timeit": "import timeit\ntimeit.timeit('f(1)', 'from __main__ import f', number=1)",
    "doctest": "import doctest\nfound = doctest.testmod()\n"
    "assert found.attempted == 1 and not found.failed",
    "unittest": "import unittest\nfound = unittest.main(exit=False, argv=['x']).result\n"
    "assert found.testsRun == 1 and found.wasSuccessful()",
    "built-ins": "assert candidate.__globals__['__builtins__'].len is len",
}


@pytest.mark.parametrize("name", MAIN_MODULE)
def test_the_program_is_the_main_module(pool, name):
    program = (
        "\ufeffimport unittest\nclass Test(unittest.TestCase):\n"
        "    def test(self): self.assertEqual(f(1), 2)\n"
        'def f(x):\n    """\n    >>> f(1)\n    2\n    """\n    return x + 1\n'
    )
    asked = problem(MAIN_MODULE[name], "    return x + 1\n", program.partition("    return")[0])
    assert grade(pool, asked, program).status == "passed"
    if name in ("doctest", "unittest"):
        assert grade(pool, asked, program.replace("x + 1", "x")).status == "failed"


OF_UNITTEST = """
import unittest
class Tests(unittest.TestCase):
    def test(self):
        with self.subTest("one"):
            self.assertEqual(call(1), 2)
found = unittest.TestResult()
call = candidate
Tests("test").run(found)
assert found.testsRun == 1 and found.wasSuccessful()
"""


@pytest.mark.parametrize("error", ["unittest.SkipTest", "unittest.case._ShouldStop"])
def test_an_exception_that_unittest_takes_for_no_failure_is_one(pool, error):
    asked = problem(OF_UNITTEST, "    return x + 1\n")
    for name in ("unittest", "_hidden"):
        program = f"import unittest as {name}\ndef f(x): raise {error}\n"
        program = program.replace("raise unittest", f"raise {name}")
        assert grade(pool, asked, program).status == "failed"
    right = grade(pool, asked, "import unittest\ndef f(x): return x + 1\n")
    assert (right.status, right.in_process) == ("passed", False)


def test_a_program_that_prints_megabytes_passes(pool):
    program = "def f(x):\n    print('y' * 3_000_000)\n    return x\n"
    assert grade(pool, problem("assert candidate(3) == 3"), program).status == "passed"
