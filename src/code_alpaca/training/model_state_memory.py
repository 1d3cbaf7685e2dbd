"""Compute the memory of weights, gradients and optimizer states under each parallel layout.

The states follow from the number of parameters and from what the layout shards (Rajbhandari et
al. 2020, ZeRO, https://arxiv.org/abs/1910.02054, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import psutil

from code_alpaca.training.parallelism import ParallelLayout

GIB = 2**30
# Bytes per trainable parameter of optimizers that do not store two moments in its dtype.
OPTIMIZER_BYTES = {"sgd": 0.0, "adafactor": 0.1, "8bit": 2.0, "4bit": 1.0, "lomo": 0.0}
ADAM_FP32_BYTES = 8.0
FP32_BYTES = 4.0
# Defaults of DeepSpeed's zero_optimization: reduce_bucket_size, and stage3_max_live_parameters
# plus stage3_prefetch_bucket_size.
REDUCE_BUCKET, MAX_LIVE_PARAMETERS = 5e8, 1.05e9
HOST_BUFFER_FACTOR = 1.5  # of DeepSpeed's own estimator, for offloaded states
CUDA_RESERVED = 1.5 * GIB  # CUDA context, NCCL buffers and unusable memory: an approximation
FRAGMENTATION = 1.05  # memory reserved by the CUDA caching allocator per byte in use
# What CPU kernels and their threads allocate from the first step on: 0.10 to 0.19 GiB of resident
# memory above live tensors, measured in six forward and backward passes of small models.
CPU_WORKSPACE = 0.14 * GIB


@dataclass(frozen=True, slots=True)
class ModelSize:
    """Numbers of parameters, and bytes per parameter."""

    parameters: int
    trainable: int
    largest_layer: int  # parameters of the largest module, without its submodules
    bytes_per_param: float
    mixed_precision: bool  # by autocast or by DeepSpeed
    merged_bytes_per_param: float = 0.0  # of the second model that an adapter is merged into

    @property
    def has_adapter(self) -> bool:
        return self.trainable < self.parameters


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Peak bytes of a training run, on each device and each host."""

    weights: float  # with DeepSpeed's 32-bit master copy
    gradients: float
    optimizer: float
    buffers: float  # for communication
    host: float = 0.0  # offloaded, or merged there
    activations: float = 0.0
    reserved: float = 0.0
    merge: float = 0.0  # after the last step, when an adapter is merged into a second model

    @property
    def states(self) -> float:
        return self.weights + self.gradients + self.optimizer

    @property
    def training(self) -> float:
        return self.states + self.buffers + self.activations + self.reserved

    @property
    def peaks_at_merge(self) -> bool:
        return self.states + self.merge > self.training

    @property
    def device(self) -> float:
        return max(self.training, self.states + self.merge)


def compute_memory_need(
    model: ModelSize, layout: ParallelLayout, activations: float, *, optimizer: str
) -> MemoryNeed:
    """Return the memory of a training run; `optimizer` is its name in TrainingArguments.optim."""
    optimizer_bytes = next((n for name, n in OPTIMIZER_BYTES.items() if name in optimizer), None)
    fp32_optimizer_bytes = ADAM_FP32_BYTES if optimizer_bytes is None else optimizer_bytes
    if layout.uses_deepspeed:
        need = _deepspeed_states(model, layout, fp32_optimizer_bytes)
    elif layout.strategy == "fsdp2":
        need = _fsdp_states(model, layout, fp32_optimizer_bytes)
    else:
        need = _replicated_states(model, layout, optimizer_bytes)
    merge = model.parameters * model.merged_bytes_per_param  # only on rank 0
    if layout.on_cpu:
        # Libraries and data are resident already.
        reserved = float(psutil.Process().memory_info().rss) + CPU_WORKSPACE
        merge += reserved if merge else 0.0
        return replace(need, activations=activations, reserved=reserved, merge=merge)
    used = need.states + need.buffers + activations
    reserved = CUDA_RESERVED + used * (FRAGMENTATION - 1)
    return replace(need, activations=activations, reserved=reserved, host=need.host + merge)


def _deepspeed_states(
    model: ModelSize, layout: ParallelLayout, optimizer_bytes: float
) -> MemoryNeed:
    """Return the states under ZeRO: 32-bit master weights and, with 16-bit weights, gradients."""
    world_size, per_machine = layout.world_size, layout.ranks_per_machine
    bytes_per_param = model.bytes_per_param
    weights = model.parameters * bytes_per_param
    master = model.trainable * FP32_BYTES / world_size
    fp32_gradients = FP32_BYTES if model.mixed_precision else 0.0
    gradients = model.trainable * (bytes_per_param + fp32_gradients) / world_size
    optimizer = model.trainable * optimizer_bytes / world_size
    buffers = min(model.trainable, REDUCE_BUCKET) * bytes_per_param
    if layout.strategy == "zero3":
        weights /= world_size
        buffers *= 2  # gradients are copied once more to be sharded
        buffers += min(model.parameters, MAX_LIVE_PARAMETERS) * bytes_per_param
    host = 0.0
    if layout.offload_weights:
        host += weights * per_machine
        weights = 0.0
    if layout.offload_optimizer:
        host_gradients = model.trainable * FP32_BYTES / world_size
        host += (optimizer + master + host_gradients) * per_machine
        optimizer = master = gradients = 0.0
    return MemoryNeed(weights + master, gradients, optimizer, buffers, host * HOST_BUFFER_FACTOR)


def _fsdp_states(model: ModelSize, layout: ParallelLayout, optimizer_bytes: float) -> MemoryNeed:
    """Return the states under FSDP2, whose shards accelerate keeps in 32 bits."""
    return MemoryNeed(
        weights=FP32_BYTES * model.parameters / layout.world_size,
        gradients=FP32_BYTES * model.trainable / layout.world_size,
        optimizer=model.trainable * optimizer_bytes / layout.world_size,
        buffers=2 * FP32_BYTES * model.largest_layer,
    )


def _replicated_states(
    model: ModelSize, layout: ParallelLayout, optimizer_bytes: float | None
) -> MemoryNeed:
    """Return the states in one process or under DDP, whose buckets are a copy of the gradients."""
    # Adapters are kept in 32 bits.
    gradient_bytes = FP32_BYTES if model.has_adapter else model.bytes_per_param
    gradients = model.trainable * gradient_bytes
    return MemoryNeed(
        weights=model.parameters * model.bytes_per_param,
        gradients=gradients,
        optimizer=2 * gradients if optimizer_bytes is None else model.trainable * optimizer_bytes,
        buffers=gradients if layout.world_size > 1 else 0.0,
    )
