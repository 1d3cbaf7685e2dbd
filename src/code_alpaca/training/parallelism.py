"""Describe how a training run is distributed: world size, sharding and offloading."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from code_alpaca.core.config import read_yaml
from code_alpaca.core.console import plural
from code_alpaca.core.errors import InputError

if TYPE_CHECKING:
    from trl import SFTConfig

ShardingStrategy = Literal["ddp", "zero1", "zero2", "zero3", "fsdp2"]
ZERO_STAGES: dict[int, ShardingStrategy] = {1: "zero1", 2: "zero2", 3: "zero3"}
NAMES = {"ddp": "DDP", "zero1": "ZeRO-1", "zero2": "ZeRO-2", "zero3": "ZeRO-3", "fsdp2": "FSDP2"}


@dataclass(frozen=True, slots=True)
class ParallelLayout:
    """The ranks of a run, one device each, and the states that are sharded across them."""

    strategy: ShardingStrategy
    world_size: int
    num_machines: int = 1
    offload_optimizer: bool = False  # to host memory
    offload_weights: bool = False
    on_cpu: bool = False

    @property
    def ranks_per_machine(self) -> int:
        return self.world_size // self.num_machines

    @property
    def uses_deepspeed(self) -> bool:
        return self.strategy.startswith("zero")

    def __str__(self) -> str:
        """Name the layout; checkpoints of DeepSpeed record it."""
        if self.world_size == 1 and self.strategy == "ddp":
            return "one process"
        offload = " with offload" if self.offload_optimizer or self.offload_weights else ""
        processes = plural(self.world_size, "process", "processes")
        return f"{NAMES[self.strategy]}{offload} on {processes}"


def read_accelerate_config(path: Path) -> ParallelLayout:
    """Return the layout that `accelerate launch --config_file` starts."""
    values = read_yaml(path)
    deepspeed = values.get("deepspeed_config") or {}
    distributed_type = str(values.get("distributed_type", "NO")).upper()
    strategies = {"NO": "ddp", "MULTI_GPU": "ddp", "MULTI_CPU": "ddp", "FSDP": "fsdp2"}
    if distributed_type == "DEEPSPEED":
        if (stage := deepspeed.get("zero_stage", 2)) not in tuple(ZERO_STAGES):
            raise InputError(f"{path}: zero_stage {stage!r} is not 1, 2 or 3")
        strategy = ZERO_STAGES[stage]
    elif not (strategy := strategies.get(distributed_type)):
        raise InputError(
            f"{path}: distributed_type {distributed_type} is not supported; use DEEPSPEED or one "
            f"of {', '.join(strategies)}"
        )
    return ParallelLayout(
        strategy,
        world_size=int(values.get("num_processes") or 1),
        num_machines=int(values.get("num_machines") or 1),
        offload_optimizer=deepspeed.get("offload_optimizer_device") == "cpu",
        offload_weights=deepspeed.get("offload_param_device") == "cpu",
        on_cpu=bool(values.get("use_cpu")),
    )


def detect_layout(training_args: SFTConfig) -> ParallelLayout:
    """Return the layout that this process was started in."""
    import torch

    world_size = training_args.world_size
    num_machines = max(1, world_size // int(os.environ.get("LOCAL_WORLD_SIZE", world_size)))
    on_cpu = training_args.use_cpu or not torch.cuda.is_available()
    ranks: dict[str, Any] = dict(world_size=world_size, num_machines=num_machines, on_cpu=on_cpu)
    plugin = getattr(training_args, "deepspeed_plugin", None)
    if plugin is not None:
        zero = plugin.deepspeed_config.get("zero_optimization", {})
        return ParallelLayout(
            ZERO_STAGES[plugin.zero_stage],
            offload_optimizer=(zero.get("offload_optimizer") or {}).get("device") == "cpu",
            offload_weights=(zero.get("offload_param") or {}).get("device") == "cpu",
            **ranks,
        )
    # On a CPU accelerate silently replaces FSDP by DDP.
    fsdp = training_args.distributed_state.distributed_type == "FSDP" and not on_cpu
    return ParallelLayout("fsdp2" if fsdp else "ddp", **ranks)
