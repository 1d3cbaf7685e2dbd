"""Benchmark problems are found under other names, and common code is no hit."""

from __future__ import annotations

import json

import pytest

from code_alpaca.curation.contamination import Contamination
from code_alpaca.errors import InputError
from code_alpaca.schema import Example

PROBLEM = {
    "task_id": "Own/1",
    "prompt": (
        "def largest_gap(values):\n"
        '    """Return the largest difference between neighbours of the sorted values.\n'
        '    >>> largest_gap([1, 5])\n    4\n    """\n'
    ),
    "entry_point": "largest_gap",
    "canonical_solution": (
        "    ordered = sorted(values)\n"
        "    return max((b - a for a, b in zip(ordered, ordered[1:])), default=0)\n"
    ),
    "test": "def check(candidate):\n    assert candidate([1, 5]) == 4\n",
}


@pytest.fixture
def index(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(PROBLEM) + "\n")
    return Contamination([str(path)])


def test_a_renamed_solution_is_found(index):
    code = (
        "def gap(xs: list[int]) -> int:\n"
        "    '''Biggest hole.'''\n"
        "    s = sorted(xs)\n"
        "    return max((q - p for p, q in zip(s, s[1:])), default=0)\n"
    )
    assert index.matches(Example("Find the hole.", "", code)) == ["Own/1"]
    assert index.matches(Example("Explain this.", code, "It sorts.")) == ["Own/1"]


def test_the_statement_is_found_whatever_its_case_and_spacing(index):
    asked = "RETURN the largest difference between\n neighbours of the sorted values."
    assert index.matches(Example(asked, "", "...")) == ["Own/1"]


@pytest.mark.parametrize(
    "code",
    [
        # The same shape with another builtin means another thing.
        "def gap(xs):\n    s = sorted(xs)\n"
        "    return min((q - p for p, q in zip(s, s[1:])), default=0)\n",
        "def add(a, b):\n    return a + b\n",
        "this is not python (",
    ],
)
def test_other_code_is_no_hit(index, code):
    assert index.matches(Example("Write a function for this.", "", code)) == []


def test_a_benchmark_that_does_not_exist():
    with pytest.raises(InputError):
        Contamination(["no-such-benchmark"])
