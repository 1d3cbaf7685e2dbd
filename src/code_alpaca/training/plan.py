"""Plan a training run before weights are read.

A plan decides the batch, whether activations are checkpointed, and whether the run fits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import psutil

from code_alpaca.core.console import plural
from code_alpaca.core.errors import InputError
from code_alpaca.training.arguments import TrainingSetup
from code_alpaca.training.memory_estimate import (
    MemoryEstimate,
    MicroBatch,
    NoEstimate,
    estimate_memory,
)
from code_alpaca.training.metrics import ThroughputMeter
from code_alpaca.training.model_state_memory import GIB, MemoryNeed, compute_memory_need
from code_alpaca.training.parallelism import ParallelLayout
from code_alpaca.training.tokenization import TokenizedRows

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PretrainedConfig
    from trl import SFTConfig

SHIPPED_NUM_PROCESSES = 8  # in the accelerate_configs for one machine
# Shipped accelerate configs, from the fastest to the one with the least memory.
CANDIDATES: dict[str, dict[str, Any]] = {
    "ddp": {"strategy": "ddp"},
    "zero2": {"strategy": "zero2"},
    "zero3": {"strategy": "zero3"},
    "zero3_offload": {"strategy": "zero3", "offload_optimizer": True, "offload_weights": True},
}


@dataclass(frozen=True, slots=True)
class AvailableMemory:
    """Bytes of each GPU (or for each process on a CPU) and of the host; None if unknown."""

    device: float | None
    host: float | None

    @classmethod
    def detect(cls, setup: TrainingSetup) -> Self:
        import torch

        if setup.args.gpu_memory_gib is not None:
            return cls(setup.args.gpu_memory_gib * GIB, None)  # of another machine
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
    """The batch, the memory and the throughput meter of a training run."""

    model_config: PretrainedConfig
    estimate: MemoryEstimate | NoEstimate
    available: AvailableMemory
    batch: MicroBatch
    activation_checkpointing: bool
    meter: ThroughputMeter
    tokens: TokenizedRows | None
    rows_per_sequence: float


def make_plan(
    setup: TrainingSetup, config: PretrainedConfig, tokens: TokenizedRows | None
) -> TrainingPlan:
    """Set gradient accumulation, estimate the memory, and decide whether to checkpoint activations.

    A dry run without rows or tokenizer has no tokens.
    """
    args, target_rows = setup.training, setup.args.target_examples_per_step
    world_size, packed = setup.layout.world_size, bool(args.packing)
    rows_per_sequence = average_rows_per_sequence(tokens.train, args) if tokens else 1.0
    if target_rows:
        args.gradient_accumulation_steps = gradient_accumulation_steps(
            target_rows, args.per_device_train_batch_size, world_size, rows_per_sequence
        )
    use_max_length = packed or tokens is None
    length = int(args.max_length or 0) if use_max_length else tokens.statistics.longest
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
    meter = ThroughputMeter(config, length, world_size, adapter=bool(setup.model.use_peft))
    return TrainingPlan(
        config, estimate, available, batch, checkpointing, meter, tokens, rows_per_sequence
    )


def average_rows_per_sequence(dataset: Dataset, training_args: SFTConfig) -> float:
    """Return the average number of rows in a sequence; 1 without packing."""
    from trl import pack_dataset

    if not training_args.packing:
        return 1.0
    if training_args.max_length is None:
        raise InputError("packing needs max_length, the length of a packed sequence; set it")
    packed = pack_dataset(dataset, training_args.max_length, training_args.packing_strategy)
    return len(dataset) / len(packed)


def gradient_accumulation_steps(
    target_rows: int, micro_batch_size: int, world_size: int, rows_per_sequence: float
) -> int:
    """Return the number of micro-batches per optimizer step for a global batch of `target_rows`.

    Packed rows cannot be divided evenly, so the nearest number is returned for them; other rows
    must be divisible. `micro_batch_size` counts sequences per device.
    """
    sequences = micro_batch_size * world_size
    if rows_per_sequence != 1.0:
        return max(1, round(target_rows / (sequences * rows_per_sequence)))
    if target_rows % sequences == 0:
        return target_rows // sequences
    divisors = [n for n in range(1, micro_batch_size + 1) if target_rows % (n * world_size) == 0]
    advice = f"choose a target that is divisible by {world_size}"
    if divisors:
        advice = f"set per_device_train_batch_size: {divisors[-1]}"
    raise InputError(
        f"target_examples_per_step {target_rows} is not divisible by "
        f"{plural(world_size, 'process', 'processes')} x {plural(micro_batch_size, 'row')}; "
        f"{advice}"
    )


def require_memory(setup: TrainingSetup, plan: TrainingPlan) -> None:
    """Refuse a run that does not fit, with the options that do, before its weights are read."""
    estimate = plan.estimate
    if isinstance(estimate, NoEstimate) or plan.available.fits(estimate.need):
        return
    advice = _suggest_layout(setup, plan, estimate)
    raise InputError(
        f"this does not fit: {format_need(setup.layout, estimate.need, plan.available)}; "
        f"{advice or 'no accelerate config would make it fit; use a smaller model'}"
    )


def format_need(layout: ParallelLayout, need: MemoryNeed, available: AvailableMemory) -> str:
    """Return the memory that is needed and available on each device and host."""
    text = f"each {'process' if layout.on_cpu else 'GPU'} needs {format_gib(need.device)} GiB"
    text += "" if available.device is None else f" of {format_gib(available.device)}"
    if need.host:
        text += f", each host {format_gib(need.host)}"
        text += "" if available.host is None else f" of {format_gib(available.host)}"
    return text


def format_gib(size: float) -> str:
    """Return a size in GiB, with one decimal below 100."""
    return f"{size / GIB:.1f}" if size < 100 * GIB else f"{size / GIB:.0f}"


def _suggest_layout(setup: TrainingSetup, plan: TrainingPlan, estimate: MemoryEstimate) -> str:
    """Return the options nearest to the configured ones that fit; "" if none do."""
    optimizer = str(setup.training.optim.value)
    sequences = plan.batch.sequences
    while sequences:
        activations = estimate.need.activations * sequences / plan.batch.sequences
        for name in ("ddp",) if setup.layout.on_cpu else CANDIDATES:
            layout = replace(setup.layout, **CANDIDATES[name])
            need = compute_memory_need(estimate.model, layout, activations, optimizer=optimizer)
            if plan.available.fits(need):
                size = f"{format_gib(need.device)} GiB each"
                size += f", each host {format_gib(need.host)}" if need.host else ""
                options = _format_options(setup, plan, name, layout, sequences)
                return f"this would fit, {layout} with {size}: {options}"
        sequences //= 2
    return ""


def _format_options(
    setup: TrainingSetup, plan: TrainingPlan, name: str, layout: ParallelLayout, sequences: int
) -> str:
    options = [] if layout == setup.layout else [f"--accelerate_config {name}"]
    if options and layout.world_size != SHIPPED_NUM_PROCESSES:
        options.append(f"(with num_processes: {layout.world_size})")
    if sequences != plan.batch.sequences:
        options.append(f"--per_device_train_batch_size {sequences}")
    if not plan.activation_checkpointing:
        options.append("--activation_checkpointing true (or less)")
    return " ".join(options)
