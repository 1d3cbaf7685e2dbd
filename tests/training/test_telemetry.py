"""A run logs its metrics, also to trackers, and stops when it diverges."""

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
from support.tiny_sft import interrupt_before_end, read_metrics, tiny_sft, write_rows

from code_alpaca.cli import main
from code_alpaca.core.records import RunRecord
from code_alpaca.training.metrics import format_parameters

# Runs a command, then prints the switch that TRL and huggingface_hub read at import.
COMMAND_AND_SWITCH = """
import sys
from code_alpaca.cli import main
main(sys.argv[1:])
from huggingface_hub import constants
print("telemetry disabled:", constants.HF_HUB_DISABLE_TELEMETRY)
"""


@pytest.fixture(scope="module")
def uneven_rows(tmp_path_factory):
    """Rows of different lengths, so that batches have padding."""
    path = tmp_path_factory.mktemp("data") / "rows.json"
    return write_rows(path, 48, lambda n: f"return {n}\n" * (1 + n % 5))


@pytest.fixture
def words(uneven_rows, tmp_path):
    return tiny_sft(uneven_rows, tmp_path / "out")


def test_tokens_are_counted_without_padding(words, tmp_path, capsys):
    assert main([*words, "--num_train_epochs", "1", "--logging_steps", "1"]) == 0
    record, metrics = RunRecord.load(tmp_path / "out"), read_metrics(tmp_path / "out")
    assert [line["step"] for line in metrics] == [1, 2, 3]
    assert metrics[-1]["num_tokens"] == record.tokens == record.counts.tokens
    assert all(line["tokens_per_second"] > 0 and line["memory_gib"] > 0 for line in metrics)
    assert all(math.isfinite(line["loss"]) and line["learning_rate"] >= 0 for line in metrics)
    assert 0 <= record.padded_share < 0.5
    assert record.mfu is None  # the peak of a CPU is unknown
    assert record.seconds_to_first_step > 0
    assert record.hardware.gpus == [] and record.versions["torch"]
    output = capsys.readouterr().out
    assert "step 3/3" in output and "tokens/s" in output and "0 s left" in output


def test_a_batch_with_a_nan_loss_stops_the_run_and_is_shown(words, tmp_path, capsys):
    more = ["--learning_rate", "1e30", "--max_grad_norm", "0", "--warmup_steps", "0",
            "--num_train_epochs", "9", "--save_strategy", "steps", "--save_steps", "1"]  # fmt: skip
    assert main([*words, *more]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "training diverged" in error and "step" in error
    assert "the batch starts with" in error
    assert not (tmp_path / "out/run.json").exists()


def test_a_loss_far_above_uniform_guessing_stops_the_run(words, capsys):
    more = ["--learning_rate", "3", "--max_grad_norm", "0", "--warmup_steps", "0",
            "--num_train_epochs", "30", "--logging_steps", "1"]  # fmt: skip
    assert main([*words, *more]) == 1
    assert "lower the learning rate" in capsys.readouterr().err


def test_a_resume_logs_no_step_twice(words, tmp_path):
    words = [*words, "--logging_steps", "1"]
    assert main(words) == 0
    metrics = read_metrics(tmp_path / "out")
    interrupt_before_end(tmp_path / "out")
    with (tmp_path / "out/metrics.jsonl").open("a") as file:
        file.write('{"step": 99, "loss": 1.0}\n{"step": 10')
    assert main(words) == 0
    assert read_metrics(tmp_path / "out") == metrics


def test_trackers_receive_the_measurements_and_nobody_else_does(words, tmp_path):
    """In a new process, since trackio and huggingface_hub read their environment once."""
    need(find_spec("trackio"), "trackio is not installed (pip install trackio)")
    env = {key: value for key, value in os.environ.items() if "TELEMETRY" not in key}
    env["TRACKIO_DIR"] = str(tmp_path / "trackio")
    more = ["--logging_steps", "1", "--num_train_epochs", "1", "--report_to", "trackio"]
    more += ["--project", "code-alpaca", "--run_name", "tiny"]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND_AND_SWITCH, *words, *more], capture_output=True, text=True,
        env=env, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with sqlite3.connect(tmp_path / "trackio/code-alpaca.db") as store:
        logs = [json.loads(row[0]) for row in store.execute("SELECT metrics FROM metrics")]
    metrics = read_metrics(tmp_path / "out")
    for name in ("loss", "learning_rate", "tokens_per_second", "memory_gib", "seconds_left"):
        tracked = [log[f"train/{name}"] for log in logs if f"train/{name}" in log]
        assert tracked == [line[name] for line in metrics], name
    # TRL reports every trainer to huggingface.co unless this switch is on.
    assert "telemetry disabled: True" in done.stdout.splitlines()


@pytest.mark.parametrize(
    ("tracker", "message"),
    [("swanlab", "report_to: swanlab is not installed; pip install swanlab"),
     ("trackoi", "report_to: unknown tracker 'trackoi'; choose one of")],
)  # fmt: skip
def test_a_tracker_that_does_not_exist_is_refused(words, tracker, message, capsys):
    assert main([*words, "--report_to", tracker]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("count", "text"),
    [(25_504, "25,504"), (2_118_144, "2.1M"), (6_738_415_616, "6.7B")],
)
def test_numbers_of_parameters_are_readable_at_every_size(count, text):
    assert format_parameters(count) == text
