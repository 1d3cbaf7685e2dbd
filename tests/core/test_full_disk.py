"""A full disk ends a stage with one line, and no accepted work is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.documents import ROOT
from support.generation_runs import read_rows
from support.tiny_sft import tiny_sft, write_rows

from code_alpaca.cli import main
from code_alpaca.core.records import RunRecord


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """A library that makes writes below a folder fail after a number of bytes, with ENOSPC."""
    library = tmp_path_factory.mktemp("shim") / "full_disk.so"
    source = Path(__file__).parents[1] / "support" / "full_disk.c"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return library


def on_a_small_disk(shim, words, under: Path, size: int) -> subprocess.CompletedProcess[str]:
    """Run `code-alpaca WORDS` with `size` bytes for all files below a folder."""
    limits = {"FULL_DISK_UNDER": str(under), "FULL_DISK_BYTES": str(size)}
    return subprocess.run(
        [sys.executable, "-m", "code_alpaca.cli", *words],
        env={**os.environ, "LD_PRELOAD": str(shim), **limits},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


SLOW_SIZES = [pytest.param(size, marks=pytest.mark.slow) for size in (50_000, 300_000)]


@pytest.mark.parametrize("size", [200_000, *SLOW_SIZES])
def test_generate_keeps_its_rows_and_resumes(shim, tmp_path, size):
    words = ["generate", "--teacher_base_url", "offline", "--num_examples", "30"]
    words += ["--lookahead", "8", "--run_dir"]
    done = on_a_small_disk(shim, [*words, str(tmp_path / "run")], tmp_path / "run", size)
    assert done.returncode == 2, done.stderr
    assert "the disk is full" in done.stderr and done.stderr.count("\n") == 1
    kept = read_rows(tmp_path / "run") if size > 50_000 else []  # at 50 kB there are no tables yet
    assert main([*words, str(tmp_path / "run")]) == 0
    assert main([*words, str(tmp_path / "uninterrupted")]) == 0
    assert read_rows(tmp_path / "run") == read_rows(tmp_path / "uninterrupted")
    assert read_rows(tmp_path / "run")[: len(kept)] == kept


def test_publish_keeps_the_old_dataset(shim, tmp_path):
    source = tmp_path / "rows.json"
    row = {"instruction": "Reverse a list in Python.", "input": "", "output": "x[::-1]"}
    source.write_text(json.dumps([row] * 50))
    words = ["publish", "--source", str(source), "--run_dir", str(tmp_path / "run")]
    assert main([*words, "--dataset_version", "1.0.0"]) == 0
    before = (tmp_path / "run/dataset/manifest.json").read_bytes()
    done = on_a_small_disk(shim, [*words, "--dataset_version", "1.0.1"], tmp_path / "run", 3_000)
    assert done.returncode == 2 and "the disk is full" in done.stderr
    assert (tmp_path / "run/dataset/manifest.json").read_bytes() == before


def test_eval_keeps_the_old_results(shim, tmp_path):
    words = ["eval", "--samples", "reference", "--output_dir", str(tmp_path / "eval")]
    assert main(words) == 0
    before = (tmp_path / "eval/results.json").read_bytes()
    done = on_a_small_disk(shim, words, tmp_path / "eval", 500)
    assert done.returncode == 2 and "the disk is full" in done.stderr
    assert (tmp_path / "eval/results.json").read_bytes() == before


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """A function that returns the command of a tiny training, and the model of a normal run."""
    folder = tmp_path_factory.mktemp("training")
    rows = write_rows(folder / "rows.json", 64)

    def command(output_dir: Path) -> list[str]:
        return tiny_sft(rows, output_dir, "--max_steps", "4", "--save_strategy", "steps",
                        "--save_steps", "2", "--logging_steps", "1")  # fmt: skip

    assert main(command(folder / "model")) == 0
    return command, folder / "model"


LAUNCHED = ["--accelerate_config", str(ROOT / "accelerate_configs/cpu.yaml")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "launched"),
    [
        (400_000, []),  # full while safetensors writes the second checkpoint's weights
        (500_000, LAUNCHED),  # full while torch.save writes its optimizer
    ],
    ids=["weights", "optimizer"],
)
def test_sft_resumes_from_the_last_complete_checkpoint(
    shim, training, tmp_path, capsys, size, launched
):
    (command, uninterrupted), out = training, tmp_path / "model"
    words = command(out)
    done = on_a_small_disk(shim, [*words, *launched], out, size)
    assert done.returncode == 2, done.stderr
    assert "the disk is full" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert [path.parent.name for path in out.glob("*/complete.json")] == ["checkpoint-2"]
    assert not (out / "run.json").exists()
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "checkpoint-4 is incomplete and was deleted" in shown and "step 2/4" not in shown
    for name in ("model.safetensors", "checkpoint-4/optimizer.pt"):
        assert (out / name).read_bytes() == (uninterrupted / name).read_bytes(), name
    curves = [RunRecord.load(folder).loss_curve for folder in (out, uninterrupted)]
    assert curves[0] == curves[1]
