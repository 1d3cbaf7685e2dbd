"""A stopped or killed evaluation resumes: nothing is requested twice, nothing is mixed up."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys

import pytest
from werkzeug import Response

from code_alpaca.cli import main
from code_alpaca.evaluation import endpoint
from code_alpaca.problems import load_problems

NUM_PROBLEMS = len(load_problems("mini"))
IN_FLIGHT = 2  # requests at the same time


class KillingServer:
    """An endpoint that kills the evaluation at its n-th request."""

    def __init__(self, httpserver):
        self.num_completed = 0
        self.process = None
        self.kill_at = 0
        self.url = httpserver.url_for("/v1")
        httpserver.expect_request("/v1/chat/completions").respond_with_handler(self._handle)

    def _handle(self, request):
        if self.process and self.num_completed == self.kill_at:
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.num_completed += 1
        message = {"content": request.get_json()["messages"][0]["content"]}
        reply = {"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
        return Response(json.dumps(reply), content_type="application/json")

    def run_and_kill(self, words, after):
        """Run `code-alpaca eval` until `after` more requests are completed, and kill it."""
        self.kill_at = self.num_completed + after
        command = [sys.executable, "-m", "code_alpaca.cli", *words]
        self.process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
        assert self.process.wait() == -signal.SIGKILL
        self.process = None


@pytest.mark.parametrize("num_kills", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_a_killed_run_equals_an_uninterrupted_one_and_requests_nothing_twice(
    httpserver, tmp_path, num_kills
):
    server, rng = KillingServer(httpserver), random.Random(0)
    words = ["eval", "--base_url", server.url, "--model", "m", "--batch_size", str(IN_FLIGHT)]
    killed = [*words, "--output_dir", str(tmp_path / "killed")]
    for _ in range(num_kills):
        server.run_and_kill(killed, after=rng.randint(1, 3))
    assert main(killed) == 0
    assert NUM_PROBLEMS <= server.num_completed <= NUM_PROBLEMS + IN_FLIGHT * num_kills
    assert main([*words, "--output_dir", str(tmp_path / "uninterrupted")]) == 0
    samples = (tmp_path / "killed/samples.jsonl").read_text()
    assert samples == (tmp_path / "uninterrupted/samples.jsonl").read_text()
    assert len(samples.splitlines()) == NUM_PROBLEMS


def test_an_unreachable_endpoint_is_exit_code_3(run_eval, monkeypatch, capsys):
    monkeypatch.setattr(endpoint, "MAX_RETRIES", 0)
    assert run_eval("--base_url", "http://127.0.0.1:9/v1", "--model", "m", "--limit", "1") == 3
    error = capsys.readouterr().err
    assert "http://127.0.0.1:9/v1 failed" in error and error.count("\n") == 1


def test_a_local_model_resumes_after_an_incomplete_line(tiny_model, run_eval):
    words = ["--model", tiny_model, "--batch_size", "2", "--max_new_tokens", "8"]
    assert run_eval(*words, "--limit", "6") == 0
    complete = run_eval.samples_file.read_text()
    first, second, third, *_ = complete.splitlines()
    marked = {**json.loads(second), "completion": "not requested again"}
    run_eval.samples_file.write_text(f"{first}\n{json.dumps(marked)}\n{third[:40]}")
    assert run_eval(*words, "--limit", "6") == 0
    expected = [json.loads(line) for line in complete.splitlines()]
    assert run_eval.rows[1]["completion"] == "not requested again"
    assert [row for row in run_eval.rows if row["task_id"] != marked["task_id"]] == [
        row for row in expected if row["task_id"] != marked["task_id"]
    ]


def test_completions_of_another_configuration_are_not_overwritten(tiny_model, run_eval, capsys):
    words = ["--model", tiny_model, "--max_new_tokens", "4", "--limit"]
    assert run_eval(*words, "3") == 0
    before = run_eval.samples_file.read_text()
    assert run_eval(*words, "3", "--max_new_tokens", "5") == 2
    assert "max_new_tokens was 4, now 5" in capsys.readouterr().err
    assert run_eval("--samples", "reference") == 2
    assert "now the samples of a file are graded" in capsys.readouterr().err
    assert run_eval.samples_file.read_text() == before
    assert run_eval(*words, "2") == 0
    assert len(run_eval.rows) == 3, "a smaller limit keeps the other completions"


def test_more_samples_are_added_and_differ_from_the_first(tiny_model, run_eval):
    words = ["--model", tiny_model, "--limit", "2", "--temperature", "1", "--max_new_tokens", "8"]
    assert run_eval(*words, "--num_samples", "1") == 0
    first = {(row["task_id"], row["completion"]) for row in run_eval.rows}
    assert run_eval(*words, "--num_samples", "4") == 0
    completions = {(row["task_id"], row["completion"]) for row in run_eval.rows}
    assert first < completions and len(completions) == len(run_eval.rows) == 8


def test_an_edited_benchmark_reuses_no_completion(benchmark_file, run_eval, httpserver, capsys):
    words = ["--benchmark", benchmark_file, "--base_url", KillingServer(httpserver).url,
             "--model", "m"]  # fmt: skip
    assert run_eval(*words) == 0
    assert run_eval.results.model.sha256 is None
    benchmark_file.write_text(benchmark_file.read_text().replace("== 3", "== 4"))
    assert run_eval(*words) == 0, "other tests grade the same completions"
    benchmark_file.write_text(benchmark_file.read_text().replace("Add.", "Subtract."))
    assert run_eval(*words) == 2
    assert f"or {benchmark_file} changed); set another output_dir" in capsys.readouterr().err


def test_a_users_benchmark_file_is_part_of_the_runs_identity(
    benchmark_function, tiny_model, run_eval, capsys
):
    """Also if only its tests change: the file's hash identifies the run."""
    benchmark = f"{benchmark_function}:load"
    words = ["--benchmark", benchmark, "--model", tiny_model, "--max_new_tokens", "2"]
    assert run_eval(*words) == 0
    (run_eval.output_dir / "results.json").unlink()
    benchmark_function.write_text(benchmark_function.read_text() + "# edited\n")
    assert run_eval(*words) == 2
    assert f"or {benchmark} changed); set another output_dir" in capsys.readouterr().err


def test_completions_of_a_version_that_decoded_differently_are_moved_aside(tiny_model, run_eval):
    words = ["--model", tiny_model, "--limit", "1", "--max_new_tokens", "2"]
    assert run_eval(*words) == 0
    (run_eval.output_dir / "answers.json").unlink()
    (row,) = run_eval.rows
    run_eval.samples_file.write_text(json.dumps({**row, "run": "before"}) + "\n")
    assert run_eval(*words) == 0
    assert run_eval.rows == [row]
    old = run_eval.output_dir / "old-samples.jsonl"
    assert json.loads(old.read_text())["run"] == "before"


def test_each_rank_completes_its_part_and_rank_0_collects(tiny_model, run_eval, monkeypatch):
    words = ["--model", tiny_model, "--limit", "5", "--max_new_tokens", "4", "--num_samples", "2",
             "--temperature", "1"]  # fmt: skip
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert run_eval(*words) == 0
    part = run_eval.output_dir / "samples.part-1.jsonl"
    assert len(part.read_text().splitlines()) == 5 and not run_eval.samples_file.exists()
    monkeypatch.setenv("RANK", "0")
    assert run_eval(*words) == 0
    assert len(run_eval.rows) == 10 and not part.exists()
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.delenv("RANK")
    collected = run_eval.rows
    run_eval.output_dir = run_eval.output_dir.with_name("one-process")
    assert run_eval(*words) == 0
    assert collected == run_eval.rows


@pytest.mark.parallel
def test_two_processes_complete_the_same_as_one(tiny_model, tmp_path):
    words = ["eval", "--model", str(tiny_model), "--limit", "6", "--max_new_tokens", "6",
             "--num_samples", "2", "--temperature", "1", "--batch_size", "2"]  # fmt: skip
    assert main([*words, "--output_dir", str(tmp_path / "one")]) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    two = [*torchrun, "-m", "code_alpaca.cli", *words, "--output_dir", str(tmp_path / "two")]
    done = subprocess.run(two, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("12 samples:") == 1, "only the first process reports"

    def completions(name):
        lines = (tmp_path / name / "samples.jsonl").read_text().splitlines()
        return [(r["task_id"], r["sample"], r["completion"]) for r in map(json.loads, lines)]

    assert completions("two") == completions("one") and len(completions("two")) == 12
    assert [path.name for path in (tmp_path / "two").glob("samples*")] == ["samples.jsonl"]
