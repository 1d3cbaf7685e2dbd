"""Parse the command line and config file of `code-alpaca sft`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from code_alpaca.core.config import describe_unknown_key, read_yaml
from code_alpaca.core.errors import InputError
from code_alpaca.core.shipped import find_recipe
from code_alpaca.training.argument_checks import check_arguments
from code_alpaca.training.arguments import OLD_SPELLINGS, SFTArguments, TrainingSetup
from code_alpaca.training.environment_checks import require_bfloat16, require_trackers
from code_alpaca.training.parallelism import ParallelLayout, detect_layout

if TYPE_CHECKING:
    from trl import ModelConfig, SFTConfig


def parse_sft_arguments(
    argv: Sequence[str], planned_layout: ParallelLayout | None = None
) -> TrainingSetup:
    """Parse the keys of SFTArguments, SFTConfig and ModelConfig with TRL's parser.

    Args:
        planned_layout: of a dry run: the layout that `accelerate launch` would start.

    Raises:
        InputError: a key is unknown, out of range, missing or not supported.
    """
    import torch
    from transformers.utils import is_liger_kernel_available
    from trl import ModelConfig, SFTConfig

    groups = (SFTArguments, SFTConfig, ModelConfig)
    valid_keys = [item.name for group in groups for item in dataclasses.fields(group)]
    words = _split_words(argv)
    file_keys = _read_config_file(words, valid_keys)
    words = _update_old_spellings(words, file_keys)
    explicit_keys = frozenset(valid_keys) & {*file_keys, *map(_key, words)}
    # A recipe for GPUs can be planned on a machine without them.
    plans_for_gpus = (
        requests_dry_run(words) and not torch.cuda.is_available() and "use_cpu" not in explicit_keys
    )
    if plans_for_gpus:
        words += ["--use_cpu", "true"]
    script_args, training_args, model_args = _parse_with_trl(words, groups, valid_keys)
    check_arguments(script_args, training_args, model_args)
    require_trackers(training_args)
    if script_args.has_validation and "eval_strategy" not in explicit_keys:
        training_args.eval_strategy = "epoch"
    layout = planned_layout or detect_layout(training_args)
    if plans_for_gpus and not planned_layout:
        layout = dataclasses.replace(layout, on_cpu=False)
    if not layout.on_cpu and not script_args.dry_run:
        require_bfloat16(
            training_args,
            native=torch.cuda.is_bf16_supported(including_emulation=False),
            device=torch.cuda.get_device_name(),
        )
    # The kernels of the package liger-kernel. Those of the Hub (`model_init_kwargs: {use_kernels:
    # true}`) include an MLP for very long rows that runs its forward pass twice.
    if "use_liger_kernel" not in explicit_keys and not layout.on_cpu:
        training_args.use_liger_kernel = is_liger_kernel_available()
    return TrainingSetup(script_args, training_args, model_args, layout, explicit_keys)


def requests_dry_run(words: Sequence[str]) -> bool:
    """Whether the command line sets --dry_run, with or without a value."""
    if "--dry_run" not in words:
        return False
    value = [*words, ""][words.index("--dry_run") + 1].lower()
    return value not in ("false", "no", "0")


def _split_words(argv: Sequence[str]) -> list[str]:
    """Return the words with the path of the config file, where `--config` names a recipe."""
    words: list[str] = []
    for word in argv:
        words += word.split("=", 1) if word.startswith("--config=") else [word]
    if "--config" in words:
        index = words.index("--config") + 1
        if index == len(words):
            raise InputError("--config needs a file, or the name of a shipped recipe")
        words[index] = str(find_recipe(words[index]))
    return words


def _read_config_file(words: Sequence[str], valid_keys: Sequence[str]) -> dict[str, Any]:
    """Return the keys of the config file; TRL would reject a value before an unknown key."""
    if "--config" not in words:
        return {}
    path = Path(words[words.index("--config") + 1])
    values = read_yaml(path)
    for key in values:
        if key not in valid_keys:
            raise InputError(describe_unknown_key(str(key), valid_keys, str(path)))
    return values


def _update_old_spellings(words: Sequence[str], file_keys: dict[str, Any]) -> list[str]:
    """Return the words in today's spelling.

    A renamed value of the config file is put before the words, which take precedence over it.
    """
    warn = os.environ.get("RANK", "0") == "0"
    renamed = OLD_SPELLINGS.update(file_keys, warn=warn)
    updated = [
        word
        for key, value in renamed.items()
        if value != file_keys.get(key)
        for word in (f"--{key}", value)
    ]
    return updated + OLD_SPELLINGS.update_arguments(words, warn=warn)


def _key(word: str) -> str:
    return word.removeprefix("--").partition("=")[0] if word.startswith("--") else ""


def _parse_with_trl(
    words: list[str], groups: tuple[type, ...], valid_keys: Sequence[str]
) -> tuple[SFTArguments, SFTConfig, ModelConfig]:
    from trl import TrlParser

    class Parser(TrlParser):
        def error(self, message: str) -> NoReturn:
            raise InputError(message)

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
            raise InputError(describe_unknown_key(_key(word), valid_keys, "command line"))
        raise InputError(f"unexpected word {word!r} on the command line; options are --key value")
    script_args, training_args, model_args = parsed
    return script_args, training_args, model_args
