"""Fine-tune a model: `code-alpaca sft`, in this process or through `accelerate launch`.

Keys: those below, and every key of TRL's SFTConfig and ModelConfig (learning_rate,
num_train_epochs, per_device_train_batch_size, max_length, output_dir, model_name_or_path, ...):
https://huggingface.co/docs/trl/sft_trainer
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import get_type_hints

from code_alpaca.core.config import describe_choices, read_yaml
from code_alpaca.core.errors import InputError
from code_alpaca.core.shipped import find_accelerate_config
from code_alpaca.training.arguments import SFTArguments
from code_alpaca.training.environment_checks import require_devices
from code_alpaca.training.launcher import launch, train_here
from code_alpaca.training.parallelism import read_accelerate_config
from code_alpaca.training.parsing import requests_dry_run

GPU_TYPES = ("MULTI_GPU", "DEEPSPEED", "FSDP")  # distributed_type of an accelerate config


def main(argv: Sequence[str]) -> None:
    """Run the stage with the words after `code-alpaca sft`.

    Raises:
        InputError, Stopped, Diverged: from here, or from the launched processes.
    """
    words = list(argv)
    if {"-h", "--help"} & set(words):
        _print_help()
        return
    name, words = _extract_accelerate_config(words)
    if name is None:
        train_here(words)
        return
    path = find_accelerate_config(name)
    if requests_dry_run(words):  # plans a layout for which this machine may be too small
        train_here(words, read_accelerate_config(path))
        return
    _require_gpus(path)
    launch(["--config_file", str(path)], words)


def _extract_accelerate_config(words: list[str]) -> tuple[str | None, list[str]]:
    """Return the value of --accelerate_config, and the words without it."""
    for index, word in enumerate(words):
        option, sign, value = word.partition("=")
        if option != "--accelerate_config":
            continue
        if sign:
            return value, words[:index] + words[index + 1 :]
        if index + 1 == len(words):
            raise InputError("--accelerate_config needs a name or a file")
        return words[index + 1], words[:index] + words[index + 2 :]
    return None, words


def _require_gpus(path: Path) -> None:
    """Refuse an accelerate config for more GPUs than exist, before each process does."""
    values = read_yaml(path)
    if str(values.get("distributed_type")).upper() in GPU_TYPES and not values.get("use_cpu"):
        require_devices(read_accelerate_config(path))


def _print_help() -> None:
    parser = argparse.ArgumentParser(
        prog="code-alpaca sft",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        metavar="FILE.yaml",
        help="any of these keys, as YAML; or the name of a shipped recipe",
    )
    parser.add_argument(
        "--accelerate_config",
        metavar="NAME",
        help="launch with this file or shipped name, such as cpu or zero2 (default: this process)",
    )
    types = get_type_hints(SFTArguments)
    for item in fields(SFTArguments):
        default = "none" if item.default in (MISSING, None) else item.default
        text = describe_choices(item.metadata["help"], types[item.name])
        parser.add_argument(
            f"--{item.name}",
            metavar="[VALUE]" if types[item.name] is bool else "VALUE",
            help=f"{text} (default: {default})".replace("%", "%%"),
        )
    parser.print_help()
