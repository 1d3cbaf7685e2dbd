"""The Batch API: answers by custom_id, whatever is missing, broken, expired or killed between."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from support.batch_double import BatchDouble

from code_alpaca.cli import main
from code_alpaca.core.ledger import Ledger


def words(run_dir, url, *more, rows=40):
    return [
        "generate", "--run_dir", str(run_dir), "--teacher_base_url", url, "--teacher_api", "batch",
        "--num_examples", str(rows), "--lookahead", "6", "--batch_poll_s", "0.05", *more,
    ]  # fmt: skip


def rows_of(run_dir):
    with Ledger(run_dir / "ledger.sqlite", write=False) as ledger:
        rows = [example.as_row() for example in ledger.accepted(40)]
    for row in rows:
        row.pop("created_at")
    return rows


def usage_of(run_dir):
    with Ledger(run_dir / "ledger.sqlite", write=False) as ledger:
        return ledger.usage()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("whole")
    with BatchDouble() as double:
        assert main(words(run_dir, double.url)) == 0
        assert len(double.answered) == usage_of(run_dir)["replies"]
        assert usage_of(run_dir)["completion_tokens"] == double.completion_tokens
    return run_dir


def test_missing_broken_and_expired_lines_are_asked_again_and_change_nothing(whole, tmp_path):
    struck = set()

    def fault(batch: int, line: int, key: str) -> str:
        if key in struck or len(struck) >= 6:
            return ""
        struck.add(key)
        return ("missing", "error", "expired")[len(struck) % 3]

    with BatchDouble(fault) as double:
        assert main(words(tmp_path, double.url)) == 0
        statuses = {batch["status"] for batch in double.batches.values()}
    assert len(struck) == 6 and statuses == {"expired", "completed"}
    assert rows_of(tmp_path) == rows_of(whole)
    assert len(double.answered) == len(set(double.answered)) == usage_of(tmp_path)["replies"]


@pytest.mark.parametrize("odd", ["odd string", "odd list", "odd body"])
def test_odd_lines_and_hiccups_neither_hang_nor_end_the_run(whole, tmp_path, odd):
    with BatchDouble(lambda batch, line, key: odd if batch + line == 0 else "") as double:
        double.hiccups = 3
        assert main(words(tmp_path, double.url)) == 0
        assert len(double.answered) == len(set(double.answered))
    assert rows_of(tmp_path) == rows_of(whole)


def test_a_line_refused_by_policy_is_a_rejection(tmp_path):
    with BatchDouble(lambda batch, line, key: "policy" if batch + line == 0 else "") as double:
        assert main(words(tmp_path, double.url)) == 0
    with Ledger(tmp_path / "ledger.sqlite", write=False) as ledger:
        assert ledger.reasons()["refusal"] >= 1


def test_a_request_that_no_batch_answers_is_passed_over_at_the_second_start(tmp_path):
    lost: list[str] = []

    def fault(batch, line, key):
        lost[:] = lost or [key]
        return "missing" if key in lost else ""

    with BatchDouble(fault) as double:
        assert main(words(tmp_path, double.url)) == 3
        assert main(words(tmp_path, double.url)) == 0


def test_a_line_that_never_comes_is_exit_3(tmp_path, capsys):
    with BatchDouble(lambda batch, line, key: "missing" if line == 0 else "") as double:
        assert main(words(tmp_path, double.url)) == 3
    assert "not answered in 3 batches" in capsys.readouterr().err


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "orphan"])
def test_a_kill_between_submit_and_collect_pays_nothing_twice(whole, tmp_path, recorded):
    """Also where the kill came before the batch's id reached the ledger."""
    with BatchDouble() as double:
        process = subprocess.Popen(
            [sys.executable, "-m", "code_alpaca.cli",
             *words(tmp_path, double.url, "--batch_poll_s", "60")],
            env={**os.environ, "OPENAI_API_KEY": "none"}, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while not any(double.looks.values()) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.kill()
        process.wait()
        assert len(double.batches) == 1 and not double.answered
        if not recorded:
            with Ledger(tmp_path / "ledger.sqlite") as ledger:
                ledger._db.execute("DELETE FROM batches")
        assert main(words(tmp_path, double.url)) == 0
    assert rows_of(tmp_path) == rows_of(whole)
    assert len(double.answered) == len(set(double.answered)) == usage_of(tmp_path)["replies"]


def test_the_cap_holds_at_half_price_over_a_kill(tmp_path, capsys):
    prices = ["--price_per_mtok_input", "2", "--price_per_mtok_output", "8",
              "--max_completion_tokens", "2000"]  # fmt: skip
    cap = ["--max_cost_usd", "0.12"]
    with BatchDouble() as double:
        assert main(words(tmp_path, double.url, *prices, *cap, rows=200)) == 3
        billed = (double.prompt_tokens * 2 + double.completion_tokens * 8) / 1e6 * 0.5
    assert "max_cost_usd 0.12 is reached" in capsys.readouterr().err
    with Ledger(tmp_path / "ledger.sqlite", write=False) as ledger:
        assert ledger.spent() == pytest.approx(billed)
    assert 0.08 < billed <= 0.12
