"""A negative control fails every program that passes the tests honestly, and passes cheats."""

from __future__ import annotations

import pytest

from code_alpaca.evaluation.controls import (
    MAX_CONTROLS,
    make_negative_controls,
    make_positive_control,
)


def passes(program: str, test: str) -> bool:
    names: dict = {}
    exec(program, names)
    try:
        exec(test, names)
        names["check"](names["f"])
    except Exception:
        return False
    return True


CORRECT = "def f(x): return x\n"
TESTS = {
    "an int": "assert candidate(2) == 2",
    "its left side": "assert 2 == candidate(2)",
    "a chain": "assert candidate(2) == f(2) == 2",
    "a bool": "assert candidate(True) == True",
    "None": "assert candidate(None) == None",
    "text": "assert candidate('a') == 'a' and candidate('b') == 'b'",
    "bytes": "assert candidate(b'a') == b'a'",
    "a float": "assert candidate(1e300) == 1e300",
    "a negative": "assert candidate(-1) == -1",
    "nested": "assert candidate([1, {'k': (2, [])}]) == [1, {'k': (2, [])}]",
    "empty": "assert candidate([]) == []\n    assert candidate({}) == {}",
    "a call": "assert candidate([1]) == list([1])",
    "truth": "assert candidate(1)\n    assert not candidate(0)",
    "membership": "assert candidate(1) in (1, 2)",
    "a computed value": "for n in range(3):\n        assert candidate(n) == n + 0",
    "a computed list": "assert candidate([1, 2]) == [1] + [2]\n    assert candidate([]) == [] + []",
    "all": "assert all(candidate(n) == 2 * n - n for n in range(3))",
    "an alternative": "assert candidate(1) == 1 + 0 or candidate(1) == 2 - 1",
    "an order": "assert candidate(1) < 2\n    assert 0 <= candidate(0)",
    "inequality": "assert candidate(1) != 2 and candidate(1) not in (3, 4)",
    "a substring": "assert candidate('b') in 'abc'",
    "an explicit raise": "if candidate(1) != 1 + 0:\n        raise ValueError",
    "identity": "assert candidate(None) is None",
    "a loop": "for n in range(3):\n        assert candidate(n) == n",
    "an error": "try:\n        candidate()\n    except TypeError as error:\n"
    "        assert str(error) != ''",
    "a variable": "want = [1, 2]\n    assert candidate([1, 2]) == want",
    "a table": "for x, want in [(1, 1), (2, 2)]:\n        assert candidate(x) == want",
    "a zip": "for got, want in zip(map(candidate, [1, 2]), [1, 2]):\n        assert got == want",
    "a dict": "for x, want in {1: 1, 'a': 'a'}.items():\n        assert candidate(x) == want",
    "an input that is also expected": "x = 3\n    assert candidate(x) == x",
    "unittest": "import unittest\n    case = unittest.TestCase()\n"
    "    case.assertEqual(candidate(2), 2)\n    case.assertTrue(candidate(1))\n"
    "    case.assertListEqual(candidate([]), list())",
}  # fmt: skip


@pytest.mark.parametrize("body", TESTS.values(), ids=TESTS)
def test_a_correct_program_fails_every_control(body):
    test = f"def check(candidate):\n    {body}\n"
    assert passes(CORRECT, test)
    controls = make_negative_controls(test)
    assert controls and not any(passes(CORRECT, control) for control in controls)


EQUAL = "class E:\n    def __eq__(s, o): return True\n    def __hash__(s): return 1\n"
CHEATS = {
    "an object equal to all": EQUAL + "def f(x): return E()\n",
    "true if it should be": "import dis, sys\nclass B:\n    def __bool__(self):\n"
    "        frame = sys._getframe(1)\n"
    "        code = frame.f_code.co_code[frame.f_lasti :: 2]\n"
    "        names = (dis.opname[operation] for operation in code)\n"
    "        return next(n for n in names if 'JUMP' in n).endswith('IF_TRUE')\n"
    "def f(x): return B()\n",
    "the expected value from the tests": "import sys\ndef f(x):\n"
    "    return sys._getframe(1).f_locals['want']\n",
}
ASSERT_EQUAL = "import unittest\n    unittest.TestCase().assertEqual(candidate(2), 2)"
ZIP = "for x, want in zip([1, 2], [1, 2]):\n        assert candidate(x) == want"


@pytest.mark.parametrize(
    ("cheat", "body"),
    [
        ("an object equal to all", TESTS["nested"]),
        ("an object equal to all", ASSERT_EQUAL),
        ("true if it should be", "assert candidate(1)\n    assert candidate(2)"),
        ("the expected value from the tests", "want = 2\n    assert candidate(2) == want"),
        ("the expected value from the tests", TESTS["a table"]),
        ("the expected value from the tests", ZIP),
        ("the expected value from the tests", TESTS["a dict"]),
    ],
)
def test_a_cheat_passes_a_control(cheat, body):
    test = f"def check(candidate):\n    {body}\n"
    assert passes(CHEATS[cheat], test)
    assert any(passes(CHEATS[cheat], control) for control in make_negative_controls(test))


def test_exiting_early_passes_the_control_that_fails_at_the_end():
    test = "def check(candidate):\n    candidate(1)\n"
    (at_end,) = make_negative_controls(test)
    with pytest.raises(SystemExit):
        passes("def f(x): raise SystemExit(0)", at_end)
    assert not passes(CORRECT, at_end)


def test_long_tests_have_a_few_controls_selected_reproducibly():
    lines = "".join(f"    assert candidate({n}) == {n}\n" for n in range(100))
    first, second = (make_negative_controls(f"def check(candidate):\n{lines}") for _ in range(2))
    assert 2 <= len(first) <= MAX_CONTROLS
    assert first == second and len(set(first)) == len(first)


TOO_DEEP = "def check(candidate):\n    assert candidate(1) == " + " + ".join(["1"] * 2000)
NOT_PRINTED = "def check(candidate):\n    assert candidate(1) == f'''{'a' + \"\"\"\n\"\"\"}'''\n"


def test_tests_that_are_too_deep_to_copy_have_no_controls():
    assert make_negative_controls(TOO_DEEP) == []
    assert make_positive_control(TOO_DEEP) is None


def test_controls_that_python_cannot_print_are_omitted():
    made = [*make_negative_controls(NOT_PRINTED), make_positive_control(NOT_PRINTED)]
    for control in filter(None, made):
        compile(control, "control", "exec")


def test_the_positive_control_is_the_same_tests_in_the_formatting_of_a_control():
    control = make_positive_control(
        "def check(candidate):\n    # by hand\n    assert candidate(1) == 1\n"
    )
    assert passes(CORRECT, control) and "by hand" not in control
    assert not passes("def f(x): return 2", control)


@pytest.mark.parametrize("test", ["def check(", "", "x = '\0'", "(" * 1000])
def test_tests_that_do_not_parse_have_at_most_one_control(test):
    assert len(make_negative_controls(test)) <= 1
