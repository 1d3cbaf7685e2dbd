"""A run is a function of its config, seeds and replies: not of concurrency, faults or kills."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from datasets import load_dataset

from code_alpaca.cli import main
from code_alpaca.core.ledger import Ledger
from code_alpaca.teacher import offline

CONTENT_FAULTS = "near_duplicate=0.05&refusal=0.1&wrong_answer=0.05&truncated=0.15&malformed=0.15"

ROWS_KILLED = 200
STORM = "rate_429=0.1&rate_500=0.1&rate_503=0.1&drop=0.1&hang=0.1&retry_after=0.05&jitter=0.05"


def words(run_dir, *more, url=f"offline?{CONTENT_FAULTS}", rows=80):
    return [
        "generate", "--run_dir", str(run_dir), "--teacher_base_url", url,
        "--num_examples", str(rows), "--lookahead", "8", *more,
    ]  # fmt: skip


def rows_of(run_dir, limit=None):
    with Ledger(run_dir / "ledger.sqlite", write=False) as ledger:
        rows = [example.as_row() for example in ledger.accepted(limit)]
    for row in rows:
        row.pop("created_at")
    return rows


def dataset_hash(run_dir):
    """Over all columns of the dataset's rows but the time at which each was made."""
    table = load_dataset(str(run_dir / "dataset"), split="train").remove_columns("created_at")
    rows = json.dumps(table.to_list(), sort_keys=True)
    return hashlib.sha256(rows.encode()).hexdigest()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of 80 rows."""
    run_dir = tmp_path_factory.mktemp("whole")
    assert main(words(run_dir)) == 0
    return run_dir


def test_rows_carry_their_origin_and_rejections_their_reason(whole):
    rows = rows_of(whole)
    assert len(rows) >= 80
    assert len({row["id"] for row in rows}) == len(rows)
    assert all(row["request_id"] and row["teacher"] == "offline-teacher" for row in rows)
    assert all(0 <= row["nearest_score"] <= 0.85 for row in rows)
    assert {row["verification"] for row in rows} >= {"passed", "not_python"}
    pool = {row["id"] for row in rows}
    assert any(pool & set(row["seed_ids"]) for row in rows), "later prompts show earlier rows"
    with Ledger(whole / "ledger.sqlite", write=False) as ledger:
        reasons = set(ledger.reasons())
    assert {"truncated", "malformed", "run_failed", "refusal"} <= reasons
    assert reasons & {"too_similar", "duplicate_output"}


@pytest.mark.parametrize("concurrency", ["1", "32"])
def test_concurrency_changes_nothing(whole, tmp_path, concurrency):
    assert main(words(tmp_path, "--max_concurrency", concurrency)) == 0
    assert rows_of(tmp_path, 80) == rows_of(whole, 80)


def test_server_faults_change_nothing(whole, tmp_path):
    more = ["--request_timeout_s", "0.5"]
    gusts = STORM.replace("=0.1", "=0.04")
    assert main(words(tmp_path, *more, url=f"offline?{CONTENT_FAULTS}&{gusts}")) == 0
    assert rows_of(tmp_path, 80) == rows_of(whole, 80)


def test_extending_a_run_equals_a_longer_one(whole, tmp_path):
    assert main(words(tmp_path, rows=30)) == 0
    first = rows_of(tmp_path, 30)
    assert main(words(tmp_path, rows=80)) == 0
    assert rows_of(tmp_path, 80) == rows_of(whole, 80)
    assert rows_of(tmp_path, 30) == first


@pytest.mark.parametrize("moments", [8, pytest.param(25, marks=pytest.mark.slow)])
def test_kill_9_at_any_moment_changes_nothing_and_pays_nothing_twice(tmp_path, moments):
    """The teacher outlives the killed runs, so its own count shows what was paid for."""
    more = ["--max_concurrency", "4", "--checkpoint_every", "40"]
    assert main(words(tmp_path / "whole", *more, rows=ROWS_KILLED)) == 0
    killed = tmp_path / "killed"
    rng = random.Random(1)
    with offline.start_server(f"offline?{CONTENT_FAULTS}&latency=0.2&jitter=0.2") as url:
        line = [sys.executable, "-m", "code_alpaca.cli"]
        line += words(killed, *more, url=url, rows=ROWS_KILLED)
        kills, starting = 0, 0.0  # seconds more that a start takes on this machine
        while kills < moments:
            process = subprocess.Popen(line, stdout=subprocess.DEVNULL, start_new_session=True,
                                       env={**os.environ, "OPENAI_API_KEY": "none"})  # fmt: skip
            time.sleep(rng.uniform(0.4, 1.6) + starting)
            assert process.poll() is None, "the run must still be going when it is killed"
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            if not _replies(killed):
                starting += 0.2
        assert _replies(killed), "some of the kills must come after the first replies"
        assert main(words(killed, *more, url=url, rows=ROWS_KILLED)) == 0
        answered = _stats(url)["answered"]
    assert rows_of(killed, ROWS_KILLED) == rows_of(tmp_path / "whole", ROWS_KILLED)
    assert dataset_hash(killed) == dataset_hash(tmp_path / "whole")
    recorded = _replies(killed)
    assert recorded <= answered <= recorded + 4 * kills  # at most those in flight at each kill


@pytest.mark.slow
def test_a_storm_of_faults_and_any_concurrency_make_one_dataset(tmp_path):
    """2,000 rows of a teacher with six faults of content; then one with five of the server."""
    faults = ("near_duplicate", "refusal", "wrong_answer", "empty_output", "truncated", "malformed")
    content = "&".join(f"{fault}=0.05" for fault in faults)

    def run(name, url, *more):
        line = words(tmp_path / name, "--lookahead", "64", *more, url=url, rows=2000)
        assert main(line) == 0
        return dataset_hash(tmp_path / name)

    calm = run("calm", f"offline?{content}", "--max_concurrency", "16")
    for concurrency in ("1", "64"):
        name = f"concurrency {concurrency}"
        assert run(name, f"offline?{content}", "--max_concurrency", concurrency) == calm
    with offline.start_server(f"offline?{content}&{STORM}&latency=0.05") as url:
        storm = run("storm", url, "--max_concurrency", "64", "--request_timeout_s", "1")
        served = _stats(url)
    assert storm == calm
    assert all(served[f] for f in ("rate_429", "rate_500", "rate_503", "drop", "hang")), served
    assert _replies(tmp_path / "storm") == served["answered"], "every reply served was recorded"


def test_ctrl_c_is_exit_3_with_everything_kept(tmp_path):
    line = [
        sys.executable,
        "-m",
        "code_alpaca.cli",
        *words(tmp_path, url="offline?latency=0.3", rows=500),
    ]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not _replies(tmp_path):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 3, error
    assert "interrupted" in error and "Traceback" not in error
    assert _replies(tmp_path)


def test_another_config_is_refused_with_the_difference(whole, capsys):
    assert main(words(whole, "--novelty_threshold", "0.5", "--seed", "7")) == 2
    error = capsys.readouterr().err
    assert "seed: 0 there, 7 now" in error and "novelty_threshold: 0.85 there, 0.5 now" in error
    assert error.count("\n") == 1


def test_a_first_mistake_can_be_mended_in_the_same_folder(tmp_path, capsys):
    assert main(words(tmp_path, "--teacher_model", "nobody", "--seed", "1", rows=5)) == 3
    assert main(words(tmp_path, rows=5)) == 0
    assert main(words(tmp_path, "--seed", "1", rows=5)) == 2


def test_a_password_in_the_url_is_refused(tmp_path, capsys):
    assert main(words(tmp_path / "r", url="http://me:hunter2@127.0.0.1:9/v1")) == 2
    assert "put the key in OPENAI_API_KEY" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_replies_that_lie_about_themselves_are_survived(tmp_path, httpserver):
    """Nothing that a server says may cost a paid reply, or stop the run for good."""
    replies = [
        {"choices": [{"message": {"content": '{"tasks": [{"instruction": ' + "9" * 5000}}]},
        {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": "many"}},
        {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 10**30}},
        {"choices": [{"message": {"content": None}}], "usage": [1]},
        {"choices": [{"message": {"content": {"a": 1}}}]},
    ]
    for reply in replies:
        httpserver.expect_ordered_request("/v1/chat/completions").respond_with_json(reply)
    more = ["--max_concurrency", "1", "--patience", str(len(replies))]
    assert main(words(tmp_path, *more, url=httpserver.url_for("/v1"))) == 3
    with Ledger(tmp_path / "ledger.sqlite", write=False) as ledger:
        assert ledger.usage()["replies"] == len(replies)


def test_no_key(tmp_path, capsys):
    assert main(["generate", "--run_dir", str(tmp_path / "r")]) == 2
    assert "OPENAI_API_KEY is not set" in capsys.readouterr().err


def test_unreachable_teacher_is_exit_3_soon(tmp_path, capsys):
    started = time.monotonic()
    assert main(words(tmp_path, url="http://127.0.0.1:9/v1")) == 3
    assert time.monotonic() - started < 30
    error = capsys.readouterr().err
    assert "does not answer" in error and error.count("\n") == 1


def test_unknown_model_and_useless_teacher_stop_the_run(tmp_path, capsys):
    assert main(words(tmp_path / "a", "--teacher_model", "nobody")) == 3
    assert "check teacher_model" in capsys.readouterr().err
    url = "offline?refusal=1"
    assert main(words(tmp_path / "b", "--patience", "5", url=url)) == 3
    assert "5 replies in a row brought no new row" in capsys.readouterr().err


def test_bad_seed_file_names_the_line(tmp_path, capsys):
    seeds = tmp_path / "seeds.jsonl"
    seeds.write_text('{"instruction": "a", "output": "b"}\n{oops\n')
    assert main(words(tmp_path / "r", "--seed_tasks", str(seeds))) == 2
    assert f"{seeds}, line 2: not JSON" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_no_secret_reaches_the_run_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    with offline.start_server() as url:
        assert main(words(tmp_path, url=url, rows=10)) == 0
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"sk-very-secret" not in path.read_bytes()


def _replies(run_dir) -> int:
    try:
        with Ledger(run_dir / "ledger.sqlite", write=False) as ledger:
            return ledger.usage()["replies"]
    except Exception:
        return 0


def _stats(url: str) -> dict[str, int]:
    import urllib.request

    with urllib.request.urlopen(f"{url}/stats") as reply:
        return json.load(reply)
