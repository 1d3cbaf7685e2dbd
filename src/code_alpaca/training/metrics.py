"""Log, measure and plot a training run: metrics.jsonl, MFU, peak memory and the loss plot."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from code_alpaca.core import jsonl
from code_alpaca.core.plots import BLUE, MUTED, ORANGE, WIDTH, plot_style, save_figure

if TYPE_CHECKING:
    from transformers import PretrainedConfig

METRICS, LOSS_PLOT = "metrics.jsonl", "loss.png"
ADAPTER_FLOPS = 2 / 3  # of full fine-tuning: frozen weights need no gradients


def append_metrics(output_dir: Path, step: int, values: dict[str, Any]) -> None:
    """Append the metrics of a step, as one JSON object."""
    with jsonl.appending(output_dir / METRICS) as writer:
        writer.write({"step": step, "time": round(time.time(), 1), **values})


def read_metrics(output_dir: Path) -> list[dict[str, Any]]:
    """Return the logged steps, without a line that a kill interrupted."""
    path = output_dir / METRICS
    lines = jsonl.read(path, skip_broken=True) if path.exists() else ()
    return [line.record for line in lines]


def delete_metrics_after(output_dir: Path, step: int) -> None:
    """Delete the lines after the checkpoint from which training resumes."""
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


def format_parameters(count: int) -> str:
    """Return a number of parameters as `25,504`, `2.1M` or `6.7B`."""
    for unit, size in (("B", 1e9), ("M", 1e6)):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return f"{count:,}"


class ThroughputMeter:
    """Convert tokens per second to model FLOPs utilization (MFU).

    FLOPs per token are counted as in PaLM (Chowdhery et al. 2022,
    https://arxiv.org/abs/2204.02311, appendix B). The peak is the vendor's for the GPU.
    """

    def __init__(
        self, config: PretrainedConfig, sequence_length: int, world_size: int, *, adapter: bool
    ):
        import torch
        from trl.trainer.utils import compute_flops_per_token, get_peak_flops

        self.world_size = world_size
        try:
            self.flops_per_token = float(compute_flops_per_token(config, sequence_length))
        except Exception:  # TRL does not support this architecture
            self.flops_per_token = 0.0
        if adapter:
            self.flops_per_token *= ADAPTER_FLOPS
        self.device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        self.peak_flops = get_peak_flops(self.device, "bfloat16") if self.device else None

    def mfu(self, tokens_per_second: float) -> float | None:
        """Return the MFU between 0 and 1, or None if peak or FLOPs per token are unknown."""
        if not self.peak_flops or not self.flops_per_token:
            return None
        return self.flops_per_token * tokens_per_second / (self.peak_flops * self.world_size)


def peak_memory_bytes(on_cpu: bool) -> int:
    """Return the peak memory of this process: of its GPU, or resident memory on a CPU."""
    if on_cpu:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    import torch

    return torch.cuda.max_memory_reserved()
