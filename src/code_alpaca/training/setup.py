"""The configuration of one training run: parsed keys and the ranks that it runs on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from code_alpaca.training.arguments import SFTArguments
from code_alpaca.training.parallelism import ParallelLayout

if TYPE_CHECKING:
    from trl import ModelConfig, SFTConfig


@dataclass(frozen=True, slots=True)
class TrainingSetup:
    """The keys of a run, in the groups of TRL's parser, and its parallel layout."""

    script_args: SFTArguments
    training_args: SFTConfig
    model_args: ModelConfig
    layout: ParallelLayout
    explicit_keys: frozenset[str]  # set in the file or on the command line

    @property
    def model_name(self) -> str:
        return str(self.model_args.model_name_or_path)

    @property
    def precision(self) -> str:
        """The dtype of the computation."""
        args = self.training_args
        return "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32"

    @property
    def mixed_precision(self) -> bool:
        return self.precision != "float32"

    @property
    def activation_checkpointing(self) -> bool | None:
        """Whether to checkpoint activations; None: not set, the memory estimate decides."""
        if self.explicit_keys & {"activation_checkpointing", "gradient_checkpointing"}:
            return bool(self.training_args.gradient_checkpointing)
        return None
