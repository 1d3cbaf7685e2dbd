"""How many examples a step learns from: the recipe's number, on any machine, packed or not."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from code_alpaca.core.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import SFTConfig


def examples_per_sequence(dataset: Dataset, training: SFTConfig) -> float:
    """How many rows stand in one sequence on the average; 1 where rows are not packed."""
    from trl import pack_dataset

    if not training.packing:
        return 1.0
    if training.max_length is None:
        raise InputError("packing needs max_length, the length of the sequences to fill")
    return len(dataset) / len(pack_dataset(dataset, training.max_length, training.packing_strategy))


def accumulation(
    target: int, sequences_per_device: int, processes: int, per_sequence: float
) -> int:
    """The micro-batches to add up before each step, so that it sees `target` examples.

    Packed rows cannot divide evenly; the nearest number is taken.

    Raises:
        InputError: rows that are not packed do not divide the target.
    """
    at_once = sequences_per_device * processes
    if per_sequence != 1.0:
        return max(1, round(target / (at_once * per_sequence)))
    if target % at_once:
        fitting = [n for n in range(1, sequences_per_device + 1) if target % (n * processes) == 0]
        advice = (
            f"give per_device_train_batch_size {fitting[-1]}"
            if fitting
            else f"give a target that {processes} divides"
        )
        raise InputError(
            f"target_examples_per_step {target} cannot be made of {processes} processes with "
            f"{sequences_per_device} rows each; {advice}"
        )
    return target // at_once


def steps_of(rows: int, training: SFTConfig, processes: int, per_sequence: float) -> int:
    """The steps of a whole training on so many rows."""
    if training.max_steps > 0:
        return training.max_steps
    at_once = training.per_device_train_batch_size * processes
    micro_batches = math.ceil(math.ceil(rows / per_sequence) / at_once)
    each_epoch = math.ceil(micro_batches / training.gradient_accumulation_steps)
    return math.ceil(each_epoch * training.num_train_epochs)
