"""Benchmark problems are found under other names, and common code is no hit."""

from __future__ import annotations

import ast
import json

import pytest

from code_alpaca import benchmarks
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


def found(index: Contamination, *fields: str) -> list[tuple[str, str]]:
    return [(hit.task_id, hit.method) for hit in index.hits(Example(*fields))]


def test_a_renamed_solution_is_found(index):
    code = (
        "def gap(xs: list[int]) -> int:\n"
        "    '''Biggest hole.'''\n"
        "    s = sorted(xs)\n"
        "    return max((q - p for p, q in zip(s, s[1:])), default=0)\n"
    )
    assert found(index, "Find the hole.", "", code) == [("Own/1", "solution")]
    assert found(index, "Explain this.", code, "It sorts.") == [("Own/1", "solution")]
    (hit,) = index.hits(Example("Find the hole.", "", code))
    assert hit.evidence == "def gap"


def test_the_statement_is_found_whatever_its_case_and_spacing(index):
    asked = "RETURN the largest difference between\n neighbours of the sorted values."
    assert ("Own/1", "statement") in found(index, asked, "", "...")
    assert ("Own/1", "statement") in found(index, "Do it.", "", f"def f():\n    '''{asked}'''")


@pytest.mark.parametrize(
    "asked",
    [
        "Returns the largest difference between neighbour sorted values.",
        "In Rust, write a function for the largest difference of sorted values between neighbours "
        "and return it.",
    ],
)
def test_the_same_task_in_other_words_is_found(index, asked):
    assert found(index, asked, "", "...") == [("Own/1", "reworded")]
    assert found(index, asked.replace("difference", "sum of squares"), "", "...") == []


@pytest.mark.parametrize(
    "code",
    [
        # The same shape with another builtin means another thing.
        "def gap(xs):\n    s = sorted(xs)\n"
        "    return min((q - p for p, q in zip(s, s[1:])), default=0)\n",
        "def add(a, b):\n    return a + b\n",
        "class Node:\n    def __init__(self, data):\n        self.data = data\n"
        "        self.left = None\n        self.right = None\n",
        "this is not python (",
        "x = [" + "1, 2, 3, " * 30 + "]",
    ],
)
def test_other_code_is_no_hit(index, code):
    assert found(index, "Write a function for this.", "", code) == []


def test_runs_of_words_are_found_and_lists_of_numbers_are_none(tmp_path):
    words = "one lone wolf walks over seven long hills before any other wolf wakes up there"
    numbers = " ".join(str(n) for n in range(40))
    path = tmp_path / "own.jsonl"
    prompt = f"def f():\n    # {words}\n    # {numbers}\n"
    path.write_text(json.dumps({**PROBLEM, "prompt": prompt, "entry_point": "f"}) + "\n")
    index = Contamination([str(path)])
    assert found(index, "Tell me.", "", f"so {words}") == [("Own/1", "overlap")]
    assert found(index, "Tell me.", numbers, numbers) == []


def test_planted_copies_of_every_problem_are_found():
    """Renamed and written in another layout; without the docstring only short ones slip by."""
    problems = benchmarks.load("mini")
    index = Contamination(["mini"])
    for keep_docstring in (True, False):
        missed = [
            problem.task_id
            for problem in problems
            if problem.task_id
            not in {h.task_id for h in index.hits(planted(problem, keep_docstring))}
        ]
        assert len(missed) <= (0 if keep_docstring else 2), missed


def planted(problem, keep_docstring: bool) -> Example:
    tree = ast.parse(problem.prompt + problem.canonical_solution)
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            names.setdefault(node.name, f"planted_{len(names)}")
            for arg in node.args.args:
                names.setdefault(arg.arg, f"planted_{len(names)}")
            if not keep_docstring and ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.setdefault(node.id, f"planted_{len(names)}")
    for node in ast.walk(tree):
        for field in ("name", "arg", "id"):
            if isinstance(value := getattr(node, field, None), str):
                setattr(node, field, names.get(value, value))
    return Example("Write what is wanted here.", "", ast.unparse(tree))


def test_an_index_is_cached_by_its_problems_and_made_again_where_that_is_broken(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    problem = benchmarks.load("mini")[3]
    row = planted(problem, keep_docstring=True)
    first = Contamination(["mini"]).hits(row)
    (cached,) = (tmp_path / "code_alpaca").glob("contamination-*.json")
    assert Contamination(["mini"]).hits(row) == first
    cached.write_text("{")
    assert Contamination(["mini"]).hits(row) == first
    assert json.loads(cached.read_text())["functions"]


def test_a_benchmark_that_does_not_exist():
    with pytest.raises(InputError):
        Contamination(["no-such-benchmark"])


def test_a_benchmark_that_cannot_be_fetched_is_refused_or_named(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="go on without it by --missing_benchmarks skip"):
        Contamination(["mini", "humaneval"])
    index = Contamination(["mini", "humaneval"], go_without=True)
    assert index.missing == ["humaneval"] and index.problems == 20
    with pytest.raises(InputError):
        Contamination(["no-such-file.jsonl"], go_without=True)
