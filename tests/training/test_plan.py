"""Before anything starts: will it fit, what will be learned, and what to do if it cannot be."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.tiny_sft import ROOT, TINY

from code_alpaca.cli import main
from code_alpaca.core.errors import InputError
from code_alpaca.training import model_loading
from code_alpaca.training.arguments import require_bfloat16
from code_alpaca.training.parallelism import Layout, require_devices

RECIPES = sorted(ROOT.glob("recipes/*/sft/*.yaml"))
COMMAND = re.compile(r"^# Command:\s+code-alpaca (sft .*)$", re.M)
MEMORY = re.compile(r"^# Memory:\s+([\d.]+) GiB", re.M)
NEEDS = re.compile(r"^sft +memory .*: each (GPU|process) needs ([\d.]+)", re.M)


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([
        {"instruction": f"Return {n}.", "input": "", "output": f"return {n}"} for n in range(40)
    ]))  # fmt: skip
    return path


def dry_run(capsys, *words):
    code = main(["sft", *words, "--dry_run"])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parts[-3]}/{path.stem}")
def test_every_recipe_is_planned_without_network_by_its_own_command(
    path, rows, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(ROOT)
    words = COMMAND.search(path.read_text())[1].split()[1:]
    words += ["--dataset_name", str(rows), "--output_dir", str(tmp_path / "out")]
    if words.count("--dataset_name") > 1:
        at = words.index("--dataset_name")
        del words[at : at + 2]
    code, shown, error = dry_run(capsys, *words)
    assert code == 0, error
    where, needed = NEEDS.search(shown).groups()
    smoke = path.parts[-3] == "smoke"
    assert where == ("process" if smoke else "GPU")
    # What the file says of itself; on a CPU it depends on this machine and the rows.
    told = float(MEMORY.search(path.read_text())[1])
    assert smoke or told == pytest.approx(float(needed), rel=0.05)
    assert "# Time:" in path.read_text()
    assert "a step learns from" in shown and "nothing was trained" in shown
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("config", sorted(p.stem for p in ROOT.glob("accelerate_configs/*.yaml")))
def test_every_accelerate_config_is_planned(config, rows, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = [*TINY, "--dataset_name", str(rows), "--output_dir", str(tmp_path / "out")]
    code, shown, error = dry_run(capsys, "--accelerate_config", config, *words)
    assert code == 0, error
    assert "memory" in shown and "rows      40 rows" in shown


def test_the_table_of_accelerate_configs_is_what_is_reckoned(rows, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(ROOT)
    table = (ROOT / "recipes/README.md").read_text()
    models = {"llama-7b": 0, "qwen2.5-coder-7b": 3}  # the column of each
    for config, model in (("zero2", "llama-7b"), ("fsdp2", "llama-7b"), ("ddp", "llama-7b"),
                          ("zero3_offload", "qwen2.5-coder-7b")):  # fmt: skip
        cells = re.search(rf"^\| `{config}` \|[^|]*\|(.*)\|$", table, re.M)[1].split("|")
        cell = cells[models[model]].strip()
        words = ["--config", f"recipes/{model}/sft/config_full.yaml", "--dataset_name", str(rows),
                 "--output_dir", str(tmp_path / "out"), "--gpu_memory_gib", "80"]  # fmt: skip
        code, shown, error = dry_run(capsys, "--accelerate_config", config, *words)
        assert code == 0, error
        assert float(cell.rstrip("*")) == pytest.approx(float(NEEDS.search(shown)[2]), rel=0.05)
        assert cell.endswith("*") == ("activations checkpointed" in shown), (config, model)


def sevenb(rows, tmp_path, config, *words):
    return ["--config", str(ROOT / f"recipes/llama-7b/sft/{config}.yaml"), "--dataset_name",
            str(rows), "--output_dir", str(tmp_path / "out"), *words]  # fmt: skip


def test_what_does_not_fit_is_refused_with_what_would(rows, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(ROOT)
    words = sevenb(rows, tmp_path, "config_full", "--gpu_memory_gib", "40")
    code, _, error = dry_run(capsys, "--accelerate_config", "ddp", *words)
    assert code == 2 and error.count("\n") == 1
    assert "does not fit" in error
    advised = re.search(
        r"this would fit, [^:]* with ([\d.]+) GiB each[^:]*: --accelerate_config (\w+)", error
    )
    assert float(advised[1]) <= 40
    code, _, error = dry_run(capsys, "--accelerate_config", advised[2], *words)
    assert code == 0, error
    code, _, error = dry_run(
        capsys, "--accelerate_config", "ddp", *words[:-1], "1", "--activation_checkpointing", "1"
    )
    assert code == 2 and "take a smaller model" in error


def test_activations_are_checkpointed_only_where_memory_wants_it(
    rows, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(ROOT)
    for memory, checkpointed in ((80, False), (40, True)):
        words = sevenb(rows, tmp_path, "config_full", "--gpu_memory_gib", str(memory))
        code, shown, error = dry_run(capsys, "--accelerate_config", "zero2", *words)
        assert code == 0, error
        assert ("activations checkpointed" in shown) == checkpointed


def test_a_model_too_big_for_this_machine_is_refused_before_it_is_read(rows, tmp_path, capsys):
    from transformers import LlamaConfig

    from code_alpaca.training.scratch_model import ScratchShape, build_scratch_model

    folder = tmp_path / "base"
    _, tokenizer = build_scratch_model(
        ["abc"], ScratchShape(vocab_size=300, hidden_size=32, num_layers=1, num_heads=2)
    )
    tokenizer.save_pretrained(folder)
    wide = LlamaConfig(hidden_size=32768, intermediate_size=86016, num_hidden_layers=8)
    wide.save_pretrained(folder)  # a hundred billion, and no weights here
    words = ["--model_name_or_path", str(folder), "--dataset_name", str(rows), "--output_dir",
             str(tmp_path / "out"), "--use_cpu", "true", "--bf16", "false"]  # fmt: skip
    assert main(["sft", *words]) == 2
    assert "does not fit: each process needs" in capsys.readouterr().err


def test_three_rows_are_shown_with_what_is_learned_marked(rows, tmp_path, capsys):
    words = [*TINY, "--dataset_name", str(rows), "--output_dir", str(tmp_path / "out")]
    code, shown, _ = dry_run(capsys, *words)
    assert code == 0
    assert shown.count("what is learned between") == 3
    assert "### Response:⟦return 0</s>⟧" in shown
    assert "BOS '<s>' 1, EOS '</s>' 2, PAD '<pad>' 0" in shown
    assert "0 would merge" in shown


def test_a_dry_run_looks_at_a_folder_and_leaves_it(rows, tmp_path, capsys):
    (tmp_path / "model.safetensors").write_bytes(b"precious")
    words = [*TINY, "--dataset_name", str(rows), "--output_dir", str(tmp_path)]
    code, _, error = dry_run(capsys, *words)
    assert code == 2 and "did not make" in error
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "rows.json"}


def test_a_layout_for_another_machine_is_refused():
    with pytest.raises(InputError, match=r"8 processes are to run here, which has 0 GPUs; take"):
        require_devices(Layout("zero3", 8))
    require_devices(Layout("zero3", 8, on_cpu=True))


def test_a_recipe_for_gpus_says_so_where_there_is_none(rows, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = sevenb(rows, tmp_path, "config_full")
    assert main(["sft", *words]) == 2
    assert "this config is for GPUs, and this machine has none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        ({"ampere": True, "half": True, "installed": True, "hub": True}, "flash_attention_2"),
        (
            {"ampere": True, "half": True, "installed": False, "hub": True},
            model_loading.FLASH_OF_HUB,
        ),
        ({"ampere": True, "half": True, "installed": False, "hub": False}, "sdpa"),
        ({"ampere": False, "half": True, "installed": True, "hub": True}, "sdpa"),  # V100, T4
        ({"ampere": True, "half": False, "installed": True, "hub": True}, "sdpa"),  # float32
        # The Hub cannot be reached, or has no build: training starts all the same.
        ({"ampere": True, "half": True, "installed": False, "hub": True, "load": True}, "sdpa"),
    ],
)
def test_attention_is_the_fastest_that_works(there, taken):
    assert model_loading.fastest_attention(**there) == taken


def test_bfloat16_is_refused_where_a_gpu_only_emulates_it():
    from trl import SFTConfig

    training = SFTConfig(use_cpu=True, bf16=True)
    require_bfloat16(training, native=True, device="NVIDIA A100-SXM4-80GB")
    with pytest.raises(InputError, match=r"Tesla T4 has no bfloat16 .* --bf16 false --fp16 true"):
        require_bfloat16(training, native=False, device="Tesla T4")
    require_bfloat16(SFTConfig(use_cpu=True, bf16=False), native=False, device="Tesla T4")


def test_an_adapter_that_is_merged_needs_the_whole_model_once_more(
    rows, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    words = ["--config", str(ROOT / "recipes/qwen2.5-coder-7b/sft/config_lora.yaml"),
             "--dataset_name", str(rows), "--output_dir", str(tmp_path / "out")]  # fmt: skip
    _, shown, _ = dry_run(capsys, *words)
    assert "each host 14.3" in shown  # 7.7 billion parameters of 2 bytes
    _, shown, _ = dry_run(capsys, *words, "--merge_adapter", "false")
    assert "each host" not in shown


def test_a_missing_compiler_is_named_and_ninja_found_where_pip_puts_it(monkeypatch):
    import shutil

    from code_alpaca.training.plan import find_build_tools

    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match=r"needs g\+\+ on PATH"):
        find_build_tools(Layout("zero3", 2, on_cpu=True))
    assert shutil.which("ninja")
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match=r"needs ninja and g\+\+ on PATH"):
        find_build_tools(Layout("zero3", 2, on_cpu=True))
    find_build_tools(Layout("zero3", 8))


@pytest.mark.parametrize("path", [*RECIPES, *sorted(ROOT.glob("accelerate_configs/*.yaml"))])
def test_each_opens_with_when_hardware_and_command(path: Path):
    opening = path.read_text().split("\n\n")[0]
    for name in ("# When:", "# Hardware:", "# Command:"):
        assert name in opening, path


def test_a_recipe_can_be_looked_at_before_there_are_rows(tmp_path, capsys):
    recipe = ROOT / "recipes/llama-7b/sft/config_full.yaml"
    code, shown, error = dry_run(capsys, "--accelerate_config", "zero3", "--config", str(recipe),
                                 "--dataset_name", str(tmp_path / "none"))  # fmt: skip
    assert code == 0, error
    assert "rows      not looked at: no dataset at" in shown
    assert "packed in each not known" in shown and "each GPU needs" in shown
