"""The metric as `evaluate` users meet it: from the package, and from its folder."""

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
def test_it_takes_what_code_eval_takes(make):
    scores, statuses = make().compute(predictions=CANDIDATES, references=TESTS, k=[1, 2])
    assert scores["pass@1"] == 0.5 and scores["pass@2"] == 1.0
    assert type(scores["pass@1"]) is float
    assert statuses == {0: ["failed", "passed"], 1: ["passed", "exited"]}


def test_a_problem_without_candidates_counts_and_k_beyond_them_is_an_error():
    scores, statuses = PassAtK().compute(predictions=[CANDIDATES[0], []], references=TESTS, k=[1])
    assert scores["pass@1"] == 0.25 and statuses[1] == []
    with pytest.raises(ValueError, match="k = 3 needs"):
        PassAtK().compute(predictions=CANDIDATES, references=TESTS, k=[3])


def test_it_is_not_fooled():
    liar = (
        "class E(int):\n __eq__ = lambda s, o: True\n __hash__ = None\ndef add(a, b): return E(0)"
    )
    exits = "import sys\ndef add(a, b): sys.exit(0)"
    scores, _ = PassAtK().compute(predictions=[[liar, exits]], references=TESTS[:1])
    assert scores["pass@1"] == 0.0
