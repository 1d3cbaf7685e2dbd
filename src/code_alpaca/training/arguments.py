"""The keys of `sft`: TRL's own (SFTConfig, ModelConfig) and the few that it does not have."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from code_alpaca.core.config import read_yaml, unknown_key
from code_alpaca.core.errors import InputError
from code_alpaca.core.key_roles import Role
from code_alpaca.core.shipped import recipe
from code_alpaca.training.parallelism import Layout, of_this_process

if TYPE_CHECKING:
    from trl import ModelConfig, SFTConfig

LEAST_VOCABULARY = 259  # bytes, BOS, EOS and padding
CHECKPOINTING = {"activation_checkpointing", "gradient_checkpointing"}
# Keys that TRL takes and that this stage would not honour: refused, never ignored.
REFUSED = {
    "push_to_hub": "a training run pushes nothing: code-alpaca release makes the model folder",
    "resume_from_checkpoint": "a training resumes from its last complete checkpoint by itself",
    "load_best_model_at_end": "the last checkpoint is kept; compare models with code-alpaca eval",
    "assistant_only_loss": "the Alpaca form has no turns; `mask` says which tokens are learned",
    "chat_template_path": "the Alpaca form has no turns; `prompt_style` says how a prompt ends",
}


@dataclass
class SFTArguments:
    """What to train on, and how rows become tokens."""

    dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "dataset folder, Alpaca JSON or JSONL file, or Hub id",
            "roles": (Role.FREE, Role.OFF_CARD),  # its revision identifies the content
        },
    )
    dataset_config: str = field(
        default="default",
        metadata={
            "help": "config of the dataset: default, derisk or verified",
            "roles": (Role.OFF_CARD,),
        },
    )
    dataset_revision: str | None = field(
        default=None,
        metadata={
            "help": "tag or commit of a Hub dataset, e.g. v1.0.0",
            "roles": (Role.OFF_CARD,),
        },
    )
    column_map: dict | str | None = field(
        default=None,
        metadata={
            "help": "columns that hold the Alpaca fields, e.g. {instruction: problem, output: "
            "solution}"
        },
    )
    dataset_mixture: list[dict] = field(
        default_factory=list,
        metadata={
            "help": "in a file, instead of dataset_name: several, each a mapping of name, config, "
            "revision, column_map and weight (0.5: a random half of its rows, 2: every row twice)",
            "roles": (Role.OFF_CARD,),
        },
    )
    validation_fraction: float = field(
        default=0.0, metadata={"help": "share of the rows held out for an evaluation loss"}
    )
    validation_split: str | None = field(
        default=None,
        metadata={"help": "split of dataset_name for an evaluation loss, e.g. validation"},
    )
    prompt_style: Literal["alpaca", "alpaca_nl"] = field(
        default="alpaca", metadata={"help": "alpaca_nl ends the prompt in a newline"}
    )
    mask: Literal["completion", "seed"] = field(
        default="completion",
        metadata={"help": "which tokens are learned: the completion's, or by the rule of 2023"},
    )
    target_examples_per_step: int | None = field(
        default=None,
        metadata={
            "help": "rows that a step learns from, on any number of processes, packed or not; "
            "gradient_accumulation_steps follows from it"
        },
    )
    merge_adapter: bool = field(
        default=True,
        metadata={"help": "with use_peft, also write the whole model with the adapter in it"},
    )
    assumed_mfu: float = field(
        default=0.4,
        metadata={
            "help": "share of the GPUs' peak speed assumed when hours are estimated",
            "roles": (Role.FREE, Role.LOCAL),
        },
    )
    gpu_memory_gib: float | None = field(
        default=None,
        metadata={
            "help": "memory of each GPU, for a dry run on a machine without them",
            "roles": (Role.FREE, Role.LOCAL),
        },
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
        default=False,
        metadata={
            "help": "print memory, tokens, steps and hours, show three rows; train nothing",
            "roles": (Role.FREE, Role.LOCAL),
        },
    )


@dataclass(frozen=True, slots=True)
class Job:
    """What was asked for, and where it runs."""

    arguments: SFTArguments
    training: SFTConfig
    model: ModelConfig
    layout: Layout
    checkpointing: bool | None  # of activations; None: nobody said, and the memory decides
    max_length_given: bool = False  # by the user, and not TRL's default

    def say(self, text: str) -> None:
        """Print one line, in the first process alone."""
        if self.training.process_index == 0:
            print(f"sft       {text}", flush=True)


def parse(argv: Sequence[str], planned: Layout | None = None) -> Job:
    """TRL's own parser over our keys, SFTConfig's and ModelConfig's; unknown keys are refused.

    Args:
        planned: of a dry run: the layout that `accelerate launch` would start.

    Raises:
        InputError: naming the key, and the nearest valid one.
    """
    import torch
    from transformers.utils import is_liger_kernel_available
    from trl import ModelConfig, SFTConfig, TrlParser

    class Parser(TrlParser):
        def error(self, message: str) -> NoReturn:
            raise InputError(message)

    kinds = (SFTArguments, SFTConfig, ModelConfig)
    valid = [item.name for kind in kinds for item in dataclasses.fields(kind)]
    words = _with_config_path(argv)
    # The file's keys first: TRL would complain of some value before it names an unknown key.
    if "--config" in words[:-1]:
        path = Path(words[words.index("--config") + 1])
        for key in read_yaml(path):
            if key not in valid:
                raise InputError(unknown_key(str(key), valid, str(path)))
    given = _given(words, valid)
    elsewhere = asks_dry_run(words) and not torch.cuda.is_available() and "use_cpu" not in given
    if elsewhere:  # a recipe for GPUs can be looked at anywhere
        words += ["--use_cpu", "true"]
    parser = Parser(kinds, allow_abbrev=False)
    try:
        *parsed, left = parser.parse_args_and_config(words, return_remaining_strings=True)
    except (ValueError, RuntimeError, ImportError, OSError) as error:
        if "assign use_cpu" in str(error):
            raise InputError(
                "this config is for GPUs, and this machine has none; --dry_run plans it here, "
                "--use_cpu true --bf16 false --fp16 false would train on the CPU"
            ) from None
        raise InputError(f"bad training config: {error}") from None
    for word in left:
        if word.startswith("--"):
            raise InputError(unknown_key(word[2:].split("=")[0], valid, "command line"))
        raise InputError(f"stray word {word!r} on the command line; options read --key value")
    arguments, training, model_config = parsed
    if not arguments.dataset_name and not arguments.dataset_mixture:
        raise InputError("missing key 'dataset_name'; give a dataset folder, file or Hub id")
    if not arguments.from_scratch and not model_config.model_name_or_path:
        raise InputError("missing key 'model_name_or_path'; or set from_scratch: true")
    _refuse_what_would_be_ignored(arguments, training, model_config)
    _refuse_what_cannot_be(arguments, training)
    _refuse_missing_trackers(training)
    if has_validation(arguments) and "eval_strategy" not in given:
        training.eval_strategy = "epoch"
    layout = planned or of_this_process(training)
    if elsewhere and not planned:
        layout = dataclasses.replace(layout, on_cpu=False)
    if not layout.on_cpu and not arguments.dry_run:
        require_bfloat16(
            training,
            native=torch.cuda.is_bf16_supported(including_emulation=False),
            device=torch.cuda.get_device_name(),
        )
    # Those of liger-kernel and not the Hub's, which `model_init_kwargs: {use_kernels: true}` would
    # take: there, an MLP made for very long rows computes its forward pass twice.
    if "use_liger_kernel" not in given and not layout.on_cpu:
        training.use_liger_kernel = is_liger_kernel_available()
    return Job(
        arguments,
        training,
        model_config,
        layout=layout,
        checkpointing=bool(training.gradient_checkpointing) if given & CHECKPOINTING else None,
        max_length_given="max_length" in given,
    )


def require_bfloat16(training: SFTConfig, *, native: bool, device: str) -> None:
    """Refuse bfloat16 on a GPU that only emulates it: transformers would train there, slowly.

    Raises:
        InputError: with the keys that train there in float16.
    """
    if (training.bf16 or training.bf16_full_eval) and not native:
        raise InputError(
            f"{device} has no bfloat16 of its own; --bf16 false --fp16 true --dtype float32 trains "
            "it in float16"
        )


def has_validation(arguments: SFTArguments) -> bool:
    """Whether some rows are not learned but measured."""
    return bool(arguments.validation_fraction or arguments.validation_split)


def _refuse_missing_trackers(training: SFTConfig) -> None:
    from transformers.integrations import get_available_reporting_integrations
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    for tracker in training.report_to or []:
        if tracker not in INTEGRATION_TO_CALLBACK:
            known = ", ".join(sorted(INTEGRATION_TO_CALLBACK))
            raise InputError(f"report_to knows no tracker {tracker!r}; there are {known}")
        if tracker not in [*get_available_reporting_integrations(), "flyte"]:  # which it leaves out
            raise InputError(
                f"report_to: {tracker} is not installed; pip install {tracker.replace('_', '-')}, "
                "or leave it out"
            )


def _with_config_path(argv: Sequence[str]) -> list[str]:
    """The words with the path of the config file, where `--config` names a shipped recipe."""
    words = []
    for word in argv:
        words += word.split("=", 1) if word.startswith("--config=") else [word]
    if "--config" in words:
        at = words.index("--config") + 1
        if at == len(words):
            raise InputError("--config needs a file, or the name of a shipped recipe")
        words[at] = str(recipe(words[at]))
    return words


def _given(words: Sequence[str], valid: Sequence[str]) -> set[str]:
    """The keys that the file or the command line sets."""
    given = {word[2:].split("=")[0] for word in words if word.startswith("--")}
    if "--config" in words[:-1]:
        given |= set(read_yaml(Path(words[words.index("--config") + 1])))
    return given & set(valid)


def asks_dry_run(words: Sequence[str]) -> bool:
    """Whether the command line says --dry_run, with or without a value."""
    if "--dry_run" not in words:
        return False
    value = [*words, ""][words.index("--dry_run") + 1].lower()
    return value not in ("false", "no", "0")


def _refuse_what_would_be_ignored(
    arguments: SFTArguments, training: SFTConfig, model_config: ModelConfig
) -> None:
    for key, why in REFUSED.items():
        if getattr(training, key, None):
            raise InputError(f"{key!r} cannot be set here; {why}")
    measured = training.eval_strategy not in (None, "no") or training.eval_on_start
    if measured and not has_validation(arguments):
        raise InputError(
            "'eval_strategy' needs rows to measure on; give validation_fraction or validation_split"
        )
    if training.completion_only_loss is False:
        raise InputError("'completion_only_loss' cannot be false; the loss is on the answer alone")
    for item in dataclasses.fields(model_config):
        if arguments.from_scratch and getattr(model_config, item.name) != item.default:
            raise InputError(
                f"{item.name!r} and from_scratch exclude each other; leave one out "
                "(--from_scratch false, where the config file sets it)"
            )
    if arguments.dataset_mixture:
        for key in ("dataset_name", "dataset_revision", "validation_split"):
            if getattr(arguments, key):
                raise InputError(f"{key!r} and dataset_mixture exclude each other; leave one out")


def _refuse_what_cannot_be(arguments: SFTArguments, training: SFTConfig) -> None:
    width, heads = arguments.scratch_hidden_size, arguments.scratch_heads
    rules = {
        "scratch_heads": heads > 0 and width > 0 and width % (2 * heads) == 0,
        "scratch_layers": arguments.scratch_layers > 0,
        "scratch_vocab_size": arguments.scratch_vocab_size >= LEAST_VOCABULARY,
        "max_length": training.max_length is None or training.max_length > 0,
        "per_device_train_batch_size": training.per_device_train_batch_size > 0,
        "learning_rate": math.isfinite(training.learning_rate) and training.learning_rate > 0,
        "seed": 0 <= training.seed < 2**32,
    }
    rules["validation_fraction"] = 0 <= arguments.validation_fraction < 1
    rules["assumed_mfu"] = 0 < arguments.assumed_mfu <= 1
    rules["gpu_memory_gib"] = (arguments.gpu_memory_gib or 1) > 0
    told = {
        "scratch_heads": "must divide scratch_hidden_size into heads of an even width",
        "scratch_vocab_size": f"must be at least {LEAST_VOCABULARY}: bytes and three signs",
    }
    for key, fine in rules.items():
        if not fine:
            value = getattr(arguments, key, getattr(training, key, None))
            raise InputError(f"bad value for {key!r}: {value!r} {told.get(key, 'is out of range')}")
    target = arguments.target_examples_per_step
    if target is not None and target < 1:
        raise InputError(f"bad value for 'target_examples_per_step': {target} is out of range")
    if target is not None and training.gradient_accumulation_steps != 1:
        raise InputError(
            "target_examples_per_step and gradient_accumulation_steps say the same; leave one out"
        )
    if arguments.validation_fraction and arguments.validation_split:
        raise InputError("validation_fraction and validation_split say the same; leave one out")
    if Path(str(training.output_dir)).is_file():
        raise InputError(f"output_dir {training.output_dir} is a file; give a folder")
