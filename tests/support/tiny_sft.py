"""Command-line words for training a model small enough for a test on a CPU."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes/smoke/sft/config_cpu.yaml"
TINY = ["--config", str(RECIPE), "--scratch_hidden_size", "32", "--scratch_layers", "1",
        "--scratch_heads", "2", "--scratch_vocab_size", "400", "--logging_steps", "5"]  # fmt: skip
