"""The keys of `code-alpaca sft`: those that TRL does not have, and the roles of TRL's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from code_alpaca.core.key_roles import Role, Roles
from code_alpaca.core.old_spellings import OldSpellings
from code_alpaca.core.prompts import PromptStyle
from code_alpaca.training.parallelism import ParallelLayout

if TYPE_CHECKING:
    from trl import ModelConfig, SFTConfig

OLD_SPELLINGS = OldSpellings(values={"mask": {"seed": "alpaca_2023"}})


def _key(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass
class SFTArguments:
    """The rows to train on, how they are tokenized, and what is planned or written."""

    dataset_name: Annotated[str | None, Role.FREE, Role.OFF_CARD] = _key(
        None, "dataset folder, JSON, JSONL, CSV or Parquet file or a folder of them, or Hub id"
    )
    dataset_config: Annotated[str, Role.OFF_CARD] = _key(
        "default", "config of the dataset: default, derisk or verified"
    )
    dataset_split: Annotated[str, Role.OFF_CARD] = _key(
        "train", "split of a folder or Hub dataset to train on, e.g. train[:1000]"
    )
    dataset_revision: Annotated[str | None, Role.OFF_CARD] = _key(
        None, "tag or commit of a Hub dataset, e.g. v1.0.0"
    )
    column_map: dict | str | None = field(
        default=None,
        metadata={
            "help": "columns that contain the Alpaca fields, e.g. {instruction: problem, output: "
            "solution}, or conversations, e.g. {messages: dialog}"
        },
    )
    first_turn: Annotated[bool, Role.OFF_CARD] = _key(
        False,
        "train on the first question and answer of conversations with several turns, which are "
        "refused otherwise",
    )
    dataset_mixture: Annotated[list[dict], Role.OFF_CARD] = field(
        default_factory=list,
        metadata={
            "help": "in a file, instead of dataset_name: a list of datasets, each with name, "
            "config, split, revision, column_map, first_turn and weight (0.5: a random half of its "
            "rows, 2: every row twice)"
        },
    )
    validation_fraction: float = _key(0.0, "fraction of the rows held out for an evaluation loss")
    validation_split: str | None = _key(
        None, "split of dataset_name for an evaluation loss, e.g. validation"
    )
    prompt_style: PromptStyle = field(
        default="alpaca",
        metadata={
            "help": "alpaca_nl ends the prompt with a newline; chat is the model's own chat "
            "template (ChatML if it has none), with all turns of a conversation"
        },
    )
    mask: Literal["completion", "alpaca_2023"] = _key(
        "completion",
        "tokens that contribute to the loss: completion (tokenized separately from the prompt), or "
        "the masking rule of Stanford Alpaca (alpaca_2023)",
    )
    target_examples_per_step: int | None = _key(
        None,
        "global batch size in rows, for any world size, packed or not; sets "
        "gradient_accumulation_steps",
    )
    merge_adapter: bool = _key(True, "with use_peft, also write the full model, adapter merged")
    assumed_mfu: Annotated[float, Role.FREE, Role.LOCAL] = _key(
        0.4, "model FLOPs utilization assumed for the estimated hours"
    )
    gpu_memory_gib: Annotated[float | None, Role.FREE, Role.LOCAL] = _key(
        None, "memory of each GPU, for a dry run on a machine without them"
    )
    from_scratch: bool = _key(
        False, "train a tokenizer and a random LLaMA instead of model_name_or_path"
    )
    scratch_vocab_size: int = _key(2048, "vocabulary with from_scratch")
    scratch_hidden_size: int = _key(256, "width with from_scratch")
    scratch_layers: int = _key(4, "layers with from_scratch")
    scratch_heads: int = _key(4, "attention heads with from_scratch")
    dry_run: Annotated[bool, Role.FREE, Role.LOCAL] = _key(
        False, "print memory, tokens, steps, hours and three rows; train nothing"
    )

    @property
    def has_validation(self) -> bool:
        return bool(self.validation_fraction or self.validation_split)


@dataclass(frozen=True, slots=True)
class TrainingSetup:
    """The parsed keys of a run and its parallel layout."""

    args: SFTArguments
    training: SFTConfig
    model: ModelConfig
    layout: ParallelLayout
    explicit_keys: frozenset[str]  # set in the file or on the command line

    @property
    def model_name(self) -> str:
        return str(self.model.model_name_or_path)

    @property
    def precision(self) -> str:
        half = "bfloat16" if self.training.bf16 else "float16"
        return half if self.mixed_precision else "float32"

    @property
    def mixed_precision(self) -> bool:
        return bool(self.training.bf16 or self.training.fp16)

    @property
    def activation_checkpointing(self) -> bool | None:
        """Whether to checkpoint activations; None: not set, the memory estimate decides."""
        if self.explicit_keys & {"activation_checkpointing", "gradient_checkpointing"}:
            return bool(self.training.gradient_checkpointing)
        return None


_RECORDED = (
    "adam_beta1", "adam_beta2", "adam_epsilon", "learning_rate", "lora_alpha", "lora_dropout",
    "lora_r", "lora_target_modules", "lr_scheduler_type", "max_grad_norm", "max_length",
    "num_train_epochs", "optim", "packing", "per_device_train_batch_size", "seed", "warmup_steps",
    "weight_decay",
)  # fmt: skip
_DERIVED = (  # filled in by transformers and accelerate
    "accelerator_config", "dataloader_pin_memory", "deepspeed", "eos_token",
    "gradient_checkpointing", "pad_token",
)  # fmt: skip
_FREE = (
    "logging_dir", "project", "trackio_bucket_id", "trackio_space_id", "trackio_static_space_id",
    "use_liger_kernel",
)  # fmt: skip
_OFF_CARD = (
    "logging_first_step", "model_name_or_path", "model_revision", "save_steps", "save_strategy",
    "save_total_limit",
)  # fmt: skip
TRL_KEYS: Roles = {
    **dict.fromkeys(_RECORDED, (Role.RECORDED,)),
    **dict.fromkeys(_DERIVED, (Role.DERIVED,)),
    **dict.fromkeys(_FREE, (Role.FREE,)),
    **dict.fromkeys(_OFF_CARD, (Role.OFF_CARD,)),
    **dict.fromkeys(("hub_token", "push_to_hub_token"), (Role.SECRET,)),
    "base_sha256": (Role.DERIVED,),  # not TRL's: sft records the weights that it started from
    "disable_tqdm": (Role.FREE, Role.DERIVED),
    "logging_steps": (Role.FREE, Role.OFF_CARD),
    "output_dir": (Role.FREE, Role.LOCAL),
    "report_to": (Role.FREE, Role.OFF_CARD),
    "run_name": (Role.FREE, Role.OFF_CARD),
}
