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
import venv
from pathlib import Path
from typing import Any

from common import Bench, NotMeasuredError

PEERS = Path(__file__).with_name("peers")
ENVIRONMENTS = Path(__file__).parents[1] / ".peers"


def run_peer(bench: Bench, name: str, request: dict[str, Any]) -> dict[str, Any]:
    """Return what a peer answers to a request.

    Raises:
        NotMeasuredError: the peer cannot be installed or fails.
    """
    requirements = (PEERS / f"{name}.txt").read_text("utf-8")
    python = install(name, requirements, only_installed=bench.quick)
    pins = re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==(\S+)", requirements, re.M)
    bench.versions.update(pins)
    done = subprocess.run(
        [python, "-P", str(PEERS / f"{name}.py")],  # -P: `import NAME` is not this very script
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=1_800,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    if done.returncode:
        raise NotMeasuredError(f"{name} failed: {last_line(done.stderr)}")
    return json.loads(done.stdout.splitlines()[-1])


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
    venv.create(folder, with_pip=True)
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "-r", PEERS / f"{name}.txt"],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise NotMeasuredError(f"it could not be installed: {last_line(done.stderr)}")
    installed.write_text(requirements, "utf-8")
    return str(python)


def last_line(text: str) -> str:
    """Return the last line of an error, without addresses and paths."""
    line = (text.strip().splitlines() or ["no message"])[-1]
    return re.sub(r"\S*/\S*/\S*", "...", line)[:200]
