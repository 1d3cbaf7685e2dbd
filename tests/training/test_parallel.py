"""Training in two processes is the training of one, even when it is killed on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support.tiny_sft import ROOT, TINY

from code_alpaca.cli import main

pytestmark = pytest.mark.parallel

STEPS = 4
PATIENCE = 300  # seconds, for a launch on a busy machine that still has to build DeepSpeed's parts
LAYOUTS = {
    "ddp": "DDP on 2 processes",
    "cpu_zero2": "ZeRO-2 on 2 processes",
    "cpu_zero3": "ZeRO-3 on 2 processes",
    "cpu_zero3_offload": "ZeRO-3 with offload on 2 processes",
}


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """The words of a training of four steps and two checkpoints, up to its output_dir."""
    path = tmp_path_factory.mktemp("data") / "rows.json"
    path.write_text(json.dumps([
        {"instruction": f"Return {n}.", "input": "x" * n, "output": f"return {n}\n" * (1 + n % 3)}
        for n in range(64)
    ]))  # fmt: skip
    return ["sft", *TINY, "--dataset_name", str(path), "--per_device_train_batch_size", "4",
            "--target_examples_per_step", "16", "--max_steps", str(STEPS), "--logging_steps", "1",
            "--train_sampling_strategy", "sequential", "--save_strategy", "steps",
            "--save_steps", "2", "--save_total_limit", "5", "--output_dir"]  # fmt: skip


@pytest.fixture(scope="module")
def alone(words, tmp_path_factory):
    """One process, with the whole batch and without trouble."""
    out = tmp_path_factory.mktemp("alone")
    assert main([*words, str(out)]) == 0
    return out


def begin(layout: str, words: list[str]) -> subprocess.Popen[str]:
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    if layout != "ddp":
        launcher = ["accelerate.commands.launch", "--config_file",
                    f"accelerate_configs/{layout}.yaml"]  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", *launcher, "-m", "code_alpaca.cli", *words], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def end(process: subprocess.Popen[str]) -> str:
    """What it printed by the time it was done."""
    try:
        shown, errors = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        kill(process)
        raise
    assert process.returncode == 0, errors
    return shown


def kill(process: subprocess.Popen[str]) -> None:
    """Kill -9 the launcher and its ranks."""
    launcher = psutil.Process(process.pid)
    for each in [launcher, *launcher.children(recursive=True)]:
        each.kill()
    process.communicate()


def begin_and_kill(layout: str, words: list[str], out: Path) -> None:
    """Kill it once its first checkpoint is whole, and before it is done."""
    process, until = begin(layout, [*words, str(out)]), time.monotonic() + PATIENCE
    while not (out / "checkpoint-2/whole").exists() and time.monotonic() < until:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    kill(process)
    assert (out / "checkpoint-2/whole").exists() and not (out / "run.json").exists()


def assert_same_training(out: Path, alone: Path) -> None:
    from safetensors.torch import load_file

    one, two = (json.loads((each / "run.json").read_text()) for each in (alone, out))
    assert two["processes"] == 2 and two["parameters"] == one["parameters"]
    losses = [[loss for _, loss in each["loss_curve"]] for each in (one, two)]
    assert len(losses[0]) == STEPS and losses[1] == pytest.approx(losses[0], abs=1e-3)
    expected, found = (load_file(each / "model.safetensors") for each in (alone, out))
    # DeepSpeed writes the head that is tied to the embedding a second time.
    assert found.keys() - expected.keys() <= {"lm_head.weight"}
    for name, weights in expected.items():
        assert weights.allclose(found[name].float(), rtol=0, atol=1e-6), name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_killed_on_the_way_it_ends_like_one_process(layout, words, alone, tmp_path, capsys):
    out = tmp_path / "model"
    begin_and_kill(layout, words, out)
    if layout != "ddp":  # DeepSpeed's parts fit no other layout
        assert main([*words, str(out)]) == 2
        assert f"deepspeed: '{LAYOUTS[layout]}' there, None now" in capsys.readouterr().err
    shown = end(begin(layout, [*words, str(out)]))
    assert f"memory    {LAYOUTS[layout]}" in shown
    assert "2 processes x 4 sequences x 2 accumulated" in shown
    assert f"going on from {out}/checkpoint-" in shown and "step 1/4" not in shown
    assert_same_training(out, alone)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_undisturbed_it_ends_like_one_process(layout, words, alone, tmp_path):
    end(begin(layout, [*words, str(tmp_path / "model")]))
    assert_same_training(tmp_path / "model", alone)
