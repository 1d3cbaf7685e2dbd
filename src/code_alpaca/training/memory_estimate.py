"""Estimate the peak memory of a training run before anything is loaded.

`accelerate estimate-memory` and DeepSpeed's estimators leave out activations, which dominate long
batches, and each covers one layout. This estimate covers every layout, adapters and packed
batches; the tests compare it with measured peaks. It runs one training step on fake tensors and
counts the bytes that are alive at the same time: in seconds, without a GPU or weights.
"""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from code_alpaca.core.errors import error_message
from code_alpaca.training.arguments import TrainingSetup
from code_alpaca.training.model_loading import adapter_config
from code_alpaca.training.model_state_memory import MemoryNeed, ModelSize, compute_memory_need

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig
    from transformers import PretrainedConfig, PreTrainedModel
    from trl import SFTConfig

NF4_BYTES = 0.52  # per weight, with double-quantized block constants (QLoRA, section 3)
# Bytes that remain unusable on a CPU per byte of adapter output: see `adapter_fragmentation`.
ADAPTER_FRAGMENTATION = 1.75


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """The shape of one micro-batch on one device."""

    sequences: int
    tokens: int  # of each sequence
    packed: bool = False  # rows are concatenated under a block-diagonal attention mask


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """The size of a model, and the memory that training it needs."""

    model: ModelSize
    need: MemoryNeed


@dataclass(frozen=True, slots=True)
class NoEstimate:
    """Why the memory could not be estimated."""

    reason: str


def estimate_memory(
    setup: TrainingSetup,
    config: PretrainedConfig,
    batch: MicroBatch,
    *,
    activation_checkpointing: bool,
) -> MemoryEstimate | NoEstimate:
    """Estimate the peak memory of a training run.

    Not every architecture runs on fake tensors, and it must still be trainable, so an error
    becomes NoEstimate.
    """
    import torch

    mixed_precision, on_cpu = setup.mixed_precision, setup.layout.on_cpu
    dtype = getattr(torch, setup.model.dtype or "float32", torch.float32)
    if setup.layout.uses_deepspeed:  # casts the weights itself, without autocast
        dtype = torch.bfloat16 if mixed_precision else torch.float32
    try:
        with fake_tensors(setup.training):
            model = build_skeleton(config, dtype, adapter_config(setup.model))
            size = measure_size(
                model,
                quantized=bool(setup.model.load_in_4bit),
                mixed_precision=mixed_precision,
                merged=setup.model.use_peft and setup.args.merge_adapter,
            )
            activations: float = measure_activations(
                model,
                batch,
                autocast=mixed_precision and not setup.layout.uses_deepspeed,
                activation_checkpointing=activation_checkpointing,
                on_cpu=on_cpu,
            )
            if on_cpu:
                activations += adapter_fragmentation(model, batch, mixed_precision)
    except Exception as error:
        return NoEstimate(f"{type(error).__name__}: {error_message(error)}")
    optimizer = str(setup.training.optim.value)
    need = compute_memory_need(size, setup.layout, activations, optimizer=optimizer)
    return MemoryEstimate(size, need)


@contextlib.contextmanager
def fake_tensors(training_args: SFTConfig | None = None) -> Iterator[None]:
    """Create fake tensors in this context, and keep DeepSpeed's ZeRO-3 from sharding them."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from transformers.integrations import deepspeed

    plugin = getattr(training_args, "deepspeed_plugin", None)
    if plugin:
        deepspeed.unset_hf_deepspeed_config()
    # It logs pages for an operation that fails without data, and raises an exception as well.
    log = logging.getLogger("torch._subclasses.fake_tensor")
    log_disabled = log.disabled
    log.disabled = True
    try:
        with FakeTensorMode():
            yield
    finally:
        log.disabled = log_disabled
        if plugin:
            plugin.set_deepspeed_weakref()


def build_skeleton(
    config: PretrainedConfig, dtype: torch.dtype, peft_config: PeftConfig | None = None
) -> PreTrainedModel:
    """Build the model, with its adapter if any; call and use it within `fake_tensors()`."""
    import torch
    from peft import get_peft_model
    from torch._subclasses.fake_tensor import unset_fake_temporarily
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    default_dtype = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:  # not by from_config, which would shard the weights under DeepSpeed
        # In fake mode a constant such as Gemma's embedding scale cannot be created on "meta".
        with unset_fake_temporarily(), torch.device("meta"):
            model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config)
            if peft_config is not None:
                model = get_peft_model(model, peft_config)
    finally:
        torch.set_default_dtype(default_dtype)
    _move_to_cpu(model)
    return model


def measure_size(
    model: PreTrainedModel, *, quantized: bool, mixed_precision: bool, merged: bool = False
) -> ModelSize:
    """Count the parameters of a skeleton, whose adapter may be merged after training."""
    weights = list(model.parameters())
    return ModelSize(
        parameters=sum(weight.numel() for weight in weights),
        trainable=sum(weight.numel() for weight in weights if weight.requires_grad),
        largest_layer=max(
            sum(weight.numel() for weight in module.parameters(recurse=False))
            for module in model.modules()
        ),
        bytes_per_param=NF4_BYTES if quantized else weights[0].element_size(),
        mixed_precision=mixed_precision,
        merged_bytes_per_param=weights[0].element_size() if merged else 0.0,
    )


def _move_to_cpu(model: PreTrainedModel) -> None:
    """Move a meta model to the CPU tensor by tensor; `Module.to` cannot do so without data."""
    import torch

    moved: dict[int, torch.Tensor] = {}  # tied weights stay tied
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if id(weight) not in moved:
                on_cpu = torch.empty(weight.shape, dtype=weight.dtype)
                moved[id(weight)] = torch.nn.Parameter(on_cpu, weight.requires_grad)
            module.register_parameter(name, moved[id(weight)])
        for name, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(name, torch.zeros(buffer.shape, dtype=buffer.dtype))
        for name, value in list(vars(module).items()):  # tensors that are not buffers
            if isinstance(value, torch.Tensor):
                setattr(module, name, torch.zeros(value.shape, dtype=value.dtype))


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
    allocated in that space then prevents other large ones from fitting there. Measured: 1.2 to 2.9
    times the output of an adapter, with and without activation checkpointing, 33M to 227M
    parameters. MALLOC_MMAP_THRESHOLD_=131072 avoids this, but a step takes 50% longer.
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

    On fake tensors PyTorch supports this operation only in bfloat16. `left` has the shape (tokens,
    in) or (experts, tokens, in), `right` (in, out) or (experts, in, out). `offs` has the end of
    each expert's tokens, if one of the two has no expert dimension.
    """
    shape = [left.shape[-2], right.shape[-1]]
    if left.dim() == right.dim():  # one product per expert
        shape = [offs.shape[0] if offs is not None else left.shape[0], *shape]
    return left.new_empty(shape)
