"""Estimate the memory of a training from a step of the model's own code without data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from code_alpaca.core.errors import one_line
from code_alpaca.training import activation_memory, model_loading
from code_alpaca.training.activation_memory import Batch, Memory, Model
from code_alpaca.training.arguments import Job

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True, slots=True)
class Estimate:
    """The numbers of a model, and the memory that training it needs."""

    model: Model
    need: Memory


@dataclass(frozen=True, slots=True)
class Unknown:
    """Why there is no estimate."""

    reason: str


def estimate_memory(
    job: Job, config: PretrainedConfig, batch: Batch, checkpointing: bool
) -> Estimate | Unknown:
    """The memory of a training, or why it is not known.

    The estimate runs the model's own code without data, which not every architecture allows; that
    must not keep anyone from training it.
    """
    try:
        model, activated = _trace(job, config, batch, checkpointing)
    except Exception as error:
        return Unknown(f"{type(error).__name__}: {one_line(error)}")
    return Estimate(
        model,
        activation_memory.needed(model, job.layout, activated, optim=str(job.training.optim.value)),
    )


def _trace(
    job: Job, config: PretrainedConfig, batch: Batch, checkpointing: bool
) -> tuple[Model, float]:
    """The numbers of the model, and the bytes of its activations."""
    import torch

    mixed = bool(job.training.bf16 or job.training.fp16)
    dtype = getattr(torch, job.model.dtype or "float32", torch.float32)
    if job.layout.deepspeed:  # casts the weights themselves, and needs no autocast
        dtype = torch.bfloat16 if mixed else torch.float32
    autocast = mixed and not job.layout.deepspeed
    with activation_memory.without_data(job.training):
        model = activation_memory.skeleton(config, dtype, model_loading.adapter(job.model))
        numbers = activation_memory.sizes(
            model,
            quantized=bool(job.model.load_in_4bit),
            mixed=mixed,
            merged=job.model.use_peft and job.arguments.merge_adapter,
        )
        activated = activation_memory.activations(
            model, batch, mixed=autocast, checkpointing=checkpointing, on_cpu=job.layout.on_cpu
        )
        if job.layout.on_cpu:
            activated += activation_memory.holes(model, batch, mixed=mixed)
    return numbers, activated
