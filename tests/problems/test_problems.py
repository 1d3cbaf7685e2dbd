"""Benchmarks of several makers come out in one form, and one that is of no form is named."""

from __future__ import annotations

import gzip
import json

import pytest

from code_alpaca.core.errors import InputError
from code_alpaca.evaluation.grading import Grader
from code_alpaca.problems import benchmarks

MBPP = [
    {
        "task_id": 11, "text": "Write a function to double a number.",
        "code": "def twice(n):\r\n    return 2 * n\r\n", "test_setup_code": "",
        "test_list": ["assert twice(2) == 4", "assert twice('a') == 'aa'"],
    },
    {
        "task_id": 12, "prompt": "Write a function to check a root.", "source_file": "x",
        "code": "def check(n):\n    return n ** 0.5", "test_imports": ["import math"],
        "test_list": ["assert math.isclose(check(2), 1.41421, rel_tol=0.001)"],
    },
    {
        "task_id": 13, "text": "Write a function to count the nodes of a list.",
        "code": "class Node:\n    def __init__(self, n):\n        self.n, self.next = n, None\n"
        "def count(node):\n    return 0 if node is None else 1 + count(node.next)",
        "test_setup_code": "root = Node(1)\nroot.next = Node(2)",
        "test_list": ["assert count(root) == 2", "assert count(None) == 0"],
    },
    {"task_id": 900, "text": "Not in the test split.", "code": "def f(): pass",
     "test_list": ["assert f() is None"]},
]  # fmt: skip


def write(path, records):
    data = "\n".join(json.dumps(record) for record in records).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def test_mbpp_in_its_three_shapes_is_graded(tmp_path, pool):
    problems = benchmarks.load(write(tmp_path / "mbpp.jsonl.gz", MBPP))
    assert [p.task_id for p in problems] == ["MBPP/11", "MBPP/12", "MBPP/13"]
    assert [p.entry_point for p in problems] == ["twice", "check", "count"]
    assert "called `twice`" in problems[0].instruction and "assert twice(2)" in problems[0].prompt
    programs = [p.prompt + p.canonical_solution for p in problems]
    grades = Grader(pool, timeout=5).grade(problems, programs)
    assert [grade.status for grade in grades] == ["passed"] * 3
    assert [grade.shared for grade in grades] == [False, False, True], "its tests build a Node"
    wrong = [program.replace("return ", "return 1 or ") for program in programs]
    assert [grade.status for grade in Grader(pool, timeout=5).grade(problems, wrong)] == [
        "failed"
    ] * 3


def test_the_larger_tests_of_evalplus(tmp_path, pool):
    test = (
        "import math\ndef assertion(out, exp, atol):\n    assert out == exp\n"
        "inputs = [[1], [5]]\nresults = [2, 10]\n"
        "for i, (inp, exp) in enumerate(zip(inputs, results)):\n    assertion(twice(*inp), exp, 0)"
    )
    (problem,) = benchmarks.load(write(tmp_path / "plus.jsonl", [{**MBPP[0], "test": test}]))
    programs = ["def twice(n): return n + n", "def twice(n): return 2"]
    grades = Grader(pool, timeout=5).grade([problem] * 2, programs)
    assert [grade.status for grade in grades] == ["passed", "failed"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{broken", "line 1: not JSON"),
        ("[1]", "line 1: not a JSON object"),
        ('{"task_id": "x", "prompt": "p"}', "without entry_point, canonical_solution, test"),
        ('{"task_id": 1, "text": "t", "code": "f(", "test_list": ["assert f()"]}', "MBPP"),
        ('{"task_id": 1, "text": "t", "code": "x = 1", "test_list": ["f()"]}', "call no function"),
        ("", "holds no problem"),
    ],
)  # fmt: skip
def test_a_file_of_another_shape_is_refused_by_line(tmp_path, line, told):
    path = tmp_path / "odd.jsonl"
    path.write_text(line)
    with pytest.raises(InputError) as caught:
        benchmarks.load(str(path))
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_names_are_pinned_and_a_revision_can_replace_the_pin():
    for name in benchmarks.ON_THE_HUB:
        assert len(benchmarks.source(name)["revision"]) == 40
    assert benchmarks.source("humaneval@main")["revision"] == "main"
    assert benchmarks.source("some/file.jsonl") == {"name": "some/file.jsonl"}


def test_without_the_hub_a_name_says_what_to_do():
    with pytest.raises(InputError, match="give the path of a file"):
        benchmarks.load("humaneval")
    with pytest.raises(InputError, match="humaneval_plus"):
        benchmarks.load("humanevl")
