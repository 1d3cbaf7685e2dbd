"""Plot the losses of metrics.jsonl as loss.png."""

from __future__ import annotations

from pathlib import Path

from code_alpaca.core.plots import BLUE, DPI, MUTED, ORANGE, STYLE, WIDTH
from code_alpaca.training.metrics import read_metrics

LOSS_PLOT = "loss.png"


def plot_losses(output_dir: Path) -> None:
    """Plot the training and evaluation loss; nothing for fewer than two logged steps."""
    import matplotlib
    from matplotlib.figure import Figure

    metrics = read_metrics(output_dir)
    losses = [(line["step"], line["loss"]) for line in metrics if "loss" in line]
    eval_losses = [(line["step"], line["eval_loss"]) for line in metrics if "eval_loss" in line]
    if len(losses) < 2:
        return
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE}):
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
        figure.savefig(output_dir / LOSS_PLOT, dpi=DPI, metadata={"Software": None})
