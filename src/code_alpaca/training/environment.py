"""Describe the environment of a run for its record: hardware, package versions, git commit."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from code_alpaca.training.parallelism import ParallelLayout

PACKAGES = ("code-alpaca", "torch", "transformers", "trl", "accelerate", "deepspeed", "peft",
            "bitsandbytes", "flash-attn", "liger-kernel")  # fmt: skip
GIT_TIMEOUT_S = 10


def describe_hardware(layout: ParallelLayout) -> dict[str, Any]:
    """Return the model names and sizes of the hardware, nothing that identifies the machine."""
    import psutil
    import torch

    num_gpus = 0 if layout.on_cpu else torch.cuda.device_count()
    return {
        "gpus": [torch.cuda.get_device_name(index) for index in range(num_gpus)],
        "machines": layout.num_machines,
        "cpu": platform.machine(),
        "cores": psutil.cpu_count(logical=False),
        "host_memory_gib": round(psutil.virtual_memory().total / 2**30),
    }


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that shape a training run."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def git_commit() -> str | None:
    """Return the commit of the working directory, with `-dirty` if it has changes."""
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
