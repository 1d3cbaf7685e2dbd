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

from code_alpaca.core import fs
from code_alpaca.core.config import read_yaml, with_choices, write_yaml
from code_alpaca.core.errors import INTERRUPTED, Diverged, InputError, Stopped, machine_trouble
from code_alpaca.core.shipped import accelerate_config
from code_alpaca.training.arguments import SFTArguments, asks_dry_run
from code_alpaca.training.parallelism import Layout, of_file, require_devices

OUTCOME = "CODE_ALPACA_OUTCOME"  # names the file in which a launched child says why it ended
FOR_GPUS = ("MULTI_GPU", "DEEPSPEED", "FSDP")  # distributed_type of an accelerate config
PR_SET_PDEATHSIG = 1  # of prctl(2)
STOPS = {1: Diverged, 2: InputError, 3: Stopped}


def main(argv: Sequence[str]) -> None:
    """Run the stage with the words after `code-alpaca sft`.

    Raises:
        InputError, Stopped: from here, or from the launched processes.
    """
    words = list(argv)
    if {"-h", "--help"} & set(words):
        _print_help()
    elif (
        at := next((i for i, w in enumerate(words) if w.startswith("--accelerate_config")), None)
    ) is not None:
        name, end = _option(words, at)
        path, rest = accelerate_config(name), words[:at] + words[end:]
        if asks_dry_run(rest):  # which looks at a layout for which this machine may be too small
            _run_here(rest, of_file(path))
        else:
            _require_gpus(path)
            run_accelerate(["--config_file", str(path)], rest)
    else:
        _run_here(words)


def _require_gpus(path: Path) -> None:
    """Refuse an accelerate config for more GPUs than there are, before each of its processes does.

    Raises:
        InputError: with what this machine can do instead.
    """
    values = read_yaml(path)
    if str(values.get("distributed_type")).upper() in FOR_GPUS and not values.get("use_cpu"):
        require_devices(of_file(path))


def launch(settings: dict[str, Any]) -> None:
    """Train with these keys through `accelerate launch`, one process on this machine's CPU cores.

    Raises:
        InputError, Stopped: from the launched process.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sft.yaml")
        write_yaml(path, settings)
        threads = str(os.cpu_count() or 1)
        flags = ["--cpu", "--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no"]
        flags += ["--dynamo_backend", "no", "--num_cpu_threads_per_process", threads]
        run_accelerate(flags, ["--config", str(path)])


def run_accelerate(flags: Sequence[str], words: Sequence[str]) -> None:
    """`accelerate launch FLAGS -m code_alpaca.cli sft WORDS`, with the child's own exit kept.

    Raises:
        InputError, Stopped: what the child raised.
        SystemExit: the child failed in a way of its own; it said how.
    """
    command = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", *flags]
    command += ["-m", "code_alpaca.cli", "sft", *words]
    # Ctrl-C is answered by the training process alone: the two launchers above it would only
    # add tracebacks of their own.
    answer = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with tempfile.TemporaryDirectory() as folder:
            outcome = Path(folder, "outcome.json")
            done = subprocess.run(
                command,
                env={**os.environ, OUTCOME: str(outcome)},
                preexec_fn=_end_with_parent,
                check=False,
            )
            if outcome.exists():
                said = json.loads(outcome.read_text(encoding="utf-8"))
                raise STOPS[said["code"]](said["message"])
    finally:
        signal.signal(signal.SIGINT, answer)
    if done.returncode:
        sys.exit(1)


def _end_with_parent() -> None:
    """Have Linux end this process when the one that started it is killed: it must not train on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _run_here(words: list[str], planned: Layout | None = None) -> None:
    if OUTCOME not in os.environ:
        from code_alpaca.training import sft

        sft.train(words, planned)
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by those above
    _end_with_parent()
    try:
        from code_alpaca.training import sft

        sft.train(words)
    except (Exception, KeyboardInterrupt) as error:
        known = machine_trouble(error) or error
        if not isinstance(known, (*STOPS.values(), KeyboardInterrupt)):
            raise
        code = next((code for code, kind in STOPS.items() if isinstance(known, kind)), 3)
        told = json.dumps({"code": code, "message": str(known) or INTERRUPTED})
        fs.write_text(Path(os.environ[OUTCOME]), told)  # several processes may say the same
        sys.exit(code)  # the parent says it


def _option(words: list[str], at: int) -> tuple[str, int]:
    """The value of `--accelerate_config VALUE` or `=VALUE`, and where the next word stands."""
    if "=" in words[at]:
        return words[at].split("=", 1)[1], at + 1
    if at + 1 == len(words):
        raise InputError("--accelerate_config needs a name or a file")
    return words[at + 1], at + 2


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
    kinds = get_type_hints(SFTArguments)
    for item in fields(SFTArguments):
        default = "none" if item.default is MISSING else item.default
        told = with_choices(item.metadata["help"], kinds[item.name])
        parser.add_argument(
            f"--{item.name}",
            metavar="[VALUE]" if kinds[item.name] is bool else "VALUE",
            help=f"{told} (default: {default})".replace("%", "%%"),
        )
    parser.print_help()
