"""Leaked benchmark problems are found by solution, statement or wording, and other rows are not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.decontamination import PROBLEM, detector_of, find, rename_program
from support.reference_problems import RECORDS

from code_alpaca.core.errors import InputError
from code_alpaca.core.schema import Example
from code_alpaca.curation.decontamination.detect import ContaminationDetector
from code_alpaca.problems import load_problems


@pytest.fixture
def small_detector(tmp_path):
    return detector_of(tmp_path / "own.jsonl", [PROBLEM])


def test_a_renamed_solution_is_found(small_detector):
    code = (
        "def gap(xs: list[int]) -> int:\n"
        "    '''Biggest hole.'''\n"
        "    s = sorted(xs)\n"
        "    return max((q - p for p, q in zip(s, s[1:])), default=0)\n"
    )
    assert find(small_detector, "Find the hole.", "", code) == [("Own/1", "solution")]
    assert find(small_detector, "Explain this.", code, "It sorts.") == [("Own/1", "solution")]
    (match,) = small_detector.find_matches(Example("Find the hole.", "", code))
    assert match.evidence == "def gap"


def test_the_statement_is_found_in_any_case_and_spacing(small_detector):
    instruction = "RETURN the largest difference between\n neighbours of the sorted values."
    assert ("Own/1", "statement") in find(small_detector, instruction, "", "...")
    assert ("Own/1", "statement") in find(
        small_detector, "Do it.", "", f"def f():\n    '''{instruction}'''"
    )


@pytest.mark.parametrize(
    "instruction",
    [
        "Returns the largest difference between neighbour sorted values.",
        "In Rust, write a function for the largest difference of sorted values between neighbours "
        "and return it.",
    ],
)
def test_a_reworded_task_is_found(small_detector, instruction):
    assert find(small_detector, instruction, "", "...") == [("Own/1", "reworded")]
    assert (
        find(small_detector, instruction.replace("difference", "sum of squares"), "", "...") == []
    )


@pytest.mark.parametrize(
    "code",
    [
        # The same structure with another builtin is another function.
        "def gap(xs):\n    s = sorted(xs)\n"
        "    return min((q - p for p, q in zip(s, s[1:])), default=0)\n",
        "def add(a, b):\n    return a + b\n",
        "class Node:\n    def __init__(self, data):\n        self.data = data\n"
        "        self.left = None\n        self.right = None\n",
        "this is not python (",
        "x = [" + "1, 2, 3, " * 30 + "]",
    ],
)
def test_other_code_does_not_match(small_detector, code):
    assert find(small_detector, "Write a function for this.", "", code) == []


def test_renamed_copies_of_every_problem_are_found():
    """With the docstring all are found, without it all but two short ones."""
    detector = ContaminationDetector(["mini"])
    for keep_docstrings in (True, False):
        missed = []
        for problem in load_problems("mini"):
            matches = detector.find_matches(plant(problem, keep_docstrings=keep_docstrings))
            if problem.task_id not in {match.task_id for match in matches}:
                missed.append(problem.task_id)
        assert len(missed) <= (0 if keep_docstrings else 2), missed


def plant(problem, *, keep_docstrings: bool) -> Example:
    """Return a row with a problem's solution under other names."""
    program = problem.prompt + problem.canonical_solution
    renamed = rename_program(program, keep_docstrings=keep_docstrings)
    return Example("Write what is wanted here.", "", renamed)


def test_an_index_is_cached_by_its_problems_and_rebuilt_if_it_is_damaged(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    problem = load_problems("mini")[3]
    row = plant(problem, keep_docstrings=True)
    first = ContaminationDetector(["mini"]).find_matches(row)
    (cached,) = (tmp_path / "code_alpaca").glob("contamination-*.json")
    assert ContaminationDetector(["mini"]).find_matches(row) == first
    cached.write_text("{")
    assert ContaminationDetector(["mini"]).find_matches(row) == first
    assert json.loads(cached.read_text())["functions"]


def test_an_unknown_benchmark_is_refused():
    with pytest.raises(InputError):
        ContaminationDetector(["no-such-benchmark"])


def test_a_benchmark_that_cannot_be_fetched_is_refused_or_skipped():
    with pytest.raises(InputError, match="skip it with --missing_benchmarks skip"):
        ContaminationDetector(["mini", "humaneval"])
    detector = ContaminationDetector(["mini", "humaneval"], skip_missing=True)
    assert detector.missing == ["humaneval"] and detector.num_problems == 20
    with pytest.raises(InputError):
        ContaminationDetector(["no-such-file.jsonl"], skip_missing=True)


COUNTING = "def count(readings):\n    n = 0\n    for r in readings:\n        n += 1\n    return n\n"


@pytest.mark.parametrize(
    "fields",
    [
        # The short computation of a reference, with other names.
        ("Join a street and a number.", "",
         "def address(street: str, number: str) -> str:\n    return street + number\n"),
        ("Translate to C++.",
         "def name(first: int, second: int) -> int:\n    result: int = first + second\n"
         "    return result\n", "int name(int a, int b) {}"),
        ("Add.", "", "def plus(x: float, y: float) -> float:\n    return x + y\n"),
        # Words of a problem in another task.
        ("Explain what the peak of a running total is.", "", "It is the largest of the sums."),
        ("Sort guest names.", "", "def sort_names(names):\n    return sorted(set(names))\n"),
        ("Count readings.", "", COUNTING),
    ],
)  # fmt: skip
def test_a_row_that_shares_only_common_code_or_words_does_not_match(detector, fields):
    assert find(detector, *fields) == []


@settings(max_examples=100, deadline=None)
@given(before=st.text(), after=st.text(), cut=st.integers(0, 200))
def test_no_row_raises(detector, before, after, cut):
    record = RECORDS[10]
    code = rename_program(record["prompt"] + record["canonical_solution"])[:cut]
    assert isinstance(
        detector.find_matches(Example(before, f"{before}{code}", f"{code}{after}")), list
    )


@pytest.mark.parametrize(
    "output",
    [
        "def f(a):\n    return " + " + ".join(["a"] * 3_000),
        "def f(a):\n" + "    if a:\n" * 400,
        "def f(\x00):\n    return 1",
        "def f(a):\n    return \ud800",
        "def f(x):\n  return (\n" * 300,
        "def f(a):\n    return '\\d' is a\n",
    ],
    ids=range(6),
)
@pytest.mark.filterwarnings("error")
def test_a_degenerate_output_does_not_raise(detector, output):
    assert detector.find_matches(Example("Write it.", "", output)) == []


def test_every_split_of_mbpp_is_searched(tmp_path):
    record = {
        "text": "Write a function to leave out the vowels of a label.",
        "code": "def label_core(label):\n    return label.strip('aeiou')",
        "test_list": ["assert label_core('oboe') == 'b'"],
    }
    path = tmp_path / "mbpp.jsonl"
    rows = [{**record, "task_id": number} for number in (7, 12, 803)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(load_problems(str(path))) == 1
    matches = ContaminationDetector([str(path)]).find_matches(
        Example("Write it.", "", record["code"])
    )
    assert {match.task_id for match in matches} == {"MBPP/7", "MBPP/12", "MBPP/803"}
