"""The Batch API: results are matched by custom_id; faults and kills change no reply and no bill."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from support.batch_double import BatchDouble, Killed
from support.generation_runs import read_rows
from support.simulated_teacher import SETTINGS, URL, complete_all, is_reply, run_simulated

from code_alpaca.cli import main
from code_alpaca.core.errors import Stopped
from code_alpaca.core.ledger import Ledger
from code_alpaca.teacher.batch import BatchTeacher
from code_alpaca.teacher.budget import Budget
from code_alpaca.teacher.prices import Price
from code_alpaca.teacher.reply_parsing import parse_reply

NUM_PROMPTS = 12
PRICE = Price(1, 4, "test")  # includes the discount of the Batch API


def complete_in_batches(run_dir, double, prompts=range(NUM_PROMPTS), *, cap=None) -> list:
    """Request replies to these numbered prompts; return replies and exceptions in their order."""

    async def run(ledger):
        settings = replace(SETTINGS, transport=double)
        budget = Budget(ledger, PRICE, cap) if cap else None
        teacher = BatchTeacher(URL, settings, ledger=ledger, budget=budget, report=print)
        await teacher.start()
        results = await complete_all(teacher, prompts)
        await teacher.close()
        return results

    run_dir.mkdir(exist_ok=True)
    with Ledger(run_dir / "ledger.sqlite") as ledger:
        return run_simulated(run(ledger))


def num_replies(run_dir) -> int:
    with Ledger(run_dir / "ledger.sqlite", write=False) as ledger:
        return ledger.usage()["replies"]


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The replies without faults."""
    run_dir, double = tmp_path_factory.mktemp("expected"), BatchDouble()
    replies = complete_in_batches(run_dir, double)
    assert all(map(is_reply, replies)) and len(double.answered) == NUM_PROMPTS
    with Ledger(run_dir / "ledger.sqlite", write=False) as ledger:
        assert ledger.usage()["completion_tokens"] == double.completion_tokens
    return replies


def test_missing_failed_and_expired_lines_are_requested_again(expected, tmp_path):
    failed = set()

    def fault(batch: int, line: int, key: str) -> str:
        if key in failed or len(failed) >= 6:
            return ""
        failed.add(key)
        return ("missing", "error", "expired")[len(failed) % 3]

    double = BatchDouble(fault)
    assert complete_in_batches(tmp_path, double) == expected
    assert len(failed) == 6
    assert {batch["status"] for batch in double.batches.values()} == {"expired", "completed"}
    assert len(double.answered) == len(set(double.answered)) == num_replies(tmp_path)


@pytest.mark.parametrize("odd", ["odd string", "odd list", "odd body"])
def test_invalid_results_and_failing_polls_do_not_stop_the_run(expected, tmp_path, odd):
    double = BatchDouble(lambda batch, line, key: odd if batch + line == 0 else "")
    double.failing_polls = 3
    assert complete_in_batches(tmp_path, double) == expected
    assert len(double.answered) == len(set(double.answered))


def test_a_prompt_rejected_by_a_content_policy_is_skipped(tmp_path):
    double = BatchDouble(lambda batch, line, key: "policy" if batch + line == 0 else "")
    results = complete_in_batches(tmp_path, double)
    assert [is_reply(result) for result in results] == [n != 0 for n in range(NUM_PROMPTS)]
    assert parse_reply(results[0]).refusal


def test_a_request_that_no_batch_answers_is_skipped_at_the_second_start(tmp_path):
    lost: list[str] = []

    def fault(batch, line, key):
        lost[:] = lost or [key]
        return "missing" if key in lost else ""

    double = BatchDouble(fault)
    first = complete_in_batches(tmp_path, double)
    assert isinstance(first[0], Stopped) and "not answered in 3 batches" in str(first[0])
    second = complete_in_batches(tmp_path, double)
    assert [is_reply(result) for result in second] == [n != 0 for n in range(NUM_PROMPTS)]
    assert not parse_reply(second[0]).readable


def test_an_outage_over_several_starts_skips_no_request(tmp_path):
    """No request gets a reply, so none of them is at fault."""
    double = BatchDouble()
    complete_in_batches(tmp_path, double, range(4))
    double.fault = lambda batch, line, key: "error"
    for _ in range(3):
        results = complete_in_batches(tmp_path, double, range(4, NUM_PROMPTS))
        assert all(isinstance(result, Stopped) for result in results)
    double.fault = lambda batch, line, key: ""
    assert all(map(is_reply, complete_in_batches(tmp_path, double)))


@pytest.mark.parametrize(
    "kill_at",
    [r"GET /v1/batches/\w+", "POST /v1/batches"],
    ids=["submitted batch", "submitted batch not in the ledger"],
)
def test_a_kill_between_submitting_and_collecting_pays_nothing_twice(expected, tmp_path, kill_at):
    double = BatchDouble()
    double.kill_at = kill_at
    with pytest.raises(Killed):
        complete_in_batches(tmp_path, double)
    assert len(double.batches) == 1 and not double.answered
    double.kill_at = None
    assert complete_in_batches(tmp_path, double) == expected
    assert len(double.answered) == len(set(double.answered)) == num_replies(tmp_path)


def test_the_cap_includes_a_submitted_batch(tmp_path):
    double = BatchDouble()
    results = complete_in_batches(tmp_path, double, range(60), cap=0.12)
    billed = PRICE.compute_cost(double.prompt_tokens, double.completion_tokens)
    message = next(str(result) for result in results if isinstance(result, Stopped))
    assert "max_cost_usd 0.12 is reached" in message
    with Ledger(tmp_path / "ledger.sqlite", write=False) as ledger:
        assert ledger.spent() == pytest.approx(billed)
    assert 0.08 < billed <= 0.12


# -- the command ---------------------------------------------------------------------------------


def generate_args(run_dir, url, *more, rows=20):
    return [
        "generate", "--run_dir", str(run_dir), "--teacher_base_url", url, "--teacher_api", "batch",
        "--num_examples", str(rows), "--lookahead", "6", "--verify", "false", *more,
    ]  # fmt: skip


def test_generate_with_the_batch_api_respects_a_cap_at_half_price(tmp_path, capsys, httpserver):
    more = ["--price_per_mtok_input", "2", "--price_per_mtok_output", "8",
            "--max_completion_tokens", "2000", "--max_cost_usd", "0.05",
            "--batch_poll_s", "0.05", "--decontaminate", "none"]  # fmt: skip
    double = BatchDouble()
    assert main(generate_args(tmp_path, double.serve(httpserver), *more, rows=200)) == 3
    billed = (double.prompt_tokens * 2 + double.completion_tokens * 8) / 1e6 * 0.5
    output = capsys.readouterr()
    assert "batch     batch_0: completed" in output.out
    assert "max_cost_usd 0.05 is reached" in output.err
    with Ledger(tmp_path / "ledger.sqlite", write=False) as ledger:
        assert ledger.spent() == pytest.approx(billed)
    assert 0.03 < billed <= 0.05


@pytest.mark.slow
def test_generate_resumes_after_a_kill(tmp_path, httpserver):
    """SIGKILL while a batch is processed: the next start collects it, with the same dataset."""

    class SignallingDouble(BatchDouble):
        polled = threading.Event()

        def handle(self, method, path, content):
            if path.startswith("/v1/batches/"):
                self.polled.set()
            return super().handle(method, path, content)

    reference, run_dir = tmp_path / "reference", tmp_path / "killed"
    url = BatchDouble().serve(httpserver)
    assert main(generate_args(reference, url, "--batch_poll_s", "0.05")) == 0
    double = SignallingDouble()
    url = double.serve(httpserver)
    process = subprocess.Popen(
        [sys.executable, "-m", "code_alpaca.cli",
         *generate_args(run_dir, url, "--batch_poll_s", "60")],
        env={**os.environ, "OPENAI_API_KEY": "none"},
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    assert double.polled.wait(60)
    process.kill()
    process.wait()
    assert len(double.batches) == 1 and not double.answered
    assert main(generate_args(run_dir, url, "--batch_poll_s", "0.05")) == 0
    assert read_rows(run_dir, 20) == read_rows(reference, 20)
    assert len(double.answered) == len(set(double.answered)) == num_replies(run_dir)
