"""The metric of the `evaluate` library, imported from the package or loaded from its folder."""

from __future__ import annotations

from pathlib import Path

import evaluate
import pytest

import code_alpaca
from code_alpaca.evaluation.pass_at_k.pass_at_k import PassAtK

FOLDER = Path(code_alpaca.__file__).parent / "evaluation" / "pass_at_k"
TESTS = ["assert add(2, 3) == 5", "def check(f):\n    assert f(2) == 4\n\ncheck(double)"]
CANDIDATES = [
    ["def add(a, b): return a * b", "def add(a, b): return a + b"],
    ["def double(n): return n + n", "import os; os._exit(0)"],
]


def load_from_folder():
    return evaluate.load(str(FOLDER))


@pytest.mark.parametrize("make", [PassAtK, load_from_folder])
def test_the_arguments_and_statuses_are_those_of_code_eval(make):
    scores, statuses = make().compute(predictions=CANDIDATES, references=TESTS, k=[1, 2])
    assert scores["pass@1"] == 0.5 and scores["pass@2"] == 1.0
    assert type(scores["pass@1"]) is float
    assert statuses == {0: ["failed", "passed"], 1: ["passed", "exited"]}


def test_a_problem_without_candidates_is_unsolved_and_k_above_their_number_is_an_error():
    scores, statuses = PassAtK().compute(predictions=[CANDIDATES[0], []], references=TESTS, k=[1])
    assert scores["pass@1"] == 0.25 and statuses[1] == []
    with pytest.raises(ValueError, match="k = 3 needs"):
        PassAtK().compute(predictions=CANDIDATES, references=TESTS, k=[3])


IN_ONE_PROCESS = {
    "a class": ("class P:\n    def __init__(s, x): s.x = x", "p = P(3)\nassert p.x == 3"),
    "a lambda": ("add = lambda a, b: a + b", "assert add(1, 2) == 3"),
    "a lambda as argument": ("def use(f, x): return f(x)", "assert use(lambda v: v + 1, 2) == 3"),
    "a returned function": ("def adder(n): return lambda x: x + n", "assert adder(2)(3) == 5"),
    "a constant": ("LIMITS = {'a': 1}", "assert LIMITS['a'] == 1"),
    "a private name": ("def _f(x): return x", "assert _f(1) == 1"),
    "an import": ("import math\ndef f(x): return math.floor(x)", "assert math.floor(f(2.5)) == 2"),
    "an exception": ("class E(Exception): pass\ndef f(): raise E('x')",
                     "try:\n    f()\nexcept E as e:\n    assert str(e) == 'x'"),
    "not a main program": ("if __name__ == '__main__':\n    input()\ndef f(): return 1",
                           "assert f() == 1"),
}  # fmt: skip
CHEATS = {
    "equals all": ("class E(int):\n    __eq__ = lambda s, o: True\n    __hash__ = None\n"
                   "def f(x): return E(0)", "assert f(2) == 4"),
    "an equal class": ("class P:\n    def __init__(s, x): pass\n"
                       "    def __getattr__(s, n): return P(0)\n"
                       "    def __eq__(s, o): return True", "p = P(3)\nassert p.x == 3"),
    "exits": ("import sys\ndef f(x): sys.exit(0)", "assert f(2) == 4"),
    "exits at once": ("import os\ndef f(x): os._exit(0)", "assert f(2) == 4"),
}  # fmt: skip


def test_tests_may_use_everything_that_a_candidate_defines():
    pairs = [*IN_ONE_PROCESS.values(), *CHEATS.values()]
    scores, statuses = PassAtK().compute(
        predictions=[[candidate] for candidate, _ in pairs],
        references=[test for _, test in pairs],
        k=[1],
        num_workers=2,
        timeout=10.0,
    )
    passed = [name for name, (status,) in zip([*IN_ONE_PROCESS, *CHEATS], statuses.values(),
                                              strict=True) if status == "passed"]  # fmt: skip
    assert passed == list(IN_ONE_PROCESS)
    assert scores["pass@1"] == len(IN_ONE_PROCESS) / len(pairs)


def test_default_k_above_the_number_of_candidates_are_omitted():
    scores, _ = PassAtK().compute(predictions=CANDIDATES, references=TESTS)
    assert set(scores) == {"pass@1", "pass@1_interval"}
    with pytest.warns(UserWarning, match="omitted"):
        scores, _ = PassAtK().compute(predictions=CANDIDATES, references=TESTS, k=[2, 7])
    assert set(scores) == {"pass@2", "pass@2_interval"}
