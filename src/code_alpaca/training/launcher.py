"""Start training through `accelerate launch`, and exit as the launched processes do.

accelerate reports every failure of a child with exit code 1 and a traceback of its own. So a
launched process writes the error with which it ends to a file, and the parent raises it again.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from code_alpaca.core import fs
from code_alpaca.core.config import write_yaml
from code_alpaca.core.errors import (
    INTERRUPTED,
    Diverged,
    InputError,
    Stopped,
    explain_environment_error,
)
from code_alpaca.training.parallelism import ParallelLayout

ERROR_FILE = "CODE_ALPACA_ERROR_FILE"  # environment variable of launched processes
ERRORS: dict[int, type[Exception]] = {1: Diverged, 2: InputError, 3: Stopped}  # by exit code
PR_SET_PDEATHSIG = 1  # of prctl(2)


def train_here(words: list[str], planned_layout: ParallelLayout | None = None) -> None:
    """Train in this process, which may be one that `launch` started.

    Raises:
        InputError, Stopped, Diverged: unless launched.
        SystemExit: launched, after the error was written to the error file.
    """
    if ERROR_FILE not in os.environ:
        from code_alpaca.training.sft import train

        train(words, planned_layout)
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by the parents
    _end_with_parent()
    try:
        from code_alpaca.training.sft import train

        train(words)
    except (Exception, KeyboardInterrupt) as error:
        expected = explain_environment_error(error) or error
        if not isinstance(expected, (*ERRORS.values(), KeyboardInterrupt)):
            raise
        code = next((code for code, kind in ERRORS.items() if isinstance(expected, kind)), 3)
        message = INTERRUPTED if isinstance(expected, KeyboardInterrupt) else str(expected)
        fs.write_json(Path(os.environ[ERROR_FILE]), {"code": code, "message": message})
        sys.exit(code)


def launch(flags: Sequence[str], words: Sequence[str]) -> None:
    """Run `accelerate launch FLAGS -m code_alpaca.cli sft WORDS`.

    Raises:
        InputError, Stopped, Diverged: as raised by a launched process.
        SystemExit: a launched process failed in another way, and printed its traceback.
    """
    command = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", *flags]
    command += ["-m", "code_alpaca.cli", "sft", *words]
    # Only the training process handles Ctrl-C; its parents would print tracebacks.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with tempfile.TemporaryDirectory() as folder:
            error_file = Path(folder, "error.json")
            done = subprocess.run(
                command,
                env={**os.environ, ERROR_FILE: str(error_file)},
                preexec_fn=_end_with_parent,
                check=False,
            )
            if error_file.exists():
                error = json.loads(error_file.read_text(encoding="utf-8"))
                raise ERRORS[error["code"]](error["message"])
    finally:
        signal.signal(signal.SIGINT, handler)
    if done.returncode:
        sys.exit(1)


def launch_on_cpu(keys: dict[str, Any]) -> None:
    """Train with these keys through `accelerate launch`, in one process on all CPU cores.

    Raises:
        InputError, Stopped, Diverged: as raised by the launched process.
    """
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
