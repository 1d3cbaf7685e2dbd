"""Check that this machine can run a training: GPUs, number formats, build tools and trackers."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from code_alpaca.core.errors import InputError
from code_alpaca.training.arguments import TrainingSetup
from code_alpaca.training.parallelism import ParallelLayout

if TYPE_CHECKING:
    from trl import SFTConfig


def require_devices(layout: ParallelLayout) -> None:
    """Refuse a layout with more ranks on this machine than GPUs, before every rank fails."""
    import torch

    num_gpus = torch.cuda.device_count()
    if layout.on_cpu or num_gpus >= layout.ranks_per_machine:
        return
    advice = "use --accelerate_config cpu"
    if num_gpus:
        advice = f"set num_processes: {num_gpus} in a copy of the accelerate config"
    raise InputError(
        f"the accelerate config starts {layout.ranks_per_machine} processes on this machine, which "
        f"has {num_gpus} GPU{'s' * (num_gpus != 1)}; {advice}, plan it with --dry_run, or use a "
        "machine with more GPUs"
    )


def require_bfloat16(training_args: SFTConfig, *, native: bool, device: str) -> None:
    """Refuse bfloat16 on a GPU that only emulates it, where transformers would train slowly."""
    if (training_args.bf16 or training_args.bf16_full_eval) and not native:
        raise InputError(
            f"{device} has no native bfloat16; --bf16 false --fp16 true --dtype float32 trains "
            "there in float16"
        )


def require_quantization(setup: TrainingSetup) -> None:
    """Refuse quantized weights without an adapter, GPU or bitsandbytes, or if they are sharded."""
    if not (setup.model.load_in_4bit or setup.model.load_in_8bit):
        return
    if not setup.model.use_peft:
        raise InputError("quantized weights cannot be trained; set use_peft: true")
    if setup.layout.strategy in ("zero3", "fsdp2"):
        raise InputError(
            "quantized weights cannot be sharded across GPUs; use accelerate_configs/ddp.yaml or "
            "zero2.yaml"
        )
    if setup.args.dry_run:
        return
    if setup.layout.on_cpu:
        raise InputError("load_in_4bit and load_in_8bit need a GPU; remove them to train on a CPU")
    if not find_spec("bitsandbytes"):
        raise InputError("load_in_4bit needs bitsandbytes; pip install bitsandbytes")


def require_build_tools(layout: ParallelLayout) -> None:
    """Require the tools with which DeepSpeed compiles its CPU extensions on first use."""
    if not layout.uses_deepspeed or not (layout.on_cpu or layout.offload_optimizer):
        return
    environment_bin = str(Path(sys.executable).parent)  # pip installs ninja there
    if not shutil.which("ninja") and shutil.which("ninja", path=environment_bin):
        os.environ["PATH"] = f"{environment_bin}{os.pathsep}{os.environ['PATH']}"
    missing = [tool for tool in ("ninja", os.environ.get("CXX", "g++")) if not shutil.which(tool)]
    if missing:
        raise InputError(
            f"DeepSpeed compiles its CPU extensions and needs {' and '.join(missing)} on PATH; "
            "apt install g++, pip install ninja"
        )


def require_trackers(training_args: SFTConfig) -> None:
    """Require every tracker of `report_to` to exist and be installed."""
    from transformers.integrations import get_available_reporting_integrations
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    installed = [*get_available_reporting_integrations(), "flyte"]  # which transformers omits
    for tracker in training_args.report_to or []:
        if tracker not in INTEGRATION_TO_CALLBACK:
            valid = ", ".join(sorted(INTEGRATION_TO_CALLBACK))
            raise InputError(f"report_to: unknown tracker {tracker!r}; choose one of {valid}")
        if tracker not in installed:
            raise InputError(
                f"report_to: {tracker} is not installed; pip install {tracker.replace('_', '-')}, "
                "or remove it"
            )
