"""Before training: does it fit, what would fit, what is trained on, and how long does it take?"""

from __future__ import annotations

import contextlib
import functools
import io
import re
from pathlib import Path

import pytest
from support.documents import ROOT
from support.tiny_sft import TINY, TINY_SHAPE, tiny_sft, write_rows

from code_alpaca.cli import main
from code_alpaca.core.errors import InputError
from code_alpaca.training.checks import require_bfloat16, require_build_tools, require_devices
from code_alpaca.training.model_loading import (
    HUB_FLASH_ATTENTION,
    fastest_attention,
)
from code_alpaca.training.parallelism import ParallelLayout
from code_alpaca.training.scratch_model import build_scratch_model

RECIPES = sorted(ROOT.glob("recipes/*/sft/*.yaml"))
ACCELERATE_CONFIGS = sorted(ROOT.glob("accelerate_configs/*.yaml"))
COMMAND = re.compile(r"^# Command:\s+code-alpaca (sft .*)$", re.M)
MEMORY = re.compile(r"^# Memory:\s+([\d.]+) GiB", re.M)
NEEDED = re.compile(r"^sft +memory .*: each (GPU|process) needs ([\d.]+)", re.M)
# LLaMA 7B's number of parameters in six wide layers, which are traced faster than its 32.
WIDE = dict(hidden_size=8192, intermediate_size=28672, num_hidden_layers=6,
            num_attention_heads=64, vocab_size=32000)  # fmt: skip


@functools.cache
def dry_run(*words: str) -> tuple[int, str, str]:
    """Return exit code, output and errors of `sft ... --dry_run`, without network."""
    output, errors = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(ROOT),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        code = main(["sft", *words, "--dry_run"])
    return code, output.getvalue(), errors.getvalue()


def plan(*words: str) -> str:
    """Return the output of a dry run that succeeds."""
    code, output, errors = dry_run(*words)
    assert code == 0, errors
    return output


@pytest.fixture(scope="module")
def paths(rows, tmp_path_factory):
    """The options for rows and an output_dir that a dry run must not create."""
    output_dir = tmp_path_factory.mktemp("planned") / "out"
    yield ["--dataset_name", str(rows), "--output_dir", str(output_dir)]
    assert not output_dir.exists()


@pytest.fixture(scope="module")
def wide(paths, tmp_path_factory):
    """The options of a full fine-tuning of a model as large as LLaMA 7B."""
    from transformers import LlamaConfig

    folder = tmp_path_factory.mktemp("wide")
    LlamaConfig(**WIDE).save_pretrained(folder)
    build_scratch_model(["abc"], TINY_SHAPE)[1].save_pretrained(folder)
    config = ["--config", "recipes/llama-7b/sft/config_full.yaml"]
    return [*config, "--model_name_or_path", str(folder), *paths]


def command_of(recipe: Path) -> list[str]:
    """Return the words of a recipe's command after `sft`, without its dataset."""
    words = COMMAND.search(recipe.read_text())[1].split()[1:]
    if "--dataset_name" in words:
        index = words.index("--dataset_name")
        del words[index : index + 2]
    return words


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parts[-3]}/{path.stem}")
def test_the_command_of_every_recipe_needs_the_memory_of_its_header(path, paths):
    output = plan(*command_of(path), *paths)
    device, needed = NEEDED.search(output).groups()
    is_smoke = path.parts[-3] == "smoke"
    assert device == ("process" if is_smoke else "GPU")
    documented = float(MEMORY.search(path.read_text())[1])
    # On a CPU the memory depends on the machine and the rows.
    assert is_smoke or documented == pytest.approx(float(needed), rel=0.05)
    assert "rows per optimizer step" in output and "nothing was trained" in output


@pytest.mark.parametrize("config", [path.stem for path in ACCELERATE_CONFIGS])
def test_every_accelerate_config_is_planned(config, paths):
    output = plan("--accelerate_config", config, *TINY, *paths)
    assert "memory" in output and "rows      60 rows" in output


def test_the_table_of_accelerate_configs_contains_the_estimates(paths):
    table = (ROOT / "recipes/README.md").read_text()
    column = {"llama-7b": 0, "qwen2.5-coder-7b": 3}
    for config, model, options in (
        ("zero2", "llama-7b", []),
        ("fsdp2", "llama-7b", []),
        ("ddp", "llama-7b", ["--gpu_memory_gib", "80"]),
        ("zero3_offload", "qwen2.5-coder-7b", []),
    ):
        cells = re.search(rf"^\| `{config}` \|[^|]*\|(.*)\|$", table, re.M)[1].split("|")
        cell = cells[column[model]].strip()
        recipe = f"recipes/{model}/sft/config_full.yaml"
        output = plan("--accelerate_config", config, "--config", recipe, *paths, *options)
        needed = float(NEEDED.search(output)[2])
        assert float(cell.rstrip("*")) == pytest.approx(needed, rel=0.05)
        assert cell.endswith("*") == ("activation checkpointing" in output), (config, model)


def test_a_run_that_does_not_fit_is_refused_with_options_that_fit(wide):
    ddp = ["--accelerate_config", "ddp", *wide]
    code, _, error = dry_run(*ddp, "--gpu_memory_gib", "40")
    assert code == 2 and error.count("\n") == 1
    assert "does not fit" in error
    advised = re.search(
        r"this would fit, [^:]* with ([\d.]+) GiB each[^:]*: --accelerate_config (\w+)", error
    )
    assert float(advised[1]) <= 40
    plan("--accelerate_config", advised[2], *wide, "--gpu_memory_gib", "40")
    code, _, error = dry_run(*ddp, "--gpu_memory_gib", "1", "--activation_checkpointing", "1")
    assert code == 2 and "use a smaller model" in error


@pytest.mark.parametrize(("gib", "checkpointing"), [(80, False), (40, True)])
def test_activations_are_checkpointed_only_if_memory_requires_it(wide, gib, checkpointing):
    output = plan("--accelerate_config", "zero2", *wide, "--gpu_memory_gib", str(gib))
    assert ("activation checkpointing" in output) == checkpointing


def test_merging_an_adapter_needs_the_full_model_on_the_host(wide):
    lora = ["--use_peft", "true", *wide]
    parameters = int(re.search(r"([\d,]+) parameters", plan(*lora))[1].replace(",", ""))
    host = f"each host {parameters * 2 / 2**30:.1f}"  # 2 bytes per parameter
    assert host in plan(*lora)
    assert "each host" not in plan(*lora, "--merge_adapter", "false")


def test_a_model_too_large_for_this_machine_is_refused_before_it_is_read(rows, tmp_path, capsys):
    from transformers import LlamaConfig

    folder = tmp_path / "base"
    build_scratch_model(["abc"], TINY_SHAPE)[1].save_pretrained(folder)
    LlamaConfig(**{**WIDE, "hidden_size": 131072}).save_pretrained(folder)  # without weights
    words = ["--model_name_or_path", str(folder), "--dataset_name", str(rows), "--output_dir",
             str(tmp_path / "out"), "--use_cpu", "true", "--bf16", "false"]  # fmt: skip
    assert main(["sft", *words]) == 2
    assert "does not fit: each process needs" in capsys.readouterr().err


def test_a_dry_run_previews_three_rows_with_their_loss_tokens(paths):
    output = plan(*TINY, *paths)
    assert "60 rows" in output and "about 8 steps" in output
    assert "16 rows per optimizer step" in output
    assert re.search(r"\(weights [\d.]+ MiB, .*, libraries [\d.]+ GiB\)", output)  # each its unit
    assert output.count("loss tokens between") == 3
    assert "### Response:⟦return 0</s>⟧" in output
    assert "BOS '<s>' 1, EOS '</s>' 2, PAD '<pad>' 0" in output
    assert "in 0 of 60 rows, tokenizing prompt and completion together" in output


def test_a_dry_run_checks_a_folder_and_does_not_change_it(tmp_path, capsys):
    (tmp_path / "model.safetensors").write_bytes(b"precious")
    words = tiny_sft(write_rows(tmp_path / "rows.json", 4), tmp_path, "--dry_run")
    assert main(words) == 2 and "did not write" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "rows.json"}


def test_a_run_is_planned_before_there_are_rows(wide, tmp_path):
    missing = str(tmp_path / "none")
    output = plan("--accelerate_config", "zero3", *wide, "--dataset_name", missing)
    assert "rows      not read: no dataset at" in output
    assert "rows per packed sequence unknown" in output and "each GPU needs" in output


def test_a_recipe_for_gpus_is_refused_on_a_machine_without_them(paths, capsys):
    recipe = ROOT / "recipes/llama-7b/sft/config_full.yaml"
    assert main(["sft", "--config", str(recipe), *paths]) == 2
    assert "this config is for GPUs, and this machine has none" in capsys.readouterr().err


def test_a_layout_with_more_processes_than_gpus_is_refused():
    with pytest.raises(InputError, match="starts 8 processes on this machine, which has 0 GPUs;"):
        require_devices(ParallelLayout("zero3", 8))
    require_devices(ParallelLayout("zero3", 8, on_cpu=True))


@pytest.mark.parametrize(
    ("support", "options", "attention"),
    [
        (dict(ampere=True, installed=True, hub=True), {}, "flash_attention_2"),
        (dict(ampere=True, installed=False, hub=True), {}, HUB_FLASH_ATTENTION),
        (dict(ampere=True, installed=False, hub=False), {}, "sdpa"),
        (dict(ampere=False, installed=True, hub=True), {}, "sdpa"),  # V100, T4
        (dict(ampere=True, installed=True, hub=True), {"half_precision": False}, "sdpa"),
        # The Hub cannot be reached, or has no build for this machine.
        (dict(ampere=True, installed=False, hub=True), {"load_kernel": True}, "sdpa"),
    ],
)
def test_attention_is_the_fastest_that_works(support, options, attention):
    options = {"half_precision": True, **options}
    assert fastest_attention(**support, **options) == attention


def test_bfloat16_is_refused_on_a_gpu_that_only_emulates_it():
    from trl import SFTConfig

    bfloat16 = SFTConfig(use_cpu=True, bf16=True)
    require_bfloat16(bfloat16, native=True, device="NVIDIA A100-SXM4-80GB")
    with pytest.raises(InputError, match=r"Tesla T4 has no native bfloat16; --bf16 false --fp16"):
        require_bfloat16(bfloat16, native=False, device="Tesla T4")
    require_bfloat16(SFTConfig(use_cpu=True, bf16=False), native=False, device="Tesla T4")


def test_missing_build_tools_are_named_and_pip_installed_ninja_is_found(monkeypatch):
    import shutil

    layout = ParallelLayout("zero3", 2, on_cpu=True)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match=r"needs g\+\+ on PATH"):
        require_build_tools(layout)
    assert shutil.which("ninja")
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match=r"needs ninja and g\+\+ on PATH"):
        require_build_tools(layout)
    require_build_tools(ParallelLayout("zero3", 8))
