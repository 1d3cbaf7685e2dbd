"""The memory estimate agrees with published formulas and with measured peaks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
from support.documents import ROOT
from support.tiny_sft import RECIPE, TINY_SHAPE, write_rows

from code_alpaca.core.records import RunRecord
from code_alpaca.training.memory_estimate import (
    MicroBatch,
    build_skeleton,
    fake_tensors,
    measure_activations,
    measure_size,
)
from code_alpaca.training.model_state_memory import GIB, ModelSize, compute_memory_need
from code_alpaca.training.parallelism import ParallelLayout, read_accelerate_config
from code_alpaca.training.scratch_model import build_scratch_model

CONFIGS = Path(str(resources.files("code_alpaca") / "data/shapes"))
# As published with the models.
PARAMETERS = {
    "huggyllama--llama-7b": 6_738_415_616,
    "huggyllama--llama-13b": 13_015_864_320,
    "Qwen--Qwen2.5-Coder-1.5B": 1_543_714_304,
    "Qwen--Qwen2.5-Coder-7B": 7_615_616_512,
}
ADAMW = "adamw_torch_fused"


def measure(config, batch, *, activation_checkpointing=False, peft_config=None):
    import torch

    with fake_tensors():
        model = build_skeleton(config, torch.bfloat16, peft_config)
        size = measure_size(model, quantized=False, mixed_precision=False)
        activations = measure_activations(
            model, batch, autocast=False, activation_checkpointing=activation_checkpointing,
            on_cpu=False,
        )  # fmt: skip
    return size, activations


@pytest.mark.parametrize("name", PARAMETERS)
def test_shipped_configs_have_the_published_number_of_parameters(name):
    import torch
    from transformers import AutoConfig

    assert {path.stem for path in CONFIGS.iterdir()} == set(PARAMETERS)
    values = json.loads((CONFIGS / f"{name}.json").read_text())
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    with fake_tensors():
        model = build_skeleton(config, torch.bfloat16)
        size = measure_size(model, quantized=False, mixed_precision=True)
    assert size.parameters == PARAMETERS[name]


@pytest.mark.parametrize("world_size", [4, 8])
def test_states_agree_with_the_estimators_of_deepspeed(world_size):
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    parameters, largest_layer = PARAMETERS["huggyllama--llama-7b"], 131_072_000
    model = ModelSize(parameters, parameters, largest_layer, 2.0, mixed_precision=True)
    _, expected = estimate_zero2_model_states_mem_needs(parameters, world_size, 1, False)
    need = compute_memory_need(model, ParallelLayout("zero2", world_size), 0.0, optimizer=ADAMW)
    assert need.states == pytest.approx(expected, rel=0.001)
    _, expected, largest = estimate_zero3_model_states_mem_needs(
        parameters, largest_layer, world_size, 1, False, False
    )
    need = compute_memory_need(model, ParallelLayout("zero3", world_size), 0.0, optimizer=ADAMW)
    # DeepSpeed's estimate leaves out the sharded 16-bit gradients.
    assert need.states == pytest.approx(expected - largest, rel=0.15)


def test_offloading_moves_states_to_the_host():
    model = ModelSize(7 * GIB, 7 * GIB, GIB, 2.0, mixed_precision=True)
    sharded = ParallelLayout("zero3", 8)
    offloaded = ParallelLayout("zero3", 8, offload_optimizer=True, offload_weights=True)
    on_device = compute_memory_need(model, sharded, GIB, optimizer=ADAMW)
    on_host = compute_memory_need(model, offloaded, GIB, optimizer=ADAMW)
    # 2 bytes for weights; 4 + 4 + 8 for the optimizer's weights, gradients and moments.
    assert on_host.states == 0 and on_host.host == pytest.approx(18 * 7 * GIB * 1.5)
    assert on_host.device < on_device.device and on_device.host == 0


def test_activation_checkpointing_frees_the_activations_of_layers():
    from transformers import LlamaConfig

    def bytes_of_layers(batch, **options):
        """Return the difference between models of ten and two layers."""
        two, ten = (
            measure(
                LlamaConfig(hidden_size=256, num_hidden_layers=num_layers, num_attention_heads=4,
                            intermediate_size=768, vocab_size=1000),
                batch, **options,
            )[1]
            for num_layers in (2, 10)
        )  # fmt: skip
        return ten - two

    kept = bytes_of_layers(MicroBatch(8, 128))
    assert bytes_of_layers(MicroBatch(4, 128)) == pytest.approx(kept / 2, rel=0.05)
    checkpointed = bytes_of_layers(MicroBatch(8, 128), activation_checkpointing=True)
    assert checkpointed < kept / 10


def test_an_adapter_has_few_trainable_parameters():
    from peft import LoraConfig
    from transformers import LlamaConfig

    config = LlamaConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=2,
                         intermediate_size=128, vocab_size=500)  # fmt: skip
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    size, activations = measure(config, MicroBatch(2, 32), peft_config=lora)
    # Four projections of 64 x 64, two of 64 x 128 and one of 128 x 64, in each of two layers.
    assert size.trainable == 2 * 4 * (4 * (64 + 64) + 3 * (64 + 128))
    assert activations > 0


def test_layouts_are_those_that_accelerate_starts():
    layouts = {
        path.stem: read_accelerate_config(path)
        for path in (ROOT / "accelerate_configs").glob("*.yaml")
    }
    assert layouts["ddp"] == ParallelLayout("ddp", 8)
    assert layouts["zero2"] == ParallelLayout("zero2", 8)
    assert layouts["zero3_offload"] == ParallelLayout(
        "zero3", 8, offload_optimizer=True, offload_weights=True
    )
    assert layouts["fsdp2"] == ParallelLayout("fsdp2", 8)
    assert layouts["multi-node"].num_machines > 1
    assert layouts["cpu_zero3"] == ParallelLayout("zero3", 2, on_cpu=True)


def test_merging_an_adapter_can_need_more_than_training():
    model = ModelSize(7 * GIB, GIB // 100, GIB, 2.0, mixed_precision=True,
                      merged_bytes_per_param=2.0)  # fmt: skip
    on_cpu, on_gpu = ParallelLayout("ddp", 1, on_cpu=True), ParallelLayout("ddp", 1)
    need = compute_memory_need(model, on_cpu, GIB, optimizer=ADAMW)
    assert need.peaks_at_merge and need.device > 2 * 14 * GIB
    assert not compute_memory_need(model, on_cpu, 20 * GIB, optimizer=ADAMW).peaks_at_merge
    need = compute_memory_need(model, on_gpu, GIB, optimizer=ADAMW)
    assert need.host == 14 * GIB and need.device < 20 * GIB


@pytest.fixture(scope="module")
def large_model(tmp_path_factory):
    """Thirty million random weights, so that they and not the libraries fill the memory."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("large")
    write_rows(folder / "rows.json", 8, lambda n: f"print({n})\n" * 40)
    build_scratch_model(["print(0123456789)\n"], TINY_SHAPE)[1].save_pretrained(folder / "model")
    config = LlamaConfig(vocab_size=4096, hidden_size=640, intermediate_size=1920,
                         num_hidden_layers=5, num_attention_heads=10)  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    return folder


def train_and_measure(command: list[str], output_dir: Path) -> tuple[float, float]:
    """Return the estimated and the measured peak memory of a training run, in GiB."""
    bin_dir = os.path.dirname(sys.executable)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu",
                   "PATH": f"{bin_dir}:{os.environ['PATH']}"}  # fmt: skip
    words = ["--output_dir", str(output_dir), "--max_steps", "2", "--save_strategy", "no"]
    done = subprocess.run(
        [sys.executable, "-m", *command, *words], cwd=ROOT, env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = RunRecord.load(output_dir)
    return record.preflight_memory_gib, record.peak_memory_gib


def sft(folder: Path, *words: str) -> list[str]:
    return ["code_alpaca.cli", "sft", "--model_name_or_path", str(folder / "model"),
            "--dataset_name", str(folder / "rows.json"), "--max_length", "256",
            "--per_device_train_batch_size", "4", "--use_cpu", "true", "--bf16", "false",
            *words]  # fmt: skip


@pytest.mark.parallel  # next to other tests, a process has another peak
@pytest.mark.parametrize("checkpointing", ["true", "false"])
def test_the_estimate_is_the_measured_peak(large_model, tmp_path, checkpointing):
    command = sft(large_model, "--activation_checkpointing", checkpointing)
    estimated, measured = train_and_measure(command, tmp_path / "out")
    assert estimated == pytest.approx(measured, rel=0.15)


@pytest.mark.parallel
def test_the_estimate_holds_for_a_small_model_with_a_large_head(tmp_path):
    rows = write_rows(tmp_path / "rows.json", 64, lambda n: f"print({n})\n" * 40)
    command = ["code_alpaca.cli", "sft", "--config", str(RECIPE), "--dataset_name", str(rows)]
    estimated, measured = train_and_measure(command, tmp_path / "out")
    assert estimated == pytest.approx(measured, rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", ["true", "false"])
def test_the_estimate_holds_for_an_adapter(large_model, tmp_path, checkpointing):
    words = ["--use_peft", "true", "--activation_checkpointing", checkpointing]
    estimated, measured = train_and_measure(sft(large_model, *words), tmp_path / "out")
    assert estimated == pytest.approx(measured, rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "zero2", "zero3"])
def test_the_estimate_holds_for_two_processes(large_model, tmp_path, strategy):
    launcher = ["accelerate.commands.launch", "--config_file",
                f"accelerate_configs/cpu_{strategy}.yaml", "-m"]  # fmt: skip
    if strategy == "ddp":
        launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    command = [*launcher, *sft(large_model, "--activation_checkpointing", "false")]
    estimated, measured = train_and_measure(command, tmp_path / "out")
    assert estimated == pytest.approx(measured, rel=0.15)
