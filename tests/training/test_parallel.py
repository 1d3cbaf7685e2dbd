"""A run in two processes trains as a run in one, also after a kill."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support.documents import ROOT
from support.tiny_sft import interrupt_after_step, tiny_sft, write_rows

from code_alpaca.cli import main
from code_alpaca.core.records import RunRecord

pytestmark = pytest.mark.parallel

STEPS = 4
TIMEOUT_S = 300  # for a launch on a busy machine that also compiles DeepSpeed's extensions
CHECKPOINT = "checkpoint-2/complete.json"
LAYOUTS = {
    "ddp": "DDP on 2 processes",
    "cpu_zero2": "ZeRO-2 on 2 processes",
    "cpu_zero3": "ZeRO-3 on 2 processes",
    "cpu_zero3_offload": "ZeRO-3 with offload on 2 processes",
}


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Return a function that returns the command of a run with four steps and two checkpoints."""
    rows = write_rows(
        tmp_path_factory.mktemp("data") / "rows.json", 64, lambda n: f"return {n}\n" * (1 + n % 3)
    )

    def words(output_dir: Path) -> list[str]:
        return tiny_sft(
            rows, output_dir, "--per_device_train_batch_size", "4", "--target_examples_per_step",
            "16", "--max_steps", str(STEPS), "--logging_steps", "1", "--train_sampling_strategy",
            "sequential", "--save_strategy", "steps", "--save_steps", "2", "--save_total_limit",
            "5",
        )  # fmt: skip

    return words


@pytest.fixture(scope="module")
def one_process(command, tmp_path_factory):
    """One process, with the same global batch size."""
    output_dir = tmp_path_factory.mktemp("one")
    assert main(command(output_dir)) == 0
    return output_dir


def start(layout: str, words: list[str]) -> subprocess.Popen[str]:
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    if layout != "ddp":
        launcher = ["accelerate.commands.launch", "--config_file",
                    f"accelerate_configs/{layout}.yaml"]  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", *launcher, "-m", "code_alpaca.cli", *words], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a run, and return its output."""
    try:
        output, errors = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        kill(process)
        raise
    assert process.returncode == 0, errors
    return output


def kill(process: subprocess.Popen[str]) -> None:
    """Kill -9 the launcher and its ranks."""
    launcher = psutil.Process(process.pid)
    for victim in [launcher, *launcher.children(recursive=True)]:
        victim.kill()
    process.communicate()


def kill_after_checkpoint(layout: str, words: list[str], output_dir: Path) -> None:
    """Kill a run after its first checkpoint is complete, and before it ends."""
    process, deadline = start(layout, words), time.monotonic() + TIMEOUT_S
    while not (output_dir / CHECKPOINT).exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.02)
    kill(process)
    assert (output_dir / CHECKPOINT).exists() and not (output_dir / "run.json").exists()


def assert_same_training(output_dir: Path, expected_dir: Path) -> None:
    from safetensors.torch import load_file

    actual, expected = RunRecord.load(output_dir), RunRecord.load(expected_dir)
    assert actual.processes == 2 and actual.parameters == expected.parameters
    losses, expected_losses = ([loss for _, loss in run.loss_curve] for run in (actual, expected))
    assert len(expected_losses) == STEPS
    assert losses == pytest.approx(expected_losses, abs=1e-3)
    weights, expected_weights = (
        load_file(folder / "model.safetensors") for folder in (output_dir, expected_dir)
    )
    # DeepSpeed also writes the head, which is tied to the embedding.
    assert weights.keys() - expected_weights.keys() <= {"lm_head.weight"}
    for name, weight in expected_weights.items():
        assert weight.allclose(weights[name].float(), rtol=0, atol=1e-6), name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_killed_run_resumes_and_trains_as_one_process(
    layout, command, one_process, tmp_path, capsys
):
    output_dir = tmp_path / "model"
    words = command(output_dir)
    kill_after_checkpoint(layout, words, output_dir)
    if layout != "ddp":  # checkpoints that DeepSpeed sharded cannot be loaded in another layout
        assert main(words) == 2
        assert f"deepspeed: '{LAYOUTS[layout]}' -> None" in capsys.readouterr().err
    output = finish(start(layout, words))
    assert f"memory    {LAYOUTS[layout]}" in output
    assert "2 processes x 4 sequences x 2 micro-batches" in output
    assert f"resuming from {output_dir}/checkpoint-" in output and "step 1/4" not in output
    assert_same_training(output_dir, one_process)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_two_processes_train_as_one(layout, command, one_process, tmp_path):
    finish(start(layout, command(tmp_path / "model")))
    assert_same_training(tmp_path / "model", one_process)


@pytest.mark.parametrize("strategy", ["group_by_length", "batch_rebalance"])
def test_two_processes_killed_within_the_second_epoch_train_the_same_rows(
    strategy, command, tmp_path
):
    """Eight steps are two epochs; the checkpoint after the sixth is within the second."""
    words = ["--max_steps", "8", "--train_sampling_strategy", strategy]
    expected_dir, killed_dir = tmp_path / "expected", tmp_path / "killed"
    finish(start("ddp", [*command(expected_dir), *words]))
    shutil.copytree(expected_dir, killed_dir)
    interrupt_after_step(6, killed_dir)
    output = finish(start("ddp", [*command(killed_dir), *words]))
    assert f"resuming from {killed_dir}/checkpoint-6" in output
    weights, expected_weights = (
        (folder / "model.safetensors").read_bytes() for folder in (killed_dir, expected_dir)
    )
    assert weights == expected_weights
