"""The loss on a CPU, where TRL's own costs a small model much of its time.

TRL 1.16 (`add_fused_lm_head`) scores every token there, prompts and padding too, twice over, and
takes their entropy; on a GPU it scores the learned ones alone. Here a CPU does about that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from code_alpaca.training.tokenization import IGNORED

if TYPE_CHECKING:
    import torch
    from trl import SFTTrainer


def loss_at(
    model: Any, given: dict[str, Any], following: torch.Tensor, places: torch.Tensor
) -> torch.Tensor:
    """The loss of a batch, summed over its learned tokens, from the logits at `places` alone.

    Args:
        given: what the model gets beside labels.
        following: rows x (tokens - 1), the label of the token that follows each.
        places: of them, those where some row learns.
    """
    from torch.nn.functional import cross_entropy

    logits = model(**given, use_cache=False, logits_to_keep=places).logits
    labels = following[:, places].flatten()
    return cross_entropy(
        logits.flatten(0, 1).float(), labels, ignore_index=IGNORED, reduction="sum"
    )


def learned_alone(base: type[SFTTrainer]) -> type[SFTTrainer]:
    """A trainer whose loss is the same, from the places where some row of the batch learns.

    Its logs have `num_tokens` as TRL's have, but neither entropy nor accuracy.
    """
    import torch

    class LearnedAlone(base):  # type: ignore[misc,valid-type]  # SFTTrainer, imported late
        seen = 0  # tokens of this process

        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, Any],
            return_outputs: bool = False,
            num_items_in_batch: torch.Tensor | int | None = None,
        ) -> Any:
            if return_outputs:
                return super().compute_loss(model, inputs, True, num_items_in_batch)
            given = {name: value for name, value in inputs.items() if name != "labels"}
            following = inputs["labels"][:, 1:]
            places = (following != IGNORED).any(0).nonzero().flatten()
            loss = loss_at(model, given, following, places)
            if self.model.training:
                mask = inputs.get("attention_mask")  # None where rows are packed
                self.seen += inputs["input_ids"].numel() if mask is None else int(mask.sum())
            if num_items_in_batch is None:
                return loss / (following != IGNORED).sum().clamp(min=1)
            # It counts those of every process, over which the gradients will be averaged.
            shares = self.args.average_tokens_across_devices
            return loss / num_items_in_batch * (self.accelerator.num_processes if shares else 1)

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            if "loss" in logs:
                seen = torch.tensor([self.seen], device=self.accelerator.device)
                logs["num_tokens"] = int(self.accelerator.gather(seen).sum())
            super().log(logs, start_time)

    return LearnedAlone
