"""Parse and check the command line and config file of `code-alpaca sft`."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from code_alpaca.core.config import UnknownKeyError, describe_bad_value, read_yaml
from code_alpaca.core.errors import InputError
from code_alpaca.core.prompts import CHAT
from code_alpaca.core.shipped import find_recipe
from code_alpaca.training.arguments import OLD_SPELLINGS, SFTArguments, TrainingSetup
from code_alpaca.training.checks import require_bfloat16, require_trackers
from code_alpaca.training.parallelism import ParallelLayout, detect_layout
from code_alpaca.training.scratch_model import MIN_VOCAB_SIZE

if TYPE_CHECKING:
    from trl import ModelConfig, SFTConfig

# Keys that TRL accepts and this stage would silently ignore.
UNSUPPORTED_KEYS = {
    "push_to_hub": "training pushes nothing; code-alpaca release writes and pushes the model",
    "resume_from_checkpoint": "training always resumes from its last complete checkpoint",
    "load_best_model_at_end": "the last checkpoint is kept; compare models with code-alpaca eval",
    "assistant_only_loss": "only answers contribute to the loss; see `mask`",
    "chat_template_path": "with `prompt_style: chat`, the model's own template is used",
}


def parse_sft_arguments(
    argv: Sequence[str], planned_layout: ParallelLayout | None = None
) -> TrainingSetup:
    """Parse the keys of SFTArguments, SFTConfig and ModelConfig; see `sft.train`."""
    import torch
    from transformers.utils import is_liger_kernel_available
    from trl import ModelConfig, SFTConfig

    groups = (SFTArguments, SFTConfig, ModelConfig)
    valid_keys = [item.name for group in groups for item in dataclasses.fields(group)]
    path, file_keys, words = read_config(argv)
    for key in file_keys:  # TRL would reject a value before an unknown key
        if key not in valid_keys:
            raise UnknownKeyError(str(key), valid_keys, str(path))
    words = _update_old_spellings(words, file_keys)
    _check_types(OLD_SPELLINGS.update(file_keys, warn=False), str(path), groups)
    explicit_keys = frozenset(valid_keys) & {*file_keys, *map(_key, words)}
    # A recipe for GPUs can be planned on a machine without them.
    plans_for_gpus = (
        requests_dry_run(file_keys, words)
        and not torch.cuda.is_available()
        and "use_cpu" not in explicit_keys
    )
    if plans_for_gpus:
        words += ["--use_cpu", "true"]
    if path:
        words += ["--config", str(path)]
    script_args, training_args, model_args = _parse_with_trl(words, groups, valid_keys)
    _check_values(script_args, training_args, model_args)
    require_trackers(training_args)
    if script_args.has_validation and "eval_strategy" not in explicit_keys:
        training_args.eval_strategy = "epoch"
    layout = planned_layout or detect_layout(training_args)
    if plans_for_gpus and not planned_layout:
        layout = dataclasses.replace(layout, on_cpu=False)
    if not layout.on_cpu and not script_args.dry_run:
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        require_bfloat16(training_args, native=native, device=torch.cuda.get_device_name())
    # The kernels of the package liger-kernel. Those of the Hub (`model_init_kwargs: {use_kernels:
    # true}`) include an MLP for very long rows that runs its forward pass twice.
    if "use_liger_kernel" not in explicit_keys and not layout.on_cpu:
        training_args.use_liger_kernel = is_liger_kernel_available()
    return TrainingSetup(script_args, training_args, model_args, layout, explicit_keys)


def read_config(argv: Sequence[str]) -> tuple[Path | None, dict[str, Any], list[str]]:
    """Return the file of `--config`, its keys, and the other words of the command line."""
    name, words = extract_option(argv, "--config")
    if name is None:
        return None, {}, words
    path = find_recipe(name)
    return path, read_yaml(path), words


def extract_option(argv: Sequence[str], option: str) -> tuple[str | None, list[str]]:
    """Return the value of `option` (two words, or `option=value`), and the words without it.

    TRL also accepts `--max-length`; the words have the key's own spelling, `--max_length`.
    """
    words = [re.sub("^--[^=]+", lambda name: f"--{_key(name[0])}", word) for word in argv]
    for index, word in enumerate(words):
        name, sign, value = word.partition("=")
        if name == option and sign:
            return value, words[:index] + words[index + 1 :]
        if name == option and index + 1 < len(words):
            return words[index + 1], words[:index] + words[index + 2 :]
        if name == option:
            raise InputError(f"{option} needs a file or a shipped name")
    return None, words


def requests_dry_run(file_keys: Mapping[str, Any], words: Sequence[str]) -> bool:
    """Return whether the command line, or else the config file, sets `dry_run`."""
    value = file_keys.get("dry_run", False)
    for word, next_word in pairwise([*words, ""]):
        name, sign, given = word.partition("=")
        if name == "--dry_run":
            value = given if sign else next_word
    return str(value).lower() not in ("false", "f", "no", "n", "0", "none")


def _update_old_spellings(words: Sequence[str], file_keys: dict[str, Any]) -> list[str]:
    """Return the words in today's spelling, preceded by the renamed values of the config file.

    A value of the file that the command line replaces is neither renamed nor warned about.
    """
    warn = os.environ.get("RANK", "0") == "0"
    replaced = set(map(_key, words))
    used = {key: value for key, value in file_keys.items() if key not in replaced}
    updated = []
    for key, value in OLD_SPELLINGS.update(used, warn=warn).items():
        if value != used.get(key) and isinstance(value, str):
            updated += [f"--{key}", value]
    return updated + OLD_SPELLINGS.update_arguments(words, warn=warn)


def _key(word: str) -> str:
    name = word.removeprefix("--").partition("=")[0] if word.startswith("--") else ""
    return name.replace("-", "_")


def _parse_with_trl(
    words: list[str], groups: tuple[type, ...], valid_keys: Sequence[str]
) -> tuple[Any, ...]:
    from trl import TrlParser

    class Parser(TrlParser):
        def error(self, message: str) -> NoReturn:
            # argparse: "argument --max_length/--max-length: invalid int value: 'x'"
            raise InputError(re.sub(r"argument --(\w+)\S*:", r"bad value for '\1':", message))

    parser = Parser(groups, allow_abbrev=False)
    try:
        *parsed, rest = parser.parse_args_and_config(words, return_remaining_strings=True)
    except (ValueError, RuntimeError, ImportError, OSError) as error:
        if "assign use_cpu" in str(error):
            raise InputError(
                "this config is for GPUs, and this machine has none; --dry_run plans it here, "
                "--use_cpu true --bf16 false --fp16 false would train on the CPU"
            ) from None
        raise InputError(f"bad training config: {error}") from None
    for word in rest:
        if word.startswith("--"):
            raise UnknownKeyError(_key(word), valid_keys, "command line")
        raise InputError(f"unexpected word {word!r} on the command line; options are --key value")
    return tuple(parsed)


def _check_types(keys: Mapping[str, Any], where: str, groups: Sequence[type]) -> None:
    """Refuse a value in a file of another type or not among the choices: TRL does not check it."""
    hints = {name: hint for group in groups for name, hint in get_type_hints(group).items()}
    choices = {
        item.name: list(item.metadata["choices"])
        for group in groups
        for item in dataclasses.fields(group)
        if "choices" in item.metadata
    }
    for key, value in keys.items():
        if value is None:
            continue
        if value not in choices.get(key, [value]):
            valid = ", ".join(choices[key])
            raise InputError(f"bad value for {key!r} ({where}): give one of {valid}, got {value!r}")
        if not _is_plain(hints[key]):
            continue
        try:
            TypeAdapter(hints[key]).validate_python(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise InputError(describe_bad_value(key, where, first)) from None


def _is_plain(annotation: Any) -> bool:
    """Return whether a type consists of those that YAML can express."""
    if get_origin(annotation) is list:
        return False  # `lora_target_modules: all-linear`
    if get_origin(annotation) is Literal or annotation in (str, int, float, bool, dict, NoneType):
        return True
    return bool(get_args(annotation)) and all(map(_is_plain, get_args(annotation)))


def _check_values(args: SFTArguments, training: SFTConfig, model: ModelConfig) -> None:
    if not args.dataset_name and not args.dataset_mixture:
        raise InputError("missing key 'dataset_name'; give a dataset folder, file or Hub id")
    if not args.from_scratch and not model.model_name_or_path:
        raise InputError("missing key 'model_name_or_path'; or set from_scratch: true")
    for key, reason in UNSUPPORTED_KEYS.items():
        if getattr(training, key, None):
            raise InputError(f"{key!r} cannot be set here; {reason}")
    evaluates = training.eval_strategy not in (None, "no") or training.eval_on_start
    if evaluates and not args.has_validation:
        raise InputError(
            "'eval_strategy' needs held-out rows; set validation_fraction or validation_split"
        )
    if training.completion_only_loss is False:
        raise InputError("'completion_only_loss' cannot be false; only completions have a loss")
    _reject_contradictions(args, training, model)
    _reject_out_of_range(args, training)
    if Path(str(training.output_dir)).is_file():
        raise InputError(f"output_dir {training.output_dir} is a file; choose a folder")


def _reject_contradictions(args: SFTArguments, training: SFTConfig, model: ModelConfig) -> None:
    if args.prompt_style == CHAT and args.mask != "completion":
        raise InputError(f"mask {args.mask} is a rule for Alpaca prompts; leave it out for chat")
    for item in dataclasses.fields(model):
        if args.from_scratch and getattr(model, item.name) != item.default:
            raise InputError(
                f"{item.name!r} and from_scratch exclude each other; remove one of them "
                "(--from_scratch false, if the config file sets it)"
            )
    for key in (
        "dataset_name",
        "dataset_revision",
        "dataset_split",
        "first_turn",
        "validation_split",
    ):
        if args.dataset_mixture and getattr(args, key) != getattr(SFTArguments, key):
            raise InputError(f"{key!r} and dataset_mixture exclude each other; remove one of them")
    if args.target_examples_per_step and training.gradient_accumulation_steps != 1:
        raise InputError(
            "target_examples_per_step and gradient_accumulation_steps both set the global batch "
            "size; remove one of them"
        )
    if args.validation_fraction and args.validation_split:
        raise InputError(
            "validation_fraction and validation_split both set the held-out rows; remove one"
        )


def _reject_out_of_range(args: SFTArguments, training: SFTConfig) -> None:
    width, heads = args.scratch_hidden_size, args.scratch_heads
    target = args.target_examples_per_step
    in_range = {
        "scratch_heads": heads > 0 and width > 0 and width % (2 * heads) == 0,
        "scratch_layers": args.scratch_layers > 0,
        "scratch_vocab_size": args.scratch_vocab_size >= MIN_VOCAB_SIZE,
        "max_length": training.max_length is None or training.max_length > 0,
        "per_device_train_batch_size": training.per_device_train_batch_size > 0,
        "learning_rate": math.isfinite(training.learning_rate) and training.learning_rate > 0,
        "seed": 0 <= training.seed < 2**32,
        "validation_fraction": 0 <= args.validation_fraction < 1,
        "assumed_mfu": 0 < args.assumed_mfu <= 1,
        "gpu_memory_gib": args.gpu_memory_gib is None or args.gpu_memory_gib > 0,
        "target_examples_per_step": target is None or target >= 1,
    }
    reasons = {
        "scratch_heads": "must divide scratch_hidden_size into heads of an even width",
        "scratch_vocab_size": f"must be at least {MIN_VOCAB_SIZE}: bytes, BOS, EOS and padding",
    }
    for key, valid in in_range.items():
        if not valid:
            value = getattr(args, key, getattr(training, key, None))
            reason = reasons.get(key, "is out of range")
            raise InputError(f"bad value for {key!r}: {value!r} {reason}")
