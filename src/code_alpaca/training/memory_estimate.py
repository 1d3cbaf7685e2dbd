"""Estimate the peak memory of a training run before anything is loaded.

`accelerate estimate-memory` and DeepSpeed's estimators leave out activations, which dominate long
batches, and each covers one layout. This estimate covers every layout, adapters and packed
batches; the tests compare it with measured peaks.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from code_alpaca.core.errors import error_message
from code_alpaca.training import activation_memory
from code_alpaca.training.activation_memory import MicroBatch
from code_alpaca.training.arguments import TrainingSetup
from code_alpaca.training.model_loading import adapter_config
from code_alpaca.training.model_state_memory import MemoryNeed, ModelSize, compute_memory_need

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig
    from transformers import PretrainedConfig, PreTrainedModel
    from trl import SFTConfig

NF4_BYTES = 0.52  # per weight, with double-quantized block constants (QLoRA, section 3)


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

    The model's own code runs on fake tensors. Not every architecture supports that, and such a
    model must still be trainable, so an error becomes NoEstimate.
    """
    try:
        model, activations = _trace_step(setup, config, batch, activation_checkpointing)
    except Exception as error:
        return NoEstimate(f"{type(error).__name__}: {error_message(error)}")
    optimizer = str(setup.training.optim.value)
    need = compute_memory_need(model, setup.layout, activations, optimizer=optimizer)
    return MemoryEstimate(model, need)


def _trace_step(
    setup: TrainingSetup,
    config: PretrainedConfig,
    batch: MicroBatch,
    activation_checkpointing: bool,
) -> tuple[ModelSize, float]:
    """Return the size of the model and the bytes of its activations."""
    import torch

    mixed_precision, on_cpu = setup.mixed_precision, setup.layout.on_cpu
    dtype = getattr(torch, setup.model.dtype or "float32", torch.float32)
    if setup.layout.uses_deepspeed:  # casts the weights itself, without autocast
        dtype = torch.bfloat16 if mixed_precision else torch.float32
    with fake_tensors(setup.training):
        model = build_skeleton(config, dtype, adapter_config(setup.model))
        size = measure_size(
            model,
            quantized=bool(setup.model.load_in_4bit),
            mixed_precision=mixed_precision,
            merged=setup.model.use_peft and setup.args.merge_adapter,
        )
        activations: float = activation_memory.measure_activations(
            model,
            batch,
            autocast=mixed_precision and not setup.layout.uses_deepspeed,
            activation_checkpointing=activation_checkpointing,
            on_cpu=on_cpu,
        )
        if on_cpu:
            activations += activation_memory.adapter_fragmentation(model, batch, mixed_precision)
    return size, activations


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
    """Return the numbers of parameters of a skeleton.

    Args:
        quantized: weights are stored in NF4.
        merged: the adapter is merged after training.
    """
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
