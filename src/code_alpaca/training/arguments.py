"""The keys of `sft` that TRL does not have. A dataclass, as TRL's own parser wants it."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class SFTArguments:
    """What to train on, and how rows become tokens."""

    dataset_name: str | None = field(
        default=None, metadata={"help": "dataset folder, Alpaca JSON or JSONL file, or Hub id"}
    )
    dataset_config: str = field(
        default="default", metadata={"help": "config of the dataset: default, derisk or verified"}
    )
    dataset_revision: str | None = field(
        default=None, metadata={"help": "tag or commit of a Hub dataset, e.g. v1.0.0"}
    )
    prompt_style: Literal["alpaca", "alpaca_nl"] = field(
        default="alpaca", metadata={"help": "alpaca_nl ends the prompt in a newline"}
    )
    mask: Literal["completion"] = field(
        default="completion", metadata={"help": "which tokens are learned: the completion's"}
    )
    from_scratch: bool = field(
        default=False,
        metadata={"help": "train a tokenizer and a random LLaMA instead of model_name_or_path"},
    )
    scratch_vocab_size: int = field(default=2048, metadata={"help": "its vocabulary"})
    scratch_hidden_size: int = field(default=256, metadata={"help": "its width"})
    scratch_layers: int = field(default=4, metadata={"help": "its depth"})
    scratch_heads: int = field(default=4, metadata={"help": "its attention heads"})
    dry_run: bool = field(
        default=False, metadata={"help": "print rows, tokens, steps and one row; train nothing"}
    )
