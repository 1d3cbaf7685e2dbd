"""Before anything starts: will it fit, what will be learned, and what to do if it cannot be."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from test_sft import ROOT, TINY

from code_alpaca.cli import main
from code_alpaca.errors import InputError
from code_alpaca.training.layout import Layout, require_devices

RECIPES = sorted(ROOT.glob("recipes/*/sft/*.yaml"))
COMMAND = re.compile(r"^# Command:\s+code-alpaca (sft .*)$", re.M)


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
    assert re.search(r"memory    .*: each (GPU|process) needs [\d.]+", shown)
    assert "a step learns from" in shown and "nothing was trained" in shown
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("config", sorted(p.stem for p in ROOT.glob("accelerate_configs/*.yaml")))
def test_every_accelerate_config_is_planned(config, rows, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = [*TINY, "--dataset_name", str(rows), "--output_dir", str(tmp_path / "out")]
    code, shown, error = dry_run(capsys, "--accelerate_config", config, *words)
    assert code == 0, error
    assert "memory" in shown and "rows      40 rows" in shown


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
    advised = re.search(r"this would fit, with ([\d.]+) GiB: --accelerate_config (\w+)", error)
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

    from code_alpaca.training.scratch import make_base

    folder = tmp_path / "base"
    _, tokenizer = make_base(["abc"], vocab_size=300, hidden_size=32, layers=1, heads=2,
                             max_length=64, seed=0)  # fmt: skip
    tokenizer.save_pretrained(folder)
    LlamaConfig(num_hidden_layers=400).save_pretrained(folder)  # 80 billion, and no weights here
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


def test_a_missing_compiler_is_named(monkeypatch):
    from code_alpaca.training.preflight import require_compiler

    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match=r"needs ninja and g\+\+ on PATH"):
        require_compiler(Layout("zero3", 2, on_cpu=True))
    require_compiler(Layout("zero3", 8))


@pytest.mark.parametrize("path", [*RECIPES, *sorted(ROOT.glob("accelerate_configs/*.yaml"))])
def test_each_opens_with_when_hardware_and_command(path: Path):
    opening = path.read_text().split("\n\n")[0]
    for name in ("# When:", "# Hardware:", "# Command:"):
        assert name in opening, path
