"""How a training is laid out over processes: known from an accelerate config, or while it runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from code_alpaca.core.config import read_yaml
from code_alpaca.core.errors import InputError

if TYPE_CHECKING:
    from trl import SFTConfig

Kind = Literal["ddp", "zero1", "zero2", "zero3", "fsdp2"]
ZERO: dict[int, Kind] = {1: "zero1", 2: "zero2", 3: "zero3"}  # by stage
NAMES = {
    "ddp": "DDP",
    "zero1": "ZeRO-1",
    "zero2": "ZeRO-2",
    "zero3": "ZeRO-3",
    "fsdp2": "FSDP2",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """Processes, each with a device of its own, and what they share out among them."""

    kind: Kind
    processes: int
    machines: int = 1
    offload_optimizer: bool = False  # to the memory of the host
    offload_weights: bool = False
    on_cpu: bool = False

    @property
    def on_each_machine(self) -> int:
        return self.processes // self.machines

    @property
    def deepspeed(self) -> bool:
        return self.kind.startswith("zero")

    def __str__(self) -> str:
        if self.processes == 1 and self.kind == "ddp":
            return "one process"
        offloaded = " with offload" if self.offload_optimizer or self.offload_weights else ""
        many = "es" * (self.processes != 1)
        return f"{NAMES[self.kind]}{offloaded} on {self.processes} process{many}"


def of_file(path: Path, processes: int | None = None) -> Layout:
    """The layout that `accelerate launch --config_file` would start.

    Raises:
        InputError: the file cannot be read, or spreads training in a way that is unknown here.
    """
    values = read_yaml(path)
    deepspeed = values.get("deepspeed_config") or {}
    kind = str(values.get("distributed_type", "NO")).upper()
    found: Kind
    if kind == "DEEPSPEED":
        stage = deepspeed.get("zero_stage", 2)
        if stage not in tuple(ZERO):
            raise InputError(f"{path}: zero_stage {stage!r} is not 1, 2 or 3")
        found = ZERO[stage]
    elif kind == "FSDP":
        found = "fsdp2"
    elif kind in ("NO", "MULTI_GPU", "MULTI_CPU"):
        found = "ddp"
    else:
        raise InputError(f"{path}: distributed_type {kind} is not one that this command knows")
    return Layout(
        kind=found,
        processes=processes or int(values.get("num_processes") or 1),
        machines=int(values.get("num_machines") or 1),
        offload_optimizer=deepspeed.get("offload_optimizer_device") == "cpu",
        offload_weights=deepspeed.get("offload_param_device") == "cpu",
        on_cpu=bool(values.get("use_cpu")),
    )


def of_this_process(training: SFTConfig) -> Layout:
    """The layout that this process was started in."""
    import torch

    processes = training.world_size
    here = int(os.environ.get("LOCAL_WORLD_SIZE", processes))
    on_cpu = training.use_cpu or not torch.cuda.is_available()
    shape: dict[str, Any] = {
        "processes": processes,
        "machines": max(1, processes // here),
        "on_cpu": on_cpu,
    }
    plugin = getattr(training, "deepspeed_plugin", None)
    if plugin is not None:
        zero = plugin.deepspeed_config.get("zero_optimization", {})
        return Layout(
            kind=ZERO[plugin.zero_stage],
            offload_optimizer=(zero.get("offload_optimizer") or {}).get("device") == "cpu",
            offload_weights=(zero.get("offload_param") or {}).get("device") == "cpu",
            **shape,
        )
    # accelerate takes FSDP on a CPU for DDP, and says nothing.
    fsdp = training.distributed_state.distributed_type == "FSDP" and not on_cpu
    return Layout(kind="fsdp2" if fsdp else "ddp", **shape)


def require_devices(layout: Layout) -> None:
    """Refuse a layout for another machine before every process fails in its own words.

    Raises:
        InputError: more processes here than GPUs.
    """
    import torch

    there = torch.cuda.device_count()
    if layout.on_cpu or there >= layout.on_each_machine:
        return
    gpus = f"{there} GPU{'s' * (there != 1)}"
    advice = "take --accelerate_config cpu"
    if there:
        advice = f"set num_processes: {there} in a copy of the accelerate config"
    raise InputError(
        f"{layout.on_each_machine} processes are to run here, which has {gpus}; {advice}, plan it "
        "with --dry_run, or take a machine with more GPUs"
    )
