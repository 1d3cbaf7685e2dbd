"""Memory is known before training: by formulas that others publish, and against real peaks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from code_alpaca.training import activation_memory
from code_alpaca.training.activation_memory import GIB, Batch
from code_alpaca.training.parallelism import Layout, of_file

ROOT = Path(__file__).parents[2]
SHAPES = ROOT / "src/code_alpaca/data/shapes"
# As published with the models.
PARAMETERS = {
    "huggyllama--llama-7b": 6_738_415_616,
    "huggyllama--llama-13b": 13_015_864_320,
    "Qwen--Qwen2.5-Coder-1.5B": 1_543_714_304,
    "Qwen--Qwen2.5-Coder-7B": 7_615_616_512,
}


def shape(name):
    from transformers import AutoConfig

    values = json.loads((SHAPES / f"{name}.json").read_text())
    return AutoConfig.for_model(values.pop("model_type"), **values)


def traced(
    config, batch, *, checkpointing=False, peft=None, mixed=False, dtype="bfloat16", on_cpu=False
):
    import torch

    with activation_memory.without_data():
        model = activation_memory.skeleton(config, getattr(torch, dtype), peft)
        sizes = activation_memory.sizes(model, quantized=False, mixed=mixed)
        return sizes, activation_memory.activations(
            model, batch, mixed=mixed, checkpointing=checkpointing, on_cpu=on_cpu
        )


@pytest.mark.parametrize("name", PARAMETERS)
def test_shipped_shapes_have_the_published_numbers_of_parameters(name):
    import torch

    assert {path.stem for path in SHAPES.iterdir()} == set(PARAMETERS)
    with activation_memory.without_data():
        model = activation_memory.skeleton(shape(name), torch.bfloat16)
        assert (
            activation_memory.sizes(model, quantized=False, mixed=True).parameters
            == PARAMETERS[name]
        )


@pytest.mark.parametrize("processes", [4, 8])
def test_states_are_what_deepspeed_reckons(processes):
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    parameters = PARAMETERS["huggyllama--llama-7b"]
    model = activation_memory.Model(parameters, parameters, 131_072_000, 2.0, mixed=True)
    _, expected = estimate_zero2_model_states_mem_needs(parameters, processes, 1, False)
    found = activation_memory.needed(
        model, Layout("zero2", processes), 0.0, optim="adamw_torch_fused"
    )
    assert found.states == pytest.approx(expected, rel=0.001)
    _, expected, largest = estimate_zero3_model_states_mem_needs(
        parameters, 131_072_000, processes, 1, False, False
    )
    found = activation_memory.needed(
        model, Layout("zero3", processes), 0.0, optim="adamw_torch_fused"
    )
    assert found.states == pytest.approx(expected - largest, rel=0.15)  # they leave out 2 / shares


def test_offloading_moves_states_to_the_host():
    model = activation_memory.Model(7 * GIB, 7 * GIB, GIB, 2.0, mixed=True)
    here = activation_memory.needed(model, Layout("zero3", 8), GIB, optim="adamw_torch")
    away = activation_memory.needed(
        model, Layout("zero3", 8, offload_optimizer=True, offload_weights=True), GIB,
        optim="adamw_torch",
    )  # fmt: skip
    # 2 bytes for weights, 4 + 4 + 8 for the optimizer's own, its gradients and its moments.
    assert away.states == 0 and away.host == pytest.approx(18 * 7 * GIB * 1.5)
    assert away.device < here.device and here.host == 0


def test_layers_that_are_checkpointed_need_next_to_nothing():
    from transformers import LlamaConfig

    def growth(batch, **how):
        few, many = (
            traced(
                LlamaConfig(hidden_size=256, num_hidden_layers=layers, num_attention_heads=4,
                            intermediate_size=768, vocab_size=1000),
                batch, **how,
            )[1]
            for layers in (2, 10)
        )  # fmt: skip
        return many - few

    whole = growth(Batch(8, 128))
    assert growth(Batch(4, 128)) == pytest.approx(whole / 2, rel=0.05)
    assert growth(Batch(8, 128), checkpointing=True) < whole / 10


def test_an_adapter_learns_few_weights():
    from peft import LoraConfig
    from transformers import LlamaConfig

    config = LlamaConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=2,
                         intermediate_size=128, vocab_size=500)  # fmt: skip
    peft = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    sizes, activated = traced(config, Batch(2, 32), peft=peft)
    # Four projections of 64 x 64, two of 64 x 128 and one of 128 x 64, in each of two layers.
    assert sizes.trainable == 2 * 4 * (4 * (64 + 64) + 3 * (64 + 128))
    assert activated > 0


def test_accelerate_configs_are_read_as_accelerate_reads_them():
    found = {path.stem: of_file(path) for path in (ROOT / "accelerate_configs").glob("*.yaml")}
    assert found["ddp"] == Layout("ddp", 8)
    assert found["zero2"] == Layout("zero2", 8)
    assert found["zero3_offload"] == Layout(
        "zero3", 8, offload_optimizer=True, offload_weights=True
    )
    assert found["fsdp2"] == Layout("fsdp2", 8)
    assert found["multi-node"].machines > 1
    assert found["cpu_zero3"] == Layout("zero3", 2, on_cpu=True)


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """Thirty million random weights, so that they and not the libraries fill the memory."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from code_alpaca.training.scratch_model import ScratchShape, build_scratch_model

    folder = tmp_path_factory.mktemp("big")
    rows = [
        {"instruction": f"Write {n}.", "input": "", "output": f"print({n})\n" * 40}
        for n in range(8)
    ]
    (folder / "rows.json").write_text(json.dumps(rows))
    _, tokenizer = build_scratch_model(
        [row["output"] for row in rows],
        ScratchShape(vocab_size=300, hidden_size=32, num_layers=1, num_heads=2),
    )
    config = LlamaConfig(vocab_size=4096, hidden_size=640, intermediate_size=1920,
                         num_hidden_layers=5, num_attention_heads=10)  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder


def peaks(big, out, launch, *words):
    command = [
        sys.executable, "-m", *launch, "code_alpaca.cli", "sft",
        "--model_name_or_path", str(big / "model"), "--dataset_name", str(big / "rows.json"),
        "--output_dir", str(out), "--max_steps", "2", "--save_strategy", "no",
        "--max_length", "256", "--per_device_train_batch_size", "4", "--use_cpu", "true",
        "--bf16", "false", *words,
    ]  # fmt: skip
    folder = os.path.dirname(sys.executable)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu",
                   "PATH": f"{folder}:{os.environ['PATH']}"}  # fmt: skip
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "run.json").read_text())
    return report["preflight_memory_gib"], report["peak_memory_gib"]


@pytest.mark.parallel  # beside other tests the peak of a process is another one
@pytest.mark.parametrize("checkpointing", ["true", "false"])
def test_what_is_foretold_is_what_is_used(big, tmp_path, checkpointing):
    foretold, used = peaks(big, tmp_path / "out", [], "--activation_checkpointing", checkpointing)
    assert foretold == pytest.approx(used, rel=0.15)


@pytest.mark.parallel
def test_also_for_a_small_model_whose_head_is_most_of_it(tmp_path):
    rows = [{"instruction": f"Write {n}.", "input": "", "output": f"print({n})\n" * 40}
            for n in range(64)]  # fmt: skip
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    words = [sys.executable, "-m", "code_alpaca.cli", "sft", "--config",
             str(ROOT / "recipes/smoke/sft/config_cpu.yaml"), "--dataset_name",
             str(tmp_path / "rows.json"), "--output_dir", str(tmp_path / "out"), "--max_steps", "2",
             "--save_strategy", "no"]  # fmt: skip
    subprocess.run(words, cwd=ROOT, capture_output=True, check=True)
    report = json.loads((tmp_path / "out/run.json").read_text())
    assert report["preflight_memory_gib"] == pytest.approx(report["peak_memory_gib"], rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", ["true", "false"])
def test_also_where_an_adapter_is_learned(big, tmp_path, checkpointing):
    words = ["--use_peft", "true", "--activation_checkpointing", checkpointing]
    foretold, used = peaks(big, tmp_path / "out", [], *words)
    assert foretold == pytest.approx(used, rel=0.15)


def test_merging_an_adapter_may_be_the_worst_moment():
    model = activation_memory.Model(7 * GIB, GIB // 100, GIB, 2.0, mixed=True, merged_bytes=2.0)
    need = activation_memory.needed(model, Layout("ddp", 1, on_cpu=True), GIB, optim="adamw_torch")
    assert need.merging_is_worst and need.device > 2 * 14 * GIB
    need = activation_memory.needed(
        model, Layout("ddp", 1, on_cpu=True), 20 * GIB, optim="adamw_torch"
    )
    assert not need.merging_is_worst
    on_gpu = activation_memory.needed(model, Layout("ddp", 1), GIB, optim="adamw_torch")
    assert on_gpu.host == 14 * GIB and on_gpu.device < 20 * GIB


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "zero2", "zero3"])
def test_also_in_two_processes(big, tmp_path, kind):
    launch = {
        "ddp": ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"],
        "zero2": ["accelerate.commands.launch", "--config_file",
                  "accelerate_configs/cpu_zero2.yaml", "-m"],
        "zero3": ["accelerate.commands.launch", "--config_file",
                  "accelerate_configs/cpu_zero3.yaml", "-m"],
    }[kind]  # fmt: skip
    foretold, used = peaks(big, tmp_path / "out", launch, "--activation_checkpointing", "false")
    assert foretold == pytest.approx(used, rel=0.15)
