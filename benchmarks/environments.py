"""Install the tools that we are compared with, each in an environment of its own, and run them.

A peer is two files in peers/: NAME.txt, its pinned requirements, and NAME.py, which reads one JSON
object from standard input and prints one JSON object as its last line. The environment is created
on first use in .peers/NAME; delete that folder to create it again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from common import Bench, NotMeasuredError

PEERS = Path(__file__).with_name("peers")
ENVIRONMENTS = Path(__file__).parents[1] / ".peers"
MAX_SECONDS = 1_800


def run_peer(bench: Bench, name: str, request: dict[str, Any]) -> dict[str, Any]:
    """Return what a peer answers to a request.

    Raises:
        NotMeasuredError: the peer cannot be installed or fails.
    """
    requirements = (PEERS / f"{name}.txt").read_text("utf-8")
    python = install(name, requirements, only_installed=bench.quick)
    pins = re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==(\S+)", requirements, re.M)
    bench.versions.update(pins)
    command = [python, "-P", PEERS / f"{name}.py"]  # -P: `import NAME` is not this very script
    printed = call(command, "it failed", json.dumps(request))
    return json.loads(printed.splitlines()[-1])


def install(name: str, requirements: str, *, only_installed: bool) -> str:
    """Return the interpreter of an environment with these requirements."""
    folder = ENVIRONMENTS / name
    python, installed = folder / "bin/python", folder / "requirements.txt"
    if installed.is_file() and installed.read_text("utf-8") == requirements:
        return str(python)
    if only_installed:
        raise NotMeasuredError("it is not installed, and --quick installs nothing")
    print(f"  installing {name} into {folder}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    problem = "it could not be installed"
    call([sys.executable, "-m", "venv", folder], problem)
    call([python, "-m", "pip", "install", "-q", "-r", PEERS / f"{name}.txt"], problem)
    installed.write_text(requirements, "utf-8")
    return str(python)


def call(command: list[str | Path], problem: str, request: str = "") -> str:
    """Return what a command prints; if it fails, raise the last line of its error."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    try:
        done = subprocess.run(
            command, input=request, capture_output=True, text=True, env=environment,
            timeout=MAX_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise NotMeasuredError(f"{problem}: it took more than {MAX_SECONDS} s") from error
    if done.returncode:
        line = (done.stderr.strip().splitlines() or ["no message"])[-1]
        without_paths = re.sub(r"\S*/\S*/\S*", "...", line)
        raise NotMeasuredError(f"{problem}: {without_paths[:200]}")
    return done.stdout
