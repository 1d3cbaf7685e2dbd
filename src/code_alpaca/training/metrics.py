"""Read and write metrics.jsonl, the log of a training run: one JSON object per logged step."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from code_alpaca.core import jsonl

METRICS = "metrics.jsonl"


def append_metrics(output_dir: Path, step: int, values: dict[str, Any]) -> None:
    """Append the metrics of a step."""
    with jsonl.appending(output_dir / METRICS) as writer:
        writer.write({"step": step, "time": round(time.time(), 1), **values})


def read_metrics(output_dir: Path) -> list[dict[str, Any]]:
    """Return the logged steps, without a line that a kill interrupted."""
    path = output_dir / METRICS
    if not path.exists():
        return []
    return [line.record for line in jsonl.read(path, skip_broken=True)]


def delete_metrics_after(output_dir: Path, step: int) -> None:
    """Delete what was logged after the checkpoint from which training resumes."""
    metrics = read_metrics(output_dir) if step else []
    jsonl.write(output_dir / METRICS, [line for line in metrics if line["step"] <= step])
