"""Extend TRL's SFTTrainer: token counts, a stop at NaN losses, and a faster loss on a CPU.

Imports torch and TRL, so import this module inside functions.
"""

from __future__ import annotations

import time
from typing import Any

import psutil
import torch
from torch.nn.functional import cross_entropy
from trl import SFTTrainer

from code_alpaca.core.errors import Diverged
from code_alpaca.training.tokenization import IGNORE_INDEX

MAX_EXCERPT = 300  # characters of the batch that diverged


class MonitoredTrainer(SFTTrainer):
    """Count the tokens of this rank, and stop at the first batch with a NaN or infinite loss."""

    total_tokens = 0  # with padding
    real_tokens = 0  # without padding
    seconds_to_first_step: float | None = None  # from the start of the process

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


class CpuTrainer(MonitoredTrainer):
    """Compute the same loss as SFTTrainer from the logits of loss tokens alone.

    On a CPU, TRL 1.16 (`add_fused_lm_head`) computes logits for every token twice, prompts and
    padding included, and their entropy; on a GPU it computes those of loss tokens alone. Logs
    have `num_tokens` as TRL's, but neither entropy nor accuracy.
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
        inputs: what the model receives, without labels.
        next_labels: shape (batch, tokens - 1), the label of the token after each position.
        positions: those at which any row of the batch has a loss token.
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
