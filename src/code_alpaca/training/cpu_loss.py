"""Compute the loss of a batch from the logits of loss tokens alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from code_alpaca.training.tokenization import IGNORE_INDEX

if TYPE_CHECKING:
    import torch


def sum_loss(
    model: Any, inputs: dict[str, Any], next_labels: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    """Return the cross-entropy of a batch, summed over its loss tokens.

    Args:
        inputs: what the model receives, without labels.
        next_labels: shape (batch, tokens - 1), the label of the token after each position.
        positions: those at which any row of the batch has a loss token.
    """
    from torch.nn.functional import cross_entropy

    logits = model(**inputs, use_cache=False, logits_to_keep=positions).logits
    return cross_entropy(
        logits.flatten(0, 1).float(),
        next_labels[:, positions].flatten(),
        ignore_index=IGNORE_INDEX,
        reduction="sum",
    )
