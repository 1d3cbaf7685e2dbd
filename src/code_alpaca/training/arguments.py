"""The keys of `code-alpaca sft` that TRL's SFTConfig and ModelConfig do not have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from code_alpaca.core.key_roles import Role
from code_alpaca.core.old_spellings import OldSpellings
from code_alpaca.core.prompts import PromptStyle

OLD_SPELLINGS = OldSpellings(values={"mask": {"seed": "alpaca_2023"}})


@dataclass
class SFTArguments:
    """Which rows to train on, how they are tokenized, and what is planned or written."""

    dataset_name: Annotated[str | None, Role.FREE, Role.OFF_CARD] = field(
        default=None,
        metadata={"help": "dataset folder, Alpaca JSON or JSONL file, or Hub id"},
    )
    dataset_config: Annotated[str, Role.OFF_CARD] = field(
        default="default",
        metadata={"help": "config of the dataset: default, derisk or verified"},
    )
    dataset_revision: Annotated[str | None, Role.OFF_CARD] = field(
        default=None,
        metadata={"help": "tag or commit of a Hub dataset, e.g. v1.0.0"},
    )
    column_map: dict | str | None = field(
        default=None,
        metadata={
            "help": "columns that contain the Alpaca fields, e.g. {instruction: problem, output: "
            "solution}"
        },
    )
    dataset_mixture: Annotated[list[dict], Role.OFF_CARD] = field(
        default_factory=list,
        metadata={
            "help": "in a file, instead of dataset_name: a list of datasets, each with name, "
            "config, revision, column_map and weight (0.5: a random half of its rows, 2: every row "
            "twice)",
        },
    )
    validation_fraction: float = field(
        default=0.0, metadata={"help": "fraction of the rows held out for an evaluation loss"}
    )
    validation_split: str | None = field(
        default=None,
        metadata={"help": "split of dataset_name for an evaluation loss, e.g. validation"},
    )
    prompt_style: PromptStyle = field(
        default="alpaca", metadata={"help": "alpaca_nl ends the prompt with a newline"}
    )
    mask: Literal["completion", "alpaca_2023"] = field(
        default="completion",
        metadata={
            "help": "tokens that contribute to the loss: completion (tokenized separately from "
            "the prompt), or the masking rule of Stanford Alpaca (alpaca_2023)"
        },
    )
    target_examples_per_step: int | None = field(
        default=None,
        metadata={
            "help": "global batch size in rows, for any world size, packed or not; sets "
            "gradient_accumulation_steps"
        },
    )
    merge_adapter: bool = field(
        default=True,
        metadata={"help": "with use_peft, also write the full model with the adapter merged"},
    )
    assumed_mfu: Annotated[float, Role.FREE, Role.LOCAL] = field(
        default=0.4,
        metadata={"help": "model FLOPs utilization assumed for the estimated hours"},
    )
    gpu_memory_gib: Annotated[float | None, Role.FREE, Role.LOCAL] = field(
        default=None,
        metadata={"help": "memory of each GPU, for a dry run on a machine without them"},
    )
    from_scratch: bool = field(
        default=False,
        metadata={"help": "train a tokenizer and a random LLaMA instead of model_name_or_path"},
    )
    scratch_vocab_size: int = field(default=2048, metadata={"help": "vocabulary with from_scratch"})
    scratch_hidden_size: int = field(default=256, metadata={"help": "width with from_scratch"})
    scratch_layers: int = field(default=4, metadata={"help": "layers with from_scratch"})
    scratch_heads: int = field(default=4, metadata={"help": "attention heads with from_scratch"})
    dry_run: Annotated[bool, Role.FREE, Role.LOCAL] = field(
        default=False,
        metadata={"help": "print memory, tokens, steps, hours and three rows; train nothing"},
    )

    @property
    def has_validation(self) -> bool:
        """Whether rows are held out for an evaluation loss."""
        return bool(self.validation_fraction or self.validation_split)
