"""Every benchmark is loaded into one format; a record in no known one is refused by its line."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import pytest

import code_alpaca
from code_alpaca.core.errors import InputError
from code_alpaca.evaluation.grading import Grader
from code_alpaca.problems import BENCHMARKS, Problem, describe_benchmark, is_on_hub, load_problems
from code_alpaca.problems.files import FileBenchmark

FILE_OF_MINI = Path(code_alpaca.__file__).parent / "data/mini_benchmark.jsonl"
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
    {"task_id": 900, "text": "Outside the test split.", "code": "def f(): pass",
     "test_list": ["assert f() is None"]},
]  # fmt: skip


def write(path, records):
    data = "\n".join(json.dumps(record) for record in records).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def test_mbpp_in_its_three_forms_is_graded(tmp_path, pool):
    problems = load_problems(write(tmp_path / "mbpp.jsonl.gz", MBPP))
    assert [p.task_id for p in problems] == ["MBPP/11", "MBPP/12", "MBPP/13"]
    assert [p.entry_point for p in problems] == ["twice", "check", "count"]
    assert "called `twice`" in problems[0].instruction and "assert twice(2)" in problems[0].prompt
    programs = [p.prompt + p.canonical_solution for p in problems]
    grades = Grader(pool, timeout=5).grade(problems, programs)
    assert [grade.status for grade in grades] == ["passed"] * 3
    assert [grade.in_process for grade in grades] == [False, False, True], "its tests build a Node"
    wrong = [program.replace("return ", "return 1 or ") for program in programs]
    assert [grade.status for grade in Grader(pool, timeout=5).grade(problems, wrong)] == [
        "failed"
    ] * 3


def test_evalplus_tests_replace_those_of_mbpp(tmp_path, pool):
    test = (
        "import math\ndef assertion(out, exp, atol):\n    assert out == exp\n"
        "inputs = [[1], [5]]\nresults = [2, 10]\n"
        "for i, (inp, exp) in enumerate(zip(inputs, results)):\n    assertion(twice(*inp), exp, 0)"
    )
    (problem,) = load_problems(write(tmp_path / "plus.jsonl", [{**MBPP[0], "test": test}]))
    programs = ["def twice(n): return n + n", "def twice(n): return 2"]
    grades = Grader(pool, timeout=5).grade([problem] * 2, programs)
    assert [grade.status for grade in grades] == ["passed", "failed"]


def test_mbpp_outside_the_test_split_is_loaded_for_decontamination(tmp_path):
    path = write(tmp_path / "mbpp.jsonl", MBPP)
    assert len(load_problems(path)) == 3
    assert len(load_problems(path, all_splits=True)) == 4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "line 1: not JSON"),
        ("[1]", "line 1: not a JSON object"),
        ('{"task_id": "x", "prompt": "p"}', "without entry_point, canonical_solution, test"),
        ('{"task_id": 1, "text": "t", "code": "f(", "test_list": ["assert f()"]}', "MBPP"),
        ('{"task_id": 1, "text": "t", "code": "x = 1", "test_list": ["f()"]}', "call no function"),
        ("", "contains no problem"),
    ],
)  # fmt: skip
def test_a_record_in_no_known_form_is_refused_by_line(tmp_path, line, message):
    path = tmp_path / "odd.jsonl"
    path.write_text(line)
    with pytest.raises(InputError) as caught:
        load_problems(str(path))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_repeated_task_id_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match="task_id 'MBPP/11' 2 times"):
        load_problems(write(tmp_path / "twice.jsonl", [MBPP[0], MBPP[0]]))


def test_hub_benchmarks_are_pinned_and_a_revision_replaces_the_pin():
    for name in filter(is_on_hub, BENCHMARKS):
        assert len(describe_benchmark(name)["revision"]) == 40
    assert describe_benchmark("humaneval@main")["revision"] == "main"


def test_without_network_the_error_names_the_alternative():
    with pytest.raises(InputError, match="give the path of a JSONL file"):
        load_problems("humaneval")
    with pytest.raises(InputError, match="did you mean 'humaneval'"):
        load_problems("humanevl")
    with pytest.raises(InputError, match=r"humaneval_plus.*FILE\.py:FUNCTION"):
        load_problems("nothing")


HUMANEVAL_RECORD = {
    "task_id": "mine/0", "prompt": "def one():\n", "entry_point": "one",
    "canonical_solution": "    return 1\n",
    "test": "def check(candidate):\n    assert candidate() == 1\n",
}  # fmt: skip


def write_function(folder, body):
    path = folder / "my_bench.py"
    path.write_text(
        f"from code_alpaca.problems import Problem\nRECORD = {HUMANEVAL_RECORD}\n{body}"
    )
    return f"{path}:load"


@pytest.mark.parametrize(
    "body",
    [
        "def load():\n    return [RECORD]",
        "def load():\n    yield Problem(**RECORD)",
        "load = lambda: (RECORD for _ in range(1))",
    ],
)
def test_a_users_function_returns_problems_or_records(tmp_path, body):
    reference = write_function(tmp_path, body)
    assert load_problems(reference) == [Problem(**HUMANEVAL_RECORD)]
    sha256 = hashlib.sha256((tmp_path / "my_bench.py").read_bytes()).hexdigest()
    assert describe_benchmark(reference) == {"name": reference, "sha256": sha256}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("load = 3", "my_bench.py:load is not a function"),
        ("def other(): pass", "does not define 'load'"),
        ("def load():\n    return None", "returned None; return a list of Problem"),
        ("def load():\n    return RECORD", "returned dict; return a list of Problem"),
        ("def load():\n    return [RECORD, 'x']", "item 2 is str"),
        ("def load():\n    return [{'task_id': 'x'}]", "item 1 is neither in HumanEval's format"),
        ("def load():\n    yield RECORD\n    1 / 0", "ZeroDivisionError: division by zero (line 5"),
        ("def load(path):\n    return []", "missing 1 required positional argument: 'path'"),
        ("def load():\n    return []", "contains no problem"),
    ],
)
def test_a_users_function_that_cannot_be_used_is_one_line(tmp_path, body, message):
    with pytest.raises(InputError) as caught:
        load_problems(write_function(tmp_path, body))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_of_a_users_function_is_named():
    with pytest.raises(InputError, match=r"cannot read benchmark file gone\.py: No such file"):
        load_problems("gone.py:load")


@pytest.mark.parametrize("kind", ["problem", "record"])
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("task_id", 1, "task_id is int; give a string"),
        ("task_id", " ", "task_id is ' '; give a name that is unique"),
        ("prompt", "", "prompt is ''; give the start of the program, or an instruction"),
        ("entry_point", "", "entry_point is ''; give the name of the function"),
        ("canonical_solution", None, "canonical_solution is None; give a string"),
        ("test", ["assert one()"], "test is list; give a string"),
        ("test", "assert one() == 1", "test does not define check"),
        ("instruction", 3, "instruction is int; give a string"),
        ("language", 3, "language is int; give a string"),
        ("language", "pyton", "'pyton' is unknown; did you mean 'python'? give one of .net, "),
        ("language", "qqq", "language 'qqq' is unknown; give one of .net, "),
    ],
)
def test_every_field_of_a_users_problem_is_checked(tmp_path, kind, field, value, message):
    record = {**HUMANEVAL_RECORD, field: value}
    item = record if kind == "record" else f"Problem(**{record})"
    reference = write_function(tmp_path, f"def load():\n    return [RECORD, {item}]")
    with pytest.raises(InputError) as caught:
        load_problems(reference)
    assert f"benchmark {reference}, item 2: " in str(caught.value)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("stops", ["'\\n}'", "['a', 3]", "5", "['']"])
def test_stop_strings_are_a_list_of_strings(tmp_path, stops):
    with pytest.raises(InputError, match=r"item 1: stops is .*; give a list of strings"):
        load_problems(
            write_function(tmp_path, f"load = lambda: [Problem(**RECORD, stops={stops})]")
        )


def test_a_users_problem_may_have_another_name_of_its_language_and_a_list_of_stops(tmp_path):
    body = "load = lambda: [Problem(**RECORD, language='sh', stops=['}'])]"
    (problem,) = load_problems(write_function(tmp_path, body))
    assert (problem.language, problem.stops) == ("bash", ("}",))


def test_a_field_of_a_wrong_type_in_a_file_is_named_with_its_line(tmp_path):
    path = write(tmp_path / "b.jsonl", [HUMANEVAL_RECORD, {**HUMANEVAL_RECORD, "task_id": 7}])
    with pytest.raises(InputError, match=r"b\.jsonl, line 2: task_id is int; give a string"):
        load_problems(path)


def test_a_python_file_without_a_function_is_not_parsed_as_jsonl(tmp_path):
    write_function(tmp_path, "def load():\n    return [RECORD]")
    with pytest.raises(InputError, match="NAME") as caught:
        load_problems(str(tmp_path / "my_bench.py"))
    assert "JSON" not in str(caught.value) and "line 1" not in str(caught.value)


def test_a_file_benchmark_takes_a_parser_of_another_format(tmp_path):
    write(tmp_path / "own.jsonl", [{"id": "own/0", "body": "    return 1\n"}])

    def parse(record, where):
        return Problem(**{**HUMANEVAL_RECORD, "task_id": record["id"]})

    (problem,) = FileBenchmark(tmp_path / "own.jsonl", parse=parse).load()
    assert problem.task_id == "own/0"


@pytest.mark.parametrize(
    ("parse", "message"),
    [
        (lambda record, _: Problem(record["id"]), r"failed \(KeyError: 'id'\); correct it or the"),
        (lambda *_: None, "returned None; return a Problem"),
        (lambda *_: [], "returned list; return a Problem"),
    ],
)
def test_a_parser_that_fails_is_one_line_with_the_line_of_the_file(tmp_path, parse, message):
    path = tmp_path / "own.jsonl"
    write(path, [{"task_id": "own/0"}])
    with pytest.raises(InputError, match=rf"^benchmark .*own\.jsonl, line 1: <lambda> {message}"):
        FileBenchmark(path, parse=parse).load()


@pytest.mark.parametrize("name", ["mini", "own.jsonl", "own.jsonl.gz"])
def test_a_benchmark_file_is_described_by_its_hash(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = FILE_OF_MINI if name == "mini" else Path(write(Path(name), [HUMANEVAL_RECORD]))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert describe_benchmark(name) == {"name": name, "sha256": sha256}


def test_languages_have_one_name(tmp_path):
    record = {"name": "HumanEval_0_one", "language": "sh", "prompt": "one() {\n", "tests": "one"}
    (problem,) = load_problems(write(tmp_path / "sh.jsonl", [record]))
    assert (problem.language, problem.entry_point) == ("bash", "one")
    (problem,) = load_problems(
        write(tmp_path / "py.jsonl", [{**HUMANEVAL_RECORD, "language": "Python"}])
    )
    assert problem.language == "python"
