"""What a training came to: run.json, and the curve of its loss."""

from __future__ import annotations

import dataclasses
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from code_alpaca.core import fs
from code_alpaca.core.plots import BLUE, DPI, MUTED, ORANGE, STYLE, WIDTH
from code_alpaca.training import output_dir
from code_alpaca.training.activation_memory import GIB
from code_alpaca.training.memory_estimate import Estimate
from code_alpaca.training.telemetry import peak_memory, read_metrics

if TYPE_CHECKING:
    from trl import SFTTrainer

    from code_alpaca.training.arguments import Job
    from code_alpaca.training.plan import Plan

CURVE = "loss.png"
PACKAGES = ("code-alpaca", "torch", "transformers", "trl", "accelerate", "deepspeed", "peft",
            "bitsandbytes", "flash-attn", "liger-kernel")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Spent:
    """The time of a training that may have been resumed.

    What an earlier start did after its last checkpoint is lost, and not counted.
    """

    seconds_before: float | None  # in earlier starts; None: their checkpoints did not record it
    epochs_before: float
    seconds: float  # in this start

    @property
    def total(self) -> float:
        """Seconds over all starts, as far as they are known."""
        return self.seconds + (self.seconds_before or 0.0)

    def pace(self, tokens: int, epochs: float) -> float:
        """Return the tokens of a second, of `tokens` in each of `epochs` epochs."""
        if self.seconds_before is None:
            return tokens * (epochs - self.epochs_before) / self.seconds
        return tokens * epochs / self.total


def report(job: Job, plan: Plan, trainer: SFTTrainer, spent: Spent) -> dict[str, Any]:
    """The numbers of a training that is over; every process has to ask for them."""
    import torch

    assert plan.tokens is not None
    # Under ZeRO-3 a process holds a part of each, and DeepSpeed notes the size of the whole.
    weights = [(getattr(p, "ds_numel", p.numel()), p.requires_grad)
               for p in trainer.model.parameters()]  # fmt: skip
    expected = plan.estimate.need.device if isinstance(plan.estimate, Estimate) else None
    counts, state = plan.tokens.counts, trainer.state
    peak = torch.tensor(peak_memory(job.layout.on_cpu) / GIB, device=trainer.accelerator.device)
    peaks = trainer.accelerator.gather(peak.reshape(1))
    counted = torch.tensor([[trainer.real, trainer.slots]], device=peak.device)
    real, slots = trainer.accelerator.gather(counted).sum(0).tolist()
    losses = [[log["step"], log["loss"]] for log in state.log_history if "loss" in log]
    measured = [[log["step"], log["eval_loss"]] for log in state.log_history if "eval_loss" in log]
    pace = spent.pace(counts.tokens, state.epoch or 0)
    to_first = trainer.seconds_to_first_step  # None: there was no step left to take
    return {
        "parameters": sum(size for size, _ in weights),
        "trainable_parameters": sum(size for size, learned in weights if learned),
        "rows": counts.rows,
        "tokens": counts.tokens,
        "counts": dataclasses.asdict(counts),
        "padded_share": round(1 - real / slots, 4) if slots else None,
        "steps": state.global_step,
        "epochs": state.epoch,
        "first_loss": losses[0][1] if losses else None,
        "last_loss": losses[-1][1] if losses else None,
        "loss_curve": losses,
        "eval_loss_curve": measured,
        "seconds": round(spent.total, 1),
        "seconds_to_first_step": to_first and round(to_first, 1),
        "tokens_per_second": round(pace, 1),
        "mfu": plan.speed.mfu(pace),
        "peak_memory_gib": round(float(peaks.max()), 3),
        "preflight_memory_gib": expected and round(expected / GIB, 3),  # None: not estimated
        "layout": str(job.layout),
        "processes": job.layout.processes,
        "hardware": hardware(job),
        "git_sha": git_sha(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def finish(out: Path, values: dict[str, Any]) -> None:
    """Draw the curve and, last of all, write run.json: it says that training is over."""
    draw(out)
    fs.write_json(out / output_dir.FINISHED, values)


def in_words(values: dict[str, Any]) -> str:
    """One line for the screen."""
    losses = "no loss"
    if values["loss_curve"]:
        losses = f"loss {values['first_loss']:.3f} first, {values['last_loss']:.3f} last"
    mfu = "" if values["mfu"] is None else f", MFU {values['mfu']:.0%}"
    return (
        f"{values['parameters'] / 1e6:.1f}M parameters, {values['steps']} steps in "
        f"{values['seconds']:.0f} s, {values['tokens_per_second']:.0f} tokens/s{mfu}, "
        f"{values['peak_memory_gib']:.1f} GiB at most, {losses}"
    )


def draw(out: Path) -> None:
    """Draw the losses of metrics.jsonl as loss.png; nothing where there are fewer than two."""
    import matplotlib
    from matplotlib.figure import Figure

    lines = read_metrics(out)
    trained = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    measured = [(line["step"], line["eval_loss"]) for line in lines if "eval_loss" in line]
    if len(trained) < 2:
        return
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **STYLE}):
        figure = Figure(figsize=(WIDTH, WIDTH / 2))
        axes = figure.add_subplot()
        axes.plot(*zip(*trained, strict=True), color=BLUE, linewidth=1.6, label="training")
        if measured:
            axes.plot(*zip(*measured, strict=True), color=ORANGE, marker="o", label="validation")
            axes.legend()
        axes.set_ylim(bottom=0)
        axes.set_title("Loss")
        axes.set_xlabel("step")
        axes.set_ylabel("nats a token", color=MUTED)
        axes.grid(axis="y")
        figure.savefig(out / CURVE, dpi=DPI, metadata={"Software": None})


def hardware(job: Job) -> dict[str, Any]:
    """What it ran on: names and numbers, nothing that tells one machine from its like."""
    import psutil
    import torch

    here = 0 if job.layout.on_cpu else torch.cuda.device_count()
    return {
        "gpus": [torch.cuda.get_device_name(number) for number in range(here)],
        "machines": job.layout.machines,
        "cpu": platform.machine(),
        "cores": psutil.cpu_count(logical=False),
        "host_memory_gib": round(psutil.virtual_memory().total / GIB),
    }


def git_sha() -> str | None:
    """The commit of the folder that training was started in; `-dirty` where it had changes."""
    words = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
