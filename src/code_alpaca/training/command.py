"""Fine-tune a model: `code-alpaca sft`, in this process or through `accelerate launch`.

Keys: those below, and every key of TRL's SFTConfig and ModelConfig (learning_rate,
num_train_epochs, per_device_train_batch_size, max_length, output_dir, model_name_or_path, ...):
https://huggingface.co/docs/trl/sft_trainer
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

from code_alpaca.core import errors, fs
from code_alpaca.core.config import describe_choices, read_yaml, write_yaml
from code_alpaca.core.errors import Diverged, InputError, Stopped
from code_alpaca.core.extras import require_package
from code_alpaca.core.shipped import find_accelerate_config
from code_alpaca.training.arguments import SFTArguments
from code_alpaca.training.checks import require_devices
from code_alpaca.training.launcher import ERROR_FILE
from code_alpaca.training.parallelism import ParallelLayout, read_accelerate_config
from code_alpaca.training.parsing import extract_option, read_config, requests_dry_run

# accelerate reports every failure of a launched process as exit code 1. So the process writes an
# expected error to ERROR_FILE, and the parent raises it again.
ERRORS: dict[int, type[Exception]] = {1: Diverged, 2: InputError, 3: Stopped}  # by exit code
PR_SET_PDEATHSIG = 1  # of prctl(2)
GPU_TYPES = ("MULTI_GPU", "DEEPSPEED", "FSDP")  # distributed_type of an accelerate config


def main(argv: Sequence[str]) -> None:
    """Run the stage with the words after `code-alpaca sft`."""
    if {"-h", "--help"} & set(argv):
        _print_help()
        return
    name, words = extract_option(argv, "--accelerate_config")
    if name is None:
        train_here(words)
        return
    path = find_accelerate_config(name)
    config, keys, words = read_config(words)
    is_dry_run = requests_dry_run(keys, words)
    words += ["--config", str(config)] if config else []
    if is_dry_run:  # plans a layout for which this machine may be too small
        train_here(words, read_accelerate_config(path))
        return
    values = read_yaml(path)
    if str(values.get("distributed_type")).upper() in GPU_TYPES and not values.get("use_cpu"):
        require_devices(read_accelerate_config(path))  # before each process fails
    launch(["--config_file", str(path)], words)


def train_here(words: list[str], planned_layout: ParallelLayout | None = None) -> None:
    """Train in this process, which may be one that `launch` started.

    A launched process writes an expected error to the error file and exits.
    """
    error_file = os.environ.get(ERROR_FILE)
    if error_file:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by the parents
        _end_with_parent()
    try:
        from code_alpaca.training.sft import train

        train(words, planned_layout)
    except (Exception, KeyboardInterrupt) as error:
        expected = errors.explain_environment_error(error) or error
        if not error_file or not isinstance(expected, (*ERRORS.values(), KeyboardInterrupt)):
            raise
        code = next((code for code, kind in ERRORS.items() if isinstance(expected, kind)), 3)
        interrupted = isinstance(expected, KeyboardInterrupt)
        message = errors.INTERRUPTED if interrupted else str(expected)
        fs.write_json(Path(error_file), {"code": code, "message": message})
        sys.exit(code)


def launch(flags: Sequence[str], words: Sequence[str]) -> None:
    """Run `accelerate launch FLAGS -m code_alpaca.cli sft WORDS`, and raise its expected errors.

    On any other failure, which has printed its traceback, exit with 1.
    """
    require_package("accelerate")
    command = [sys.executable, "-m", "code_alpaca.training.launcher", "--quiet", *flags]
    command += ["-m", "code_alpaca.cli", "sft", *words]
    # Only the training process handles Ctrl-C; its parents would print tracebacks.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with tempfile.TemporaryDirectory() as folder:
            error_file = Path(folder, "error.json")
            environment = {**os.environ, ERROR_FILE: str(error_file)}
            done = subprocess.run(
                command, env=environment, preexec_fn=_end_with_parent, check=False
            )
            if error_file.exists():
                error = json.loads(error_file.read_text(encoding="utf-8"))
                raise ERRORS[error["code"]](error["message"])
    finally:
        signal.signal(signal.SIGINT, handler)
    if done.returncode:
        sys.exit(1)


def launch_on_cpu(keys: dict[str, Any]) -> None:
    """Train with these keys through `accelerate launch`, in one process on all CPU cores."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sft.yaml")
        write_yaml(path, keys)
        num_threads = str(os.cpu_count() or 1)
        flags = ["--cpu", "--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no"]
        flags += ["--dynamo_backend", "no", "--num_cpu_threads_per_process", num_threads]
        launch(flags, ["--config", str(path)])


def _end_with_parent() -> None:
    """Make Linux end this process when its parent is killed, so that it does not train on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _print_help() -> None:
    launcher_help = "launch with this file or shipped name, such as cpu or zero2"
    options = [
        ("config", "FILE.yaml", "any of these keys, as YAML; or the name of a shipped recipe"),
        ("accelerate_config", "NAME", f"{launcher_help} (default: this process)"),
    ]
    types = get_type_hints(SFTArguments)
    for item in fields(SFTArguments):
        default = "unset" if item.default in (MISSING, None) else item.default
        text = describe_choices(item.metadata["help"], types[item.name])
        metavar = "[VALUE]" if types[item.name] is bool else "VALUE"
        options.append((item.name, metavar, f"{text} (default: {default})"))
    parser = argparse.ArgumentParser(
        prog="code-alpaca sft",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, metavar, text in options:
        parser.add_argument(f"--{name}", metavar=metavar, help=text.replace("%", "%%"))
    parser.print_help()
