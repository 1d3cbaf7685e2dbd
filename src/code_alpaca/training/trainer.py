"""Extend TRL's SFTTrainer: token counts, an abort on divergence, metrics, complete checkpoints.

Imports torch and TRL, so import this module inside functions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate import PartialState
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Sampler
from transformers import TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl import SFTTrainer

from code_alpaca.core import console
from code_alpaca.core.errors import Diverged
from code_alpaca.training import metrics, output_dir
from code_alpaca.training.model_state_memory import GIB
from code_alpaca.training.tokenization import IGNORE_INDEX

MAX_EXCERPT = 300  # characters of the batch that diverged


class MonitoredTrainer(SFTTrainer):
    """Count the tokens of this rank, and stop at the first batch with a NaN or infinite loss."""

    total_tokens = real_tokens = 0  # with and without padding
    seconds_to_first_step: float | None = None  # from the start of the process

    def get_train_dataloader(self) -> DataLoader:
        dataloader = super().get_train_dataloader()
        batches = dataloader.batch_sampler
        batches = getattr(batches, "batch_sampler", batches)  # of all ranks
        sampler = getattr(batches, "sampler", batches)  # batch_rebalance has none
        if isinstance(sampler, LengthGroupedSampler):
            sampler = ResumableSampler(sampler, self.args.seed)
        # For every train_sampling_strategy: on several ranks, accelerate passes the epoch of a
        # resumed run only to the sampler set here.
        dataloader.set_sampler(sampler)
        return dataloader

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.seconds_to_first_step is None:
            self.seconds_to_first_step = time.time() - psutil.Process().create_time()
        self.total_tokens += inputs["input_ids"].numel()
        self.real_tokens += _count_real_tokens(inputs)
        loss = super().training_step(model, inputs, *args, **kwargs)
        if not loss.isfinite():
            ids = inputs["input_ids"].flatten()[:MAX_EXCERPT]
            excerpt = self.processing_class.decode(ids)[:MAX_EXCERPT]
            raise Diverged(
                f"training diverged: the loss of a batch is {loss.item()} after step "
                f"{self.state.global_step}, on rank {self.args.process_index}; the batch starts "
                f"with {excerpt!r}. Check these rows, lower the learning rate, or train in "
                "bfloat16; the last checkpoint is kept"
            )
        return loss


class ResumableSampler(Sampler[int]):
    """Draw an order of rows that depends only on the seed and the epoch, grouped by length.

    LengthGroupedSampler draws from the global generator, which a run that resumes in the middle of
    an epoch has just seeded: it would get the order of the first epoch. Here every epoch is the
    next draw of a generator of its own. Without dropout and evaluation this equals the Trainer's
    own order, so older checkpoints resume correctly.
    """

    def __init__(self, sampler: LengthGroupedSampler, seed: int) -> None:
        self.sampler, self.seed, self.epoch = sampler, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        generator = self.sampler.generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.epoch + 1):
            # The DataLoader consumes one number per epoch.
            torch.empty((), dtype=torch.int64).random_(generator=generator)
            order = iter(self.sampler)
        return order


class CpuTrainer(MonitoredTrainer):
    """Compute the same loss as SFTTrainer, from the logits of loss tokens only.

    On a CPU, TRL 1.16 (`add_fused_lm_head`) computes logits for every token twice, prompts and
    padding included, and their entropy. Logs have TRL's `num_tokens`, but no entropy or accuracy.
    """

    trained_tokens = 0  # of this rank

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        if return_outputs:
            return super().compute_loss(model, inputs, True, num_items_in_batch)
        model_inputs = {name: value for name, value in inputs.items() if name != "labels"}
        next_labels = inputs["labels"][:, 1:]
        positions = (next_labels != IGNORE_INDEX).any(0).nonzero().flatten()
        loss = sum_loss(model, model_inputs, next_labels, positions)
        if self.model.training:
            self.trained_tokens += _count_real_tokens(inputs)
        if num_items_in_batch is None:
            return loss / (next_labels != IGNORE_INDEX).sum().clamp(min=1)
        # The number includes the tokens of all ranks, over which gradients are averaged.
        averaged = self.args.average_tokens_across_devices
        return loss / num_items_in_batch * (self.accelerator.num_processes if averaged else 1)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            trained = torch.tensor([self.trained_tokens], device=self.accelerator.device)
            logs["num_tokens"] = int(self.accelerator.gather(trained).sum())
        super().log(logs, start_time)


def sum_loss(
    model: Any, inputs: dict[str, Any], next_labels: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    """Return the cross-entropy of a batch, summed over its loss tokens.

    Args:
        inputs: of the model, without labels.
        next_labels: shape (batch, tokens - 1), the label of the token after each position.
        positions: the columns of `next_labels` in which any row has a loss token.
    """
    logits = model(**inputs, use_cache=False, logits_to_keep=positions).logits
    return cross_entropy(
        logits.flatten(0, 1).float(),
        next_labels[:, positions].flatten(),
        ignore_index=IGNORE_INDEX,
        reduction="sum",
    )


def _count_real_tokens(inputs: dict[str, Any]) -> int:
    mask = inputs.get("attention_mask")  # None for packed rows, which have no padding
    return inputs["input_ids"].numel() if mask is None else int(mask.sum())


class TelemetryCallback(TrainerCallback):
    """Print each log and append it to metrics.jsonl, with throughput, MFU, memory and time left.

    Put it before the callbacks of `report_to`, so that trackers report these, too. The first and
    the last step are always logged. A loss above twice that of uniform guessing raises Diverged.
    """

    def __init__(self, meter: metrics.ThroughputMeter, vocab_size: int, *, on_cpu: bool) -> None:
        self.meter, self.on_cpu = meter, on_cpu
        self.uniform_loss = math.log(vocab_size)
        self.out = console.stage("sft")

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.folder = Path(args.output_dir)
        self.started, self.first_step = time.monotonic(), state.global_step
        self.logged_at, self.logged_tokens = self.started, 0
        if state.is_world_process_zero:
            metrics.delete_metrics_after(self.folder, state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_log = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        if "loss" in logs:
            self._raise_if_diverged(float(logs["loss"]), state.global_step)
            if state.is_world_process_zero:
                self._log_training(state, logs)
        elif "eval_loss" in logs and state.is_world_process_zero:
            metrics.append_metrics(self.folder, state.global_step, logs)
            self.logged_at = time.monotonic()  # evaluation does not count as training time
            self.out.print(f"step {state.global_step}  eval loss {logs['eval_loss']:.3f}")

    def _raise_if_diverged(self, loss: float, step: int) -> None:
        if not math.isfinite(loss) or loss > 2 * self.uniform_loss:
            raise Diverged(
                f"training diverged: the loss is {loss:.3g} at step {step}, and uniform guessing "
                f"has {self.uniform_loss:.1f}; lower the learning rate, or check the rows of the "
                f"steps before. {self.folder / metrics.METRICS} has the losses; the last "
                "checkpoint is kept"
            )

    def _log_training(self, state: Any, logs: dict[str, Any]) -> None:
        now, tokens = time.monotonic(), int(logs.get("num_tokens", 0))
        tokens_per_second = (tokens - self.logged_tokens) / max(now - self.logged_at, 1e-9)
        seconds_per_step = (now - self.started) / max(1, state.global_step - self.first_step)
        measured = {
            "tokens_per_second": round(tokens_per_second, 1),
            "mfu": self.meter.mfu(tokens_per_second),
            "memory_gib": round(metrics.peak_memory_bytes(self.on_cpu) / GIB, 2),
            "seconds_left": round(seconds_per_step * (state.max_steps - state.global_step)),
        }
        self.logged_at, self.logged_tokens = now, tokens
        metrics.append_metrics(self.folder, state.global_step, {**logs, **measured})
        # Trackers receive this mapping next, and do not accept None.
        logs.update({name: value for name, value in measured.items() if value is not None})
        mfu = "" if measured["mfu"] is None else f"  MFU {measured['mfu']:.0%}"
        self.out.print(
            f"step {state.global_step}/{state.max_steps}  loss {float(logs['loss']):.3f}  "
            f"lr {float(logs.get('learning_rate', 0)):.1e}  {tokens_per_second:,.0f} tokens/s{mfu}"
            f"  {measured['memory_gib']:.1f} GiB  {console.duration(measured['seconds_left'])} left"
        )


class CheckpointCallback(TrainerCallback):
    """Mark a checkpoint as complete after every rank has written its part, then delete old ones.

    The Trainer's `save_total_limit` deletes as soon as the first rank has written its part, so a
    kill at that moment can leave no complete checkpoint.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit  # checkpoints to keep; None: all

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
