"""Measure a training run: metrics.jsonl and MFU while it runs, then run.json and the loss plot."""

from __future__ import annotations

import dataclasses
import platform
import resource
import subprocess
import time
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

from code_alpaca.core import jsonl
from code_alpaca.core.console import plural
from code_alpaca.core.plots import BLUE, MUTED, ORANGE, WIDTH, plot_style, save_figure
from code_alpaca.core.records import RunRecord
from code_alpaca.training.arguments import TrainingSetup
from code_alpaca.training.memory_estimate import MemoryEstimate
from code_alpaca.training.model_state_memory import GIB
from code_alpaca.training.parallelism import ParallelLayout

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

    from code_alpaca.training.plan import TrainingPlan
    from code_alpaca.training.trainer import MonitoredTrainer

METRICS, LOSS_PLOT = "metrics.jsonl", "loss.png"
PACKAGES = ("code-alpaca", "torch", "transformers", "trl", "accelerate", "deepspeed", "peft",
            "bitsandbytes", "flash-attn", "liger-kernel")  # fmt: skip
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


class TrainingTime(NamedTuple):
    """The time of all starts of a run that recorded it, without steps that a kill lost."""

    seconds: float
    epochs: float  # trained in these seconds


def collect_results(
    setup: TrainingSetup,
    plan: TrainingPlan,
    trainer: MonitoredTrainer,
    time: TrainingTime,
    origin: dict[str, Any],  # base model, datasets and configuration
) -> RunRecord:
    """Return the record of a finished run; call it on every rank, since it gathers."""
    assert plan.tokens is not None
    statistics, state = plan.tokens.statistics, trainer.state
    weights = list(trainer.model.parameters())
    losses, eval_losses = (
        [[log["step"], log[name]] for log in state.log_history if name in log]
        for name in ("loss", "eval_loss")
    )
    tokens_per_second = statistics.tokens * time.epochs / time.seconds
    to_first_step = trainer.seconds_to_first_step  # None: no step was left to train
    peak_gib, padding = _gather_measurements(trainer, setup.layout)
    estimated_gib = None
    if isinstance(plan.estimate, MemoryEstimate):
        estimated_gib = round(plan.estimate.need.device / GIB, 3)
    return RunRecord(
        **origin,
        parameters=_count_parameters(weights),
        trainable_parameters=_count_parameters(w for w in weights if w.requires_grad),
        rows=statistics.rows,
        tokens=statistics.tokens,
        counts=dataclasses.asdict(statistics),
        padded_share=padding,
        steps=state.global_step,
        epochs=state.epoch,
        first_loss=losses[0][1] if losses else None,
        last_loss=losses[-1][1] if losses else None,
        loss_curve=losses,
        eval_loss_curve=eval_losses,
        seconds=round(time.seconds, 1),
        seconds_to_first_step=to_first_step and round(to_first_step, 1),
        tokens_per_second=round(tokens_per_second, 1),
        mfu=plan.meter.mfu(tokens_per_second),
        peak_memory_gib=peak_gib,
        preflight_memory_gib=estimated_gib,
        layout=str(setup.layout),
        processes=setup.layout.world_size,
        hardware=_describe_hardware(setup.layout),
        git_sha=_git_commit(),
        versions={name: number for name in PACKAGES if (number := _version(name))},
    )


def summarize(record: RunRecord) -> str:
    """Return the results in one line for the console."""
    losses = "no loss logged"
    if record.loss_curve:
        losses = f"loss {record.first_loss:.3f} first, {record.last_loss:.3f} last"
    mfu = "" if record.mfu is None else f", MFU {record.mfu:.0%}"
    return (
        f"{format_parameters(record.parameters)} parameters, {plural(record.steps, 'step')} in "
        f"{record.seconds:.0f} s, {record.tokens_per_second:,.0f} tokens/s{mfu}, "
        f"peak memory {record.peak_memory_gib:.1f} GiB, {losses}"
    )


def _gather_measurements(
    trainer: MonitoredTrainer, layout: ParallelLayout
) -> tuple[float, float | None]:
    """Return the peak memory of any rank in GiB, and the fraction of padding over all ranks."""
    import torch

    device, gather = trainer.accelerator.device, trainer.accelerator.gather
    peak = torch.tensor([peak_memory_bytes(layout.on_cpu) / GIB], device=device)
    counts = torch.tensor([[trainer.real_tokens, trainer.total_tokens]], device=device)
    peak_gib = round(float(gather(peak).max()), 3)
    real_tokens, total_tokens = gather(counts).sum(0).tolist()
    return peak_gib, round(1 - real_tokens / total_tokens, 4) if total_tokens else None


def _count_parameters(weights: Iterable[torch.Tensor]) -> int:
    # Under ZeRO-3 a rank has shards, and DeepSpeed records the full size of each weight.
    return sum(getattr(weight, "ds_numel", weight.numel()) for weight in weights)


def _describe_hardware(layout: ParallelLayout) -> dict[str, Any]:
    """Return the models and sizes of the hardware, nothing that identifies the machine."""
    import torch

    num_gpus = 0 if layout.on_cpu else torch.cuda.device_count()
    return {
        "gpus": [torch.cuda.get_device_name(index) for index in range(num_gpus)],
        "machines": layout.num_machines,
        "cpu": platform.machine(),
        "cores": psutil.cpu_count(logical=False),
        "host_memory_gib": round(psutil.virtual_memory().total / GIB),
    }


def _git_commit() -> str | None:
    """Return the commit of the working directory, with `-dirty` if it has changes."""
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
