"""What a training says while it runs, and how it ends when there is nothing more to learn."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import subprocess
import sys
from importlib.util import find_spec

import pytest
from support.needs import need
from support.tiny_sft import TINY

from code_alpaca.cli import main


@pytest.fixture
def words(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([
        {"instruction": f"Return {n}.", "input": "", "output": f"return {n}\n" * (1 + n % 5)}
        for n in range(48)
    ]))  # fmt: skip
    return ["sft", *TINY, "--dataset_name", str(path), "--output_dir", str(tmp_path / "out")]


def metrics(tmp_path):
    return [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").open()]


def test_tokens_are_counted_without_padding(words, tmp_path, capsys):
    assert main([*words, "--num_train_epochs", "1", "--logging_steps", "1"]) == 0
    report = json.loads((tmp_path / "out/run.json").read_text())
    lines = metrics(tmp_path)
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert lines[-1]["num_tokens"] == report["tokens"] == report["counts"]["tokens"]
    assert all(line["tokens_per_second"] > 0 and line["memory_gib"] > 0 for line in lines)
    assert all(math.isfinite(line["loss"]) and line["learning_rate"] >= 0 for line in lines)
    assert 0 <= report["padded_share"] < 0.5
    assert report["mfu"] is None  # nobody names the peak of this CPU
    assert report["hardware"]["gpus"] == [] and report["versions"]["torch"]
    shown = capsys.readouterr().out
    assert "step 3/3" in shown and "tokens/s" in shown and "0 s left" in shown


def test_a_loss_that_is_no_number_stops_it_and_the_batch_is_named(words, tmp_path, capsys):
    more = ["--learning_rate", "1e30", "--max_grad_norm", "0", "--warmup_steps", "0",
            "--num_train_epochs", "9", "--save_strategy", "steps", "--save_steps", "1"]  # fmt: skip
    assert main([*words, *more]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "step" in error and ("it starts with" in error or "blind guessing" in error)
    assert not (tmp_path / "out/run.json").exists()


def test_a_loss_far_above_blind_guessing_stops_it(words, capsys):
    more = ["--learning_rate", "3", "--max_grad_norm", "0", "--warmup_steps", "0",
            "--num_train_epochs", "30", "--logging_steps", "1"]  # fmt: skip
    assert main([*words, *more]) == 1
    assert "lower the learning rate" in capsys.readouterr().err


def test_going_on_leaves_no_step_twice(words, tmp_path):
    assert main([*words, "--logging_steps", "1"]) == 0
    before = metrics(tmp_path)
    (tmp_path / "out/run.json").unlink()  # as if killed between the last checkpoint and the end
    with (tmp_path / "out/metrics.jsonl").open("a") as file:
        file.write('{"step": 99, "loss": 1.0}\n{"step": 10')
    assert main([*words, "--logging_steps", "1"]) == 0
    assert metrics(tmp_path) == before


def test_trackers_get_what_is_measured(words, tmp_path, monkeypatch):
    need(find_spec("trackio"), "trackio is not installed (pip install trackio)")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    more = ["--logging_steps", "1", "--num_train_epochs", "1", "--report_to", "trackio"]
    more += ["--project", "code-alpaca", "--run_name", "tiny"]
    done = subprocess.run(
        [sys.executable, "-m", "code_alpaca.cli", *words, *more], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with sqlite3.connect(tmp_path / "trackio/code-alpaca.db") as store:
        logs = [json.loads(row[0]) for row in store.execute("SELECT metrics FROM metrics")]
    ours = metrics(tmp_path)
    for name in ("loss", "learning_rate", "tokens_per_second", "memory_gib", "seconds_left"):
        told = [log[f"train/{name}"] for log in logs if f"train/{name}" in log]
        assert told == [line[name] for line in ours], name


@pytest.mark.parametrize(
    ("tracker", "said"),
    [("swanlab", "report_to: swanlab is not installed; pip install swanlab"),
     ("trackoi", "report_to knows no tracker 'trackoi'; there are")],
)  # fmt: skip
def test_a_tracker_that_is_not_there_is_one_line(words, tracker, said, capsys):
    assert main([*words, "--report_to", tracker]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_seconds_to_the_first_step_are_told(words, tmp_path):
    assert main(words) == 0
    assert json.loads((tmp_path / "out/run.json").read_text())["seconds_to_first_step"] > 0


ASKED = """
import sys
from code_alpaca.cli import main
main(sys.argv[1:])
from huggingface_hub import constants
print(constants.HF_HUB_DISABLE_TELEMETRY)
"""


@pytest.mark.parametrize("asked", [None, "0"])
def test_nobody_is_told_of_a_training_unless_asked_for(words, asked):
    """TRL tells huggingface.co of every trainer, if this switch, read at import, is off."""
    env = {key: value for key, value in os.environ.items() if "TELEMETRY" not in key}
    env |= {"HF_HUB_DISABLE_TELEMETRY": asked} if asked else {}
    done = subprocess.run(
        [sys.executable, "-c", ASKED, *words, "--dry_run", "true"],
        capture_output=True, text=True, env=env, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == str(asked is None)
