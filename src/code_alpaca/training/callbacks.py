"""Trainer callbacks: log metrics, stop a diverged run, and mark complete checkpoints.

Imports transformers, so import this module inside functions.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import TrainerCallback

from code_alpaca.core import console
from code_alpaca.core.errors import Diverged
from code_alpaca.training import output_dir
from code_alpaca.training.metrics import (
    METRICS,
    ThroughputMeter,
    append_metrics,
    delete_metrics_after,
    peak_memory_bytes,
)
from code_alpaca.training.model_state_memory import GIB


class TelemetryCallback(TrainerCallback):
    """Print a line and append one to metrics.jsonl for every log, and add the measurements to it.

    Put it before the callbacks of `report_to`, so that trackers report the measurements, too. The
    first and the last step are always logged. Tokens are counted without padding.

    Args:
        vocab_size: a loss above twice the loss of uniform guessing means that the run diverged.

    Raises:
        Diverged: from training, when that happens.
    """

    def __init__(self, meter: ThroughputMeter, vocab_size: int, *, on_cpu: bool) -> None:
        self.meter, self.on_cpu = meter, on_cpu
        self.uniform_loss = math.log(vocab_size)
        self.out = console.stage("sft")

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.folder = Path(args.output_dir)
        self.started, self.first_step = time.monotonic(), state.global_step
        self.logged_at, self.logged_tokens = self.started, 0
        if state.is_world_process_zero:
            delete_metrics_after(self.folder, state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_log = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        if "loss" in logs:
            self._require_convergence(float(logs["loss"]), state.global_step)
            if state.is_world_process_zero:
                self._log_training(state, logs)
        elif "eval_loss" in logs and state.is_world_process_zero:
            append_metrics(self.folder, state.global_step, logs)
            self.logged_at = time.monotonic()  # evaluation does not count as training time
            self.out.print(f"step {state.global_step}  eval loss {logs['eval_loss']:.3f}")

    def _require_convergence(self, loss: float, step: int) -> None:
        if not math.isfinite(loss) or loss > 2 * self.uniform_loss:
            raise Diverged(
                f"training diverged: the loss is {loss:.3g} at step {step}, and uniform guessing "
                f"has {self.uniform_loss:.1f}; lower the learning rate, or check the rows of the "
                f"steps before. {self.folder / METRICS} has the losses, the last checkpoint is kept"
            )

    def _log_training(self, state: Any, logs: dict[str, Any]) -> None:
        now, tokens = time.monotonic(), int(logs.get("num_tokens", 0))
        tokens_per_second = (tokens - self.logged_tokens) / max(now - self.logged_at, 1e-9)
        seconds_per_step = (now - self.started) / max(1, state.global_step - self.first_step)
        measured = {
            "tokens_per_second": round(tokens_per_second, 1),
            "mfu": self.meter.mfu(tokens_per_second),
            "memory_gib": round(peak_memory_bytes(self.on_cpu) / GIB, 2),
            "seconds_left": round(seconds_per_step * (state.max_steps - state.global_step)),
        }
        self.logged_at, self.logged_tokens = now, tokens
        append_metrics(self.folder, state.global_step, {**logs, **measured})
        # Trackers receive this mapping next, and do not accept None.
        logs.update({name: value for name, value in measured.items() if value is not None})
        mfu = "" if measured["mfu"] is None else f"  MFU {measured['mfu']:.0%}"
        self.out.print(
            f"step {state.global_step}/{state.max_steps}  loss {float(logs['loss']):.3f}  "
            f"lr {float(logs.get('learning_rate', 0)):.1e}  {tokens_per_second:,.0f} tokens/s{mfu}"
            f"  {measured['memory_gib']:.1f} GiB  {measured['seconds_left']} s left"
        )


class CheckpointCallback(TrainerCallback):
    """Mark a checkpoint as complete after every rank has written its part, then delete old ones.

    The Trainer's `save_total_limit` deletes as soon as the first rank has written its part, so a
    kill at that moment can leave no complete checkpoint.

    Args:
        limit: number of checkpoints to keep; None keeps all.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        step = state.global_step  # not 0 on a resume
        checkpoint = Path(args.output_dir, f"checkpoint-{step}") if step else None
        self.started = time.monotonic()
        self.seconds_before = output_dir.training_seconds(checkpoint)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        PartialState().wait_for_everyone()
        if not state.is_world_process_zero:
            return
        folder, seconds = Path(args.output_dir), None
        if self.seconds_before is not None:
            seconds = self.seconds_before + time.monotonic() - self.started
        output_dir.mark_checkpoint(folder / f"checkpoint-{state.global_step}", seconds)
        for path in output_dir.list_checkpoints(folder)[: -self.limit] if self.limit else []:
            output_dir.delete_checkpoint(path)
