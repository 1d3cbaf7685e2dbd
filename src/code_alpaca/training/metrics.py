"""Write, read and plot metrics.jsonl, the log of a training run: one JSON object per step."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from code_alpaca.core import jsonl
from code_alpaca.core.plots import BLUE, MUTED, ORANGE, WIDTH, plot_style, save_figure

METRICS, LOSS_PLOT = "metrics.jsonl", "loss.png"


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


def plot_losses(output_dir: Path) -> None:
    """Plot the training and evaluation loss; nothing for fewer than two logged steps."""
    from matplotlib.figure import Figure

    metrics = read_metrics(output_dir)
    losses = [(line["step"], line["loss"]) for line in metrics if "loss" in line]
    eval_losses = [(line["step"], line["eval_loss"]) for line in metrics if "eval_loss" in line]
    if len(losses) < 2:
        return
    with plot_style():
        figure = Figure(figsize=(WIDTH, WIDTH / 2))
        axes = figure.add_subplot()
        axes.plot(*zip(*losses, strict=True), color=BLUE, linewidth=1.6, label="training")
        if eval_losses:
            points = zip(*eval_losses, strict=True)
            axes.plot(*points, color=ORANGE, marker="o", label="validation")
            axes.legend()
        axes.set_ylim(bottom=0)
        axes.set_title("Loss")
        axes.set_xlabel("step")
        axes.set_ylabel("nats per token", color=MUTED)
        axes.grid(axis="y")
        save_figure(figure, output_dir / LOSS_PLOT)
