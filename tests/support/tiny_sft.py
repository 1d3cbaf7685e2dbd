"""Train a model that is small enough for a test on a CPU."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from code_alpaca.core.records import RunRecord
from code_alpaca.training.scratch_model import ScratchShape
from support.documents import ROOT

RECIPE = ROOT / "recipes/smoke/sft/config_cpu.yaml"
TINY_SHAPE = ScratchShape(vocab_size=400, hidden_size=32, num_layers=1, num_heads=2)
TINY = ["--config", str(RECIPE), "--scratch_hidden_size", "32", "--scratch_layers", "1",
        "--scratch_heads", "2", "--scratch_vocab_size", "400", "--logging_steps", "5"]  # fmt: skip


def write_rows(
    path: Path, num_rows: int, output: Callable[[int], str] = lambda n: f"return {n}"
) -> Path:
    """Write an Alpaca file of short tasks, and return its path."""
    rows = [
        {"instruction": f"Return the number {n}.", "input": "", "output": output(n)}
        for n in range(num_rows)
    ]
    path.write_text(json.dumps(rows))
    return path


def tiny_sft(dataset: Path, output_dir: Path, *words: str) -> list[str]:
    """Return the command line of a training run; `words` override its keys."""
    paths = ["--dataset_name", str(dataset), "--output_dir", str(output_dir)]
    return ["sft", *TINY, *paths, *words]


def read_metrics(output_dir: Path) -> list[dict]:
    """Return the lines of metrics.jsonl."""
    return [json.loads(line) for line in (output_dir / "metrics.jsonl").open()]


def interrupt_before_end(output_dir: Path) -> None:
    """Make a finished run look as if it was killed after its last checkpoint."""
    (output_dir / RunRecord.FILE).unlink()


def interrupt_after_step(step: int, output_dir: Path) -> None:
    """Make a finished run look as if it was killed after the checkpoint of this step."""
    interrupt_before_end(output_dir)
    for path in output_dir.glob("checkpoint-*"):
        if int(path.name.removeprefix("checkpoint-")) > step:
            shutil.rmtree(path)
