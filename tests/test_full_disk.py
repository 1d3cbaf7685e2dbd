"""A disk that fills up in the middle of a stage: one kind line, and nothing accepted is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from code_alpaca.cli import main
from code_alpaca.ledger import Ledger


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """A library that makes writes under one folder fail after so many bytes, as the kernel does."""
    library = tmp_path_factory.mktemp("shim") / "full_disk.so"
    source = Path(__file__).with_name("full_disk.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    return library


def on_a_small_disk(shim, words, under: Path, size: int) -> subprocess.CompletedProcess[str]:
    """`code-alpaca WORDS` where files under one folder may take `size` bytes in all."""
    limits = {"FULL_DISK_UNDER": str(under), "FULL_DISK_BYTES": str(size)}
    return subprocess.run(
        [sys.executable, "-m", "code_alpaca.cli", *words],
        env={**os.environ, "LD_PRELOAD": str(shim), **limits},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def rows_of(run_dir):
    with Ledger(run_dir / "ledger.sqlite", write=False) as ledger:
        rows = [example.as_row() for example in ledger.accepted()]
    for row in rows:
        row.pop("created_at")
    return rows


@pytest.mark.parametrize("size", [50_000, 200_000, 600_000])
def test_generate_keeps_what_it_has_and_goes_on(shim, tmp_path, size):
    words = ["generate", "--teacher_base_url", "offline", "--num_examples", "60"]
    words += ["--lookahead", "8", "--run_dir"]
    done = on_a_small_disk(shim, [*words, str(tmp_path / "run")], tmp_path / "run", size)
    assert done.returncode == 2, done.stderr
    assert "the disk is full" in done.stderr and done.stderr.count("\n") == 1
    kept = rows_of(tmp_path / "run") if size > 50_000 else []  # that one has no tables yet
    assert main([*words, str(tmp_path / "run")]) == 0
    assert main([*words, str(tmp_path / "whole")]) == 0
    assert rows_of(tmp_path / "run") == rows_of(tmp_path / "whole")
    assert rows_of(tmp_path / "run")[: len(kept)] == kept


def test_publish_leaves_the_old_dataset_whole(shim, tmp_path):
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
