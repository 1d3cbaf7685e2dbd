"""`code-alpaca eval` grades samples of a file, of references and of a user's benchmark."""

from __future__ import annotations

import gzip
import hashlib
import json

import pytest
from werkzeug import Response

from code_alpaca.core.records import EvalResults

ADD = "def add(a, b):\n    return a + b\n"


def test_a_file_of_samples(grade_samples, run_eval, capsys):
    lines = [
        {"task_id": "own/0", "completion": "    return a + b\n"},
        {"task_id": "own/0", "solution": "def add(a, b): return 0"},
    ]
    assert grade_samples(lines) == 0
    results = run_eval.results
    assert results.pass_at(1).value == 0.25
    assert results.statuses == {"passed": 1, "failed": 1}
    assert results.sandbox.backend in ("bwrap", "landlock")
    assert results.problems_without_samples == 1
    assert "1 problem had no sample and counted as unsolved" in capsys.readouterr().out
    statuses = [(row["task_id"], row["status"]) for row in run_eval.rows]
    assert statuses == [("own/0", "passed"), ("own/0", "failed")]


GRADED_AS_HUMAN_EVAL = [
    ({"completion": "    # like def add(a, b): but with +\n    return a + b\n"}, "passed"),
    ({"completion": "    return half(a) + b\n\ndef half(a):\n    return a\n"}, "passed"),
    ({"completion": "    return a - b\n\n" + ADD}, "passed"),
    ({"completion": ADD}, "passed"),  # the prompt is a function by its docstring
    ({"completion": "    return a + b\n\ndef add(a, b):\n    return 0\n"}, "failed"),
    ({"completion": "    s = '''def add(a, b):'''\n    return a + b"}, "passed"),
    ({"completion": "return a + b\n"}, "failed"),
    ({"completion": "```python\n" + ADD + "```"}, "failed"),
    ({"completion": "\ud800"}, "failed"),
    ({"completion": "    return " + "+".join(["a"] * 5000)}, "failed"),
    ({"solution": ADD}, "passed"),
    ({"solution": "    return a + b\n"}, "failed"),
]  # fmt: skip


def test_a_completion_continues_the_prompt_as_in_human_eval(grade_samples, run_eval):
    lines = [{"task_id": "own/0", **sample} for sample, _ in GRADED_AS_HUMAN_EVAL]
    assert grade_samples(lines) == 0
    statuses = [row["status"] for row in run_eval.rows]
    assert statuses == [status for _, status in GRADED_AS_HUMAN_EVAL]


GOOD_LINE = {"task_id": "own/0", "completion": ""}
CHAT = [{"role": "user", "content": "Add."}, {"role": "assistant", "content": ADD}]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{not json}\n"], "line 1: not JSON"),
        (["[" * 100_000], "line 1: not JSON"),
        (['{"task_id": ' + "9" * 5000 + "}"], "line 1: not JSON"),
        (["[]\n"], "line 1: not a JSON object"),
        ([GOOD_LINE, {"task_id": "own/0"}], "line 2 has neither completion nor solution"),
        ([GOOD_LINE, {"completion": ""}], "line 2 has no task_id"),
        ([{"task_id": "own/9", "completion": ""}], "line 1: no task_id 'own/9'"),
        ([{"task_id": "own/0", "completion": 1}], "line 1: completion is int, not text"),
        ([{"task_id": "own/0", "completion": CHAT}], "line 1: completion is list, not text"),
        ([{"task_id": ["own/0"], "completion": ""}], "line 1 has no task_id"),
        ([GOOD_LINE, {"task_id": "own/0", "messages": CHAT}], "line 2 is a chat: it has messages"),
        ([{**GOOD_LINE, "messages": CHAT}], "line 1 is a chat: it has messages"),
        (["\n\n"], "contains no sample"),
    ],
)
def test_a_bad_line_of_samples_is_named_by_number(grade_samples, lines, message, capsys):
    assert grade_samples(lines) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_samples_of_problems_beyond_the_limit_are_not_graded(grade_samples, run_eval, capsys):
    lines = [{"task_id": f"own/{n}", "solution": ADD} for n in (1, 0)]
    assert grade_samples(lines, "--limit", "1") == 0
    results = run_eval.results
    assert (results.samples, results.problems, results.pass_at(1).value) == (1, 1, 1.0)
    assert grade_samples(lines[:1], "--limit", "1") == 2
    assert "no sample of the first 1 problem\n" in capsys.readouterr().err


def test_a_gzip_file_of_samples(tmp_path, benchmark_file, run_eval, capsys):
    path = tmp_path / "samples.jsonl.gz"
    data = gzip.compress(json.dumps({"task_id": "own/0", "solution": ADD}).encode())
    path.write_bytes(data)
    words = ["--benchmark", benchmark_file, "--samples", path, "--limit", "1"]
    assert run_eval(*words) == 0
    assert "pass@1 100.0%" in capsys.readouterr().out
    path.write_bytes(data[:30])
    assert run_eval(*words) == 2
    assert "cannot read samples" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give either model"),
        (["--benchmark", "nothing", "--samples", "reference"], "no benchmark 'nothing'"),
        (["--samples", "reference", "--limit", "1", "--k", "2"], "k = 2 needs"),
        (["--model", "x", "--num_samples", "3"], "temperature above 0"),
        (["--model", "x", "--top_p", "0.5"], "top_p needs a temperature"),
        (["--samples", "reference", "--revision", "main"], "revision is for a model"),
        (["--model", "/does/not/exist"], "cannot load model"),
        (["--samples", "referenc"], "samples referenc: no such file; did you mean 'reference'?"),
        (["--samples", "gone.jsonl"], "no such file; give a JSONL file, or reference"),
    ],
)
def test_a_bad_config_is_one_line(run_eval, words, message, capsys):
    assert run_eval(*words) == 2
    assert message in capsys.readouterr().err


def test_truncated_and_empty_samples_are_counted(grade_samples, run_eval, capsys):
    lines = [
        {"task_id": "own/0", "completion": "    return a + b\n", "finish_reason": "stop"},
        {"task_id": "own/0", "completion": "    return a +", "finish_reason": "length"},
        {"task_id": "own/0", "completion": " \n"},
        {"task_id": "own/1", "completion": "<think>Let me", "finish_reason": "max_tokens"},
    ]
    assert grade_samples(lines) == 0
    answers = run_eval.results.answers
    assert (answers.truncated, answers.empty, answers.missing) == (2, 2, 0)
    assert answers.finish_reasons == {"stop": 1, "length": 1, "unknown": 1, "max_tokens": 1}
    table = (run_eval.output_dir / "results.md").read_text()
    assert "4 samples: 2 truncated, 2 empty" in table
    assert "warning: 2 of 4 samples truncated" in capsys.readouterr().out


def test_a_problem_whose_own_reference_fails_is_named(
    benchmark_file, grade_samples, run_eval, capsys
):
    record = json.loads(benchmark_file.read_text().splitlines()[0])
    benchmark_file.write_text(json.dumps({**record, "canonical_solution": "    return a\n"}))
    assert grade_samples([{"task_id": "own/0", "completion": "    return b\n"}]) == 0
    assert list(run_eval.results.failing_references) == ["own/0"]
    assert "1 of 1 problem failed with the benchmark's own solution" in capsys.readouterr().out


def test_samples_in_a_language_without_a_grader_are_a_warning(benchmark_file, run_eval, capsys):
    record = json.loads(benchmark_file.read_text().splitlines()[0])
    benchmark_file.write_text(json.dumps({**record, "language": "rust"}))
    assert run_eval("--benchmark", benchmark_file, "--samples", "reference") == 0
    printed = capsys.readouterr().out
    assert "warning: 1 of 1 sample not graded, and counted as unsolved" in printed
    assert "only python, javascript, bash can be graded" in printed


def test_all_references_of_the_mini_benchmark_pass(run_eval):
    assert run_eval("--samples", "reference") == 0
    assert run_eval.results.pass_at(1).value == 1.0


@pytest.mark.parametrize("content", ["{}\n", "[]\n", "\n", "{\n"])
def test_a_benchmark_in_another_form_is_named(tmp_path, run_eval, content, capsys):
    path = tmp_path / "b.jsonl"
    path.write_text(content)
    assert run_eval("--benchmark", path, "--samples", "reference") == 2
    assert str(path) in capsys.readouterr().err


def test_a_benchmark_from_a_users_function_is_recorded_by_its_hash(
    benchmark_function, run_eval, capsys
):
    words = ["--benchmark", f"{benchmark_function}:load", "--samples", "reference"]
    assert run_eval(*words) == 0
    results = run_eval.results
    assert results.problems == 2 and len(results.source.sha256) == 64
    assert run_eval(*words) == 0
    assert "changed" not in capsys.readouterr().out


@pytest.mark.parametrize("form", ["file", "function"])
def test_samples_are_graded_again_after_a_benchmark_was_edited(
    benchmark_file, benchmark_function, run_eval, form, capsys
):
    edited = benchmark_file if form == "file" else benchmark_function
    benchmark = edited if form == "file" else f"{edited}:load"
    words = ["--benchmark", benchmark, "--samples", "reference"]
    assert run_eval(*words) == 0
    before = run_eval.results.source.sha256
    benchmark_file.write_text(benchmark_file.read_text().replace("== 3", "== 4", 1))
    edited.write_text(edited.read_text() + "\n")
    assert run_eval(*words) == 0
    assert f"{benchmark} changed since {run_eval.output_dir}" in capsys.readouterr().out
    assert run_eval.results.source.sha256 == hashlib.sha256(edited.read_bytes()).hexdigest()
    assert run_eval.results.source.sha256 != before
    assert run_eval.results.pass_at(1).value == 0.5


def test_results_record_the_benchmark_that_was_graded(benchmark_file, run_eval, httpserver):
    """Not the file as it is at the end, if somebody edits it during the run."""
    graded = hashlib.sha256(benchmark_file.read_bytes()).hexdigest()

    def edit(request):
        benchmark_file.write_text(benchmark_file.read_text() + "\n")
        message = {"content": ADD}
        return Response(json.dumps({"choices": [{"index": 0, "message": message}]}))

    httpserver.expect_request("/v1/chat/completions").respond_with_handler(edit)
    words = ["--benchmark", benchmark_file, "--model", "m", "--base_url", httpserver.url_for("/v1")]
    assert run_eval(*words) == 0
    assert run_eval.results.source.sha256 == graded


def test_problems_without_a_reference_solution_are_not_graded_as_references(
    benchmark_file, run_eval, capsys
):
    first, second = map(json.loads, benchmark_file.read_text().splitlines())
    lines = [first, {**second, "canonical_solution": ""}]
    benchmark_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ["--benchmark", benchmark_file, "--samples", "reference"]
    assert run_eval(*words) == 0
    assert "1 problem has no reference solution" in capsys.readouterr().out
    results = run_eval.results
    assert (results.problems, results.samples, results.pass_at(1).value) == (1, 1, 1.0)
    benchmark_file.write_text(json.dumps(lines[1]))
    assert run_eval(*words) == 2
    assert "no problem to grade of benchmark" in capsys.readouterr().err


def test_results_of_another_benchmark_are_not_replaced(benchmark_file, run_eval, capsys):
    assert run_eval("--samples", "reference", "--benchmark", benchmark_file) == 0
    path = run_eval.output_dir / EvalResults.FILE
    before = path.read_bytes()
    assert run_eval("--samples", "reference", "--benchmark", "mini", "--limit", "1") == 2
    assert "contains results of benchmark" in capsys.readouterr().err
    assert path.read_bytes() == before
