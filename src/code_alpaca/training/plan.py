"""Plan a training run before weights are read: memory, activation checkpointing, batch shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from code_alpaca.training.activation_memory import MicroBatch
from code_alpaca.training.batching import average_rows_per_sequence
from code_alpaca.training.memory_estimate import MemoryEstimate, NoEstimate, estimate_memory
from code_alpaca.training.model_state_memory import GIB, MemoryNeed
from code_alpaca.training.setup import TrainingSetup
from code_alpaca.training.throughput import ThroughputMeter
from code_alpaca.training.tokenization import TokenizedRows

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True, slots=True)
class AvailableMemory:
    """Bytes of each GPU (or for each process on a CPU) and of the host; None: not known."""

    device: float | None
    host: float | None

    @classmethod
    def detect(cls, setup: TrainingSetup) -> Self:
        import psutil
        import torch

        if setup.script_args.gpu_memory_gib is not None:
            return cls(setup.script_args.gpu_memory_gib * GIB, None)  # of another machine
        free = float(psutil.virtual_memory().available)
        if setup.layout.on_cpu:  # the estimate includes what this process already occupies
            resident = psutil.Process().memory_info().rss
            return cls(resident + free / setup.layout.ranks_per_machine, None)
        if not torch.cuda.is_available():
            return cls(None, None)
        return cls(float(torch.cuda.get_device_properties(0).total_memory), free)

    def fits(self, need: MemoryNeed) -> bool:
        return (self.device is None or need.device <= self.device) and (
            self.host is None or need.host <= self.host
        )


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What a training run needs and what is available."""

    model_config: PretrainedConfig
    estimate: MemoryEstimate | NoEstimate
    available: AvailableMemory
    batch: MicroBatch
    activation_checkpointing: bool
    meter: ThroughputMeter
    tokens: TokenizedRows | None
    rows_per_sequence: float

    @property
    def fits(self) -> bool:
        """Whether the run fits into memory; without an estimate it is attempted."""
        estimate = self.estimate
        return isinstance(estimate, NoEstimate) or self.available.fits(estimate.need)


def make_plan(
    setup: TrainingSetup, config: PretrainedConfig, tokens: TokenizedRows | None
) -> TrainingPlan:
    """Estimate the memory, and decide by it whether to checkpoint activations.

    Args:
        tokens: None in a dry run without rows or tokenizer.
    """
    args = setup.training_args
    packed = bool(args.packing)
    use_max_length = packed or tokens is None
    length = int(args.max_length or 0) if use_max_length else tokens.statistics.longest
    rows_per_sequence = average_rows_per_sequence(tokens.train, args) if tokens else 1.0
    num_sequences = math.ceil(len(tokens.train) / rows_per_sequence) if tokens else math.inf
    batch = MicroBatch(int(min(args.per_device_train_batch_size, num_sequences)), length, packed)
    available = AvailableMemory.detect(setup)
    configured = setup.activation_checkpointing
    # Checkpointing costs a second forward pass, so by default it is the last resort.
    for checkpointing in [False, True] if configured is None else [configured]:
        estimate = estimate_memory(setup, config, batch, activation_checkpointing=checkpointing)
        if isinstance(estimate, MemoryEstimate) and available.fits(estimate.need):
            break
    if isinstance(estimate, NoEstimate) and configured is None:
        checkpointing = not setup.layout.on_cpu  # TRL's default; a GPU has less spare memory
    return TrainingPlan(
        config,
        estimate,
        available,
        batch,
        checkpointing,
        ThroughputMeter(
            config, length, setup.layout.world_size, adapter=bool(setup.model_args.use_peft)
        ),
        tokens,
        rows_per_sequence,
    )
