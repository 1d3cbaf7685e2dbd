"""The benchmark of training says what it did not measure, and takes no guess for a number."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks/sft_throughput.py"


def test_without_a_gpu_large_models_are_not_measured():
    words = [sys.executable, str(SCRIPT), "--sizes", "1b,7b"]
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True, env=env)
    assert done.stdout.splitlines() == [
        f"{size}: not measured, there is no GPU" for size in ("1b", "7b")
    ]
