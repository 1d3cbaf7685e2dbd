"""Measure the peak memory of activations in one training step on fake tensors.

Each operation reports what it would allocate, and the bytes that are alive at the same time are
counted. This takes seconds, and needs neither a GPU nor weights.
"""

from __future__ import annotations

import contextlib
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Bytes that remain unusable on a CPU per byte of adapter output: see `adapter_fragmentation`.
ADAPTER_FRAGMENTATION = 1.75


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """The shape of one micro-batch on one device."""

    sequences: int
    tokens: int  # of each sequence
    packed: bool = False  # rows are concatenated under a block-diagonal attention mask


def measure_activations(
    model: PreTrainedModel,
    batch: MicroBatch,
    *,
    autocast: bool,
    activation_checkpointing: bool,
    on_cpu: bool,
) -> int:
    """Return the peak bytes of a forward and backward pass, without weights and their gradients.

    Args:
        model: a skeleton in the dtype of its weights; call this within `fake_tensors()`.
        autocast: whether operations run in bfloat16 by autocast.
        on_cpu: compute the loss as CpuTrainer does; every token counts as a loss token.
    """
    import torch

    from code_alpaca.training.trainer import sum_loss

    _prepare(model, activation_checkpointing, on_cpu)
    num_tokens = batch.sequences * batch.tokens
    shape = (1, num_tokens) if batch.packed else (batch.sequences, batch.tokens)
    ids = torch.zeros(shape, dtype=torch.long)
    tracker = _track_live_bytes(ignored=list(model.parameters()))
    with tracker:
        with torch.autocast("cpu", torch.bfloat16) if autocast else contextlib.nullcontext():
            if on_cpu:
                positions = torch.arange(shape[1] - 1)
                loss = sum_loss(model, {"input_ids": ids}, ids[:, 1:], positions)
            else:
                out = model(input_ids=ids, labels=ids, use_cache=False, fused_lm_head=True)
                loss = -out.log_probs.sum()
        loss.backward()
    attention_mask = num_tokens**2 if batch.packed else 0
    return tracker.peak + attention_mask


def adapter_fragmentation(
    model: PreTrainedModel, batch: MicroBatch, mixed_precision: bool
) -> float:
    """Return the bytes that glibc's heap cannot reuse on a CPU when adapters are trained.

    The outputs of a frozen layer and its adapter are freed after they are added; a small tensor
    allocated in that space then prevents other large ones from fitting there. Almost two such
    holes remain per adapter. Measured: 1.2 to 2.9, with and without activation checkpointing, 33M
    to 227M parameters. With MALLOC_MMAP_THRESHOLD_=131072 there are no holes, but a step takes
    50% longer.
    """
    width = sum(module.out_features for module in model.modules() if hasattr(module, "lora_A"))
    element_size = 2 if mixed_precision else 4
    return ADAPTER_FRAGMENTATION * width * batch.sequences * batch.tokens * element_size


def _prepare(model: PreTrainedModel, activation_checkpointing: bool, on_cpu: bool) -> None:
    """Set the model up as SFTTrainer does, and free gradients as soon as they are computed."""
    from trl.trainer.utils import add_fused_lm_head

    if not on_cpu:
        # With this head the logits of the batch never exist at the same time.
        add_fused_lm_head(
            model.get_base_model() if hasattr(model, "peft_config") else model,
            outputs=("log_probs", "entropy", "is_top1"),
        )
    model.train()
    if activation_checkpointing:
        # The reentrant variant saves the same tensors, and frees them at once also without data.
        model.enable_input_require_grads()
        model.activation_checkpointing_enable({"use_reentrant": True})
    for weight in model.parameters():
        if weight.requires_grad:
            weight.register_post_accumulate_grad_hook(lambda weight: setattr(weight, "grad", None))


def _track_live_bytes(ignored: list[torch.Tensor]) -> Any:
    """Return a dispatch mode that counts the bytes of live storages; `peak` is their maximum."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class LiveByteTracker(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.live = self.peak = 0
            self.tracked = {id(tensor.untyped_storage()) for tensor in ignored}

        def __torch_dispatch__(
            self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if operation is torch.ops.aten._grouped_mm.default:
                operation = _empty_grouped_mm
            result = operation(*args, **(kwargs or {}))
            for tensor in tree_leaves(result):
                if isinstance(tensor, torch.Tensor):
                    self.track(tensor.untyped_storage())
            return result

        def track(self, storage: Any) -> None:
            if id(storage) in self.tracked:
                return
            self.tracked.add(id(storage))
            weakref.finalize(storage, self.free, id(storage), storage.nbytes())
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)

        def free(self, storage_id: int, size: int) -> None:
            self.live -= size
            self.tracked.discard(storage_id)

    return LiveByteTracker()


def _empty_grouped_mm(
    left: torch.Tensor, right: torch.Tensor, offs: torch.Tensor | None = None, *_: Any, **__: Any
) -> torch.Tensor:
    """Return an empty tensor of the shape that a mixture of experts multiplies to.

    On fake tensors PyTorch supports this operation in bfloat16 alone, on data in every dtype.

    Args:
        left: shape (tokens, in) or (experts, tokens, in).
        right: shape (in, out) or (experts, in, out).
        offs: the end of each expert's tokens, if one of the two has no expert dimension.
    """
    shape = [left.shape[-2], right.shape[-1]]
    if left.dim() == right.dim():  # one product per expert
        shape = [offs.shape[0] if offs is not None else left.shape[0], *shape]
    return left.new_empty(shape)
