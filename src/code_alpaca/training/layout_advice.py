"""Refuse a training run that does not fit into memory, and find a layout in which it would fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from code_alpaca.core.errors import InputError
from code_alpaca.training.memory_estimate import MemoryEstimate
from code_alpaca.training.model_state_memory import GIB, MemoryNeed, compute_memory_need
from code_alpaca.training.parallelism import ParallelLayout
from code_alpaca.training.plan import AvailableMemory, TrainingPlan
from code_alpaca.training.setup import TrainingSetup

SHIPPED_NUM_PROCESSES = 8  # in the accelerate_configs for one machine
# Shipped accelerate configs, from the fastest to the one with the least memory.
CANDIDATES: dict[str, dict[str, Any]] = {
    "ddp": {"strategy": "ddp"},
    "zero2": {"strategy": "zero2"},
    "zero3": {"strategy": "zero3"},
    "zero3_offload": {"strategy": "zero3", "offload_optimizer": True, "offload_weights": True},
}


def require_memory(setup: TrainingSetup, plan: TrainingPlan) -> None:
    """Refuse a run that does not fit, before its weights are read.

    Raises:
        InputError: with the options that fit.
    """
    if isinstance(plan.estimate, MemoryEstimate) and not plan.fits:
        advice = _suggest_layout(setup, plan, plan.estimate)
        need = format_need(setup.layout, plan.estimate.need, plan.available)
        raise InputError(
            f"this does not fit: {need}; "
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
    optimizer = str(setup.training_args.optim.value)
    sequences = plan.batch.sequences
    while sequences:
        activations = estimate.need.activations * sequences / plan.batch.sequences
        for name, change in CANDIDATES.items():
            if setup.layout.on_cpu and name != "ddp":
                continue
            layout = replace(setup.layout, **change)
            need = compute_memory_need(estimate.model, layout, activations, optimizer=optimizer)
            if plan.available.fits(need):
                host = f", each host {format_gib(need.host)}" if need.host else ""
                options = _format_options(setup, plan, name, layout, sequences)
                return (
                    f"this would fit, {layout} with {format_gib(need.device)} GiB each{host}: "
                    f"{options}"
                )
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
