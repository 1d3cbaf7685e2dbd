"""ZeRO in two processes is the training of one, and goes on after a kill as if there were none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from test_sft import ROOT, TINY

from code_alpaca.cli import main

pytestmark = pytest.mark.slow  # a minute and a half of launching, and DeepSpeed's own build

STEPS = 4
LOSS = {"abs": 1e-3}
LAUNCH = {
    "ddp": ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
    "zero2": ["accelerate.commands.launch", "--config_file", "accelerate_configs/cpu_zero2.yaml"],
    "zero3": ["accelerate.commands.launch", "--config_file", "accelerate_configs/cpu_zero3.yaml"],
}
BATCH = ["--per_device_train_batch_size", "4", "--target_examples_per_step", "16"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "rows.json"
    path.write_text(json.dumps([
        {"instruction": f"Return {n}.", "input": "x" * n, "output": f"return {n}\n" * (1 + n % 3)}
        for n in range(64)
    ]))  # fmt: skip
    return path


def begin(kind, rows, out):
    words = [*LAUNCH[kind], "-m", "code_alpaca.cli", "sft", *TINY, "--dataset_name", str(rows),
             "--output_dir", str(out), *BATCH, "--max_steps", str(STEPS), "--logging_steps", "1",
             "--train_sampling_strategy", "sequential", "--save_strategy", "steps",
             "--save_steps", "2", "--save_total_limit", "5"]  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}, text=True,
    )  # fmt: skip


def train(kind, rows, out):
    process = begin(kind, rows, out)
    shown, errors = process.communicate()
    assert process.returncode == 0, errors
    return shown


def report_of(out):
    return json.loads((out / "run.json").read_text())


def weights_of(out):
    from safetensors.torch import load_file

    return load_file(out / "model.safetensors")


@pytest.fixture(scope="module")
def alone(rows, tmp_path_factory):
    """One process, with the whole batch."""
    out = tmp_path_factory.mktemp("alone")
    words = ["sft", *TINY, "--dataset_name", str(rows), "--output_dir", str(out), *BATCH,
             "--max_steps", str(STEPS), "--logging_steps", "1",
             "--train_sampling_strategy", "sequential"]  # fmt: skip
    assert main(words) == 0
    return out


@pytest.fixture(scope="module", params=["ddp", "zero2", "zero3"])
def together(request, rows, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param) / "model"
    shown = train(request.param, rows, out)
    return request.param, out, shown


def test_losses_and_weights_are_those_of_one_process(together, alone):
    _, out, shown = together
    one, two = report_of(alone), report_of(out)
    assert two["processes"] == 2 and two["parameters"] == one["parameters"]
    assert "2 processes x 4 sequences x 2 accumulated" in shown
    losses = [[loss for _, loss in each["loss_curve"]] for each in (one, two)]
    assert len(losses[0]) == STEPS and losses[1] == pytest.approx(losses[0], **LOSS)
    expected, found = weights_of(alone), weights_of(out)
    # DeepSpeed writes the head that is tied to the embedding a second time.
    assert found.keys() - expected.keys() <= {"lm_head.weight"}
    for name, weights in expected.items():
        assert weights.allclose(found[name].float(), atol=1e-3), name


def test_killed_it_goes_on_as_if_it_had_not_been(together, rows, tmp_path):
    kind, whole, _ = together
    out = tmp_path / "model"
    process = begin(kind, rows, out)
    state = out / "checkpoint-2/trainer_state.json"
    while not state.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    subprocess.run(["pkill", "-9", "-f", str(out)], check=True)  # launcher and ranks
    process.wait()
    if kind == "zero3":  # its parts fit another stage as little as another number of processes
        refused = begin("zero2", rows, out)
        assert refused.wait() and not (out / "run.json").exists()
        assert "ZeRO-3 on 2 processes' there, 'ZeRO-2 on 2 processes' now" in refused.stderr.read()
    shutil.rmtree(out / "checkpoint-4", ignore_errors=True)  # half-written, if it was begun
    assert "going on from" in train(kind, rows, out)
    losses = [[loss for _, loss in report_of(each)["loss_curve"]] for each in (whole, out)]
    assert losses[1] == pytest.approx(losses[0], **LOSS)
    expected, found = weights_of(whole), weights_of(out)
    for name, weights in expected.items():
        assert weights.allclose(found[name], atol=1e-5), name
