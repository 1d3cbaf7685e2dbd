"""Compute gradient accumulation and optimizer steps for a global batch size in rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from code_alpaca.core.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import SFTConfig


def average_rows_per_sequence(dataset: Dataset, training_args: SFTConfig) -> float:
    """Return the average number of rows in a sequence; 1 without packing.

    Raises:
        InputError: packing without `max_length`.
    """
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

    Packed rows cannot be divided evenly, so the nearest number is returned for them.

    Args:
        micro_batch_size: sequences per device.

    Raises:
        InputError: rows that are not packed cannot be divided evenly.
    """
    sequences = micro_batch_size * world_size
    if rows_per_sequence != 1.0:
        return max(1, round(target_rows / (sequences * rows_per_sequence)))
    if target_rows % sequences == 0:
        return target_rows // sequences
    divisors = [n for n in range(1, micro_batch_size + 1) if target_rows % (n * world_size) == 0]
    advice = (
        f"set per_device_train_batch_size: {divisors[-1]}"
        if divisors
        else f"choose a target that is divisible by {world_size}"
    )
    raise InputError(
        f"target_examples_per_step {target_rows} is not divisible by {world_size} processes x "
        f"{micro_batch_size} rows; {advice}"
    )


def count_optimizer_steps(
    num_rows: int, training_args: SFTConfig, world_size: int, rows_per_sequence: float
) -> int:
    """Return the optimizer steps of a training run."""
    if training_args.max_steps > 0:
        return training_args.max_steps
    sequences = training_args.per_device_train_batch_size * world_size
    micro_batches = math.ceil(math.ceil(num_rows / rows_per_sequence) / sequences)
    steps_per_epoch = math.ceil(micro_batches / training_args.gradient_accumulation_steps)
    return math.ceil(steps_per_epoch * training_args.num_train_epochs)
