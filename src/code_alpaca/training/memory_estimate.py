"""Estimate the peak memory of a training run before anything is loaded.

`accelerate estimate-memory` and DeepSpeed's estimators leave out activations, which dominate long
batches, and each covers one layout. This estimate covers every layout, adapters and packed
batches; the tests compare it with measured peaks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from code_alpaca.core.errors import error_message
from code_alpaca.training.activation_memory import (
    MicroBatch,
    adapter_fragmentation,
    measure_activations,
)
from code_alpaca.training.adapters import adapter_config
from code_alpaca.training.model_state_memory import MemoryNeed, ModelSize, compute_memory_need
from code_alpaca.training.setup import TrainingSetup
from code_alpaca.training.skeleton_model import build_skeleton, fake_tensors, measure_size

if TYPE_CHECKING:
    from transformers import PretrainedConfig


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
    optimizer = str(setup.training_args.optim.value)
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
    dtype = getattr(torch, setup.model_args.dtype or "float32", torch.float32)
    if setup.layout.uses_deepspeed:  # casts the weights itself, without autocast
        dtype = torch.bfloat16 if mixed_precision else torch.float32
    with fake_tensors(setup.training_args):
        model = build_skeleton(config, dtype, adapter_config(setup.model_args))
        size = measure_size(
            model,
            quantized=bool(setup.model_args.load_in_4bit),
            mixed_precision=mixed_precision,
            merged=setup.model_args.use_peft and setup.script_args.merge_adapter,
        )
        activations: float = measure_activations(
            model,
            batch,
            autocast=mixed_precision and not setup.layout.uses_deepspeed,
            activation_checkpointing=activation_checkpointing,
            on_cpu=on_cpu,
        )
        if on_cpu:
            activations += adapter_fragmentation(model, batch, mixed_precision=mixed_precision)
    return size, activations
