"""The memory that a training will need, known in seconds without a GPU and without weights.

States (weights, gradients, optimizer) follow from the number of parameters and what the layout
shares out (Rajbhandari et al. 2020, ZeRO, https://arxiv.org/abs/1910.02054, section 3).
Activations follow from a step that is taken on tensors without data: each operation says how
much it would allocate, and what is alive at once is counted.
"""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from code_alpaca.training.parallelism import Layout
from code_alpaca.training.trainer import loss_at

if TYPE_CHECKING:
    import torch
    from peft import PeftConfig
    from transformers import PretrainedConfig, PreTrainedModel
    from trl import SFTConfig

GIB = 2**30
# Bytes for a trainable parameter that an optimizer keeps beside it, where not two of its own type.
OPTIMIZER_BYTES = {"sgd": 0.0, "adafactor": 0.1, "8bit": 2.0, "4bit": 1.0, "lomo": 0.0}
NF4 = 0.52  # bytes a weight, with the constants of its blocks quantized, too (QLoRA, section 3)
# Of DeepSpeed's zero_optimization: reduce_bucket_size, and stage3_max_live_parameters with
# stage3_prefetch_bucket_size, as they are where nobody sets them.
REDUCED_AT_ONCE, GATHERED_AT_ONCE = 5e8, 1.05e9
HOST_BUFFERS = 1.5  # by which DeepSpeed's own estimator multiplies what is offloaded
DDP_BUCKETS = 1  # gradients that DDP copies into buckets to reduce them, in whole sets
RESERVED = 1.5 * GIB  # the CUDA context, NCCL's buffers and what cannot be reused: a round guess
FRAGMENTS = 1.05  # what the allocator of a GPU holds for what is used
# On a CPU, what the kernels and their threads keep for themselves from the first step on: resident
# memory above what was alive, in six forward and backward passes of small models 0.10 to 0.19 GiB.
WORKSPACE = 0.14 * GIB
ADAPTER_HOLES = 1.75  # on a CPU, for every byte that adapted layers give out: see `holes`


@dataclass(frozen=True, slots=True)
class Batch:
    """The shape of one micro-batch on one device: sequences of this many tokens."""

    sequences: int
    tokens: int
    joined: bool = False  # packed into one line of tokens, under a mask that keeps rows apart


@dataclass(frozen=True, slots=True)
class Model:
    """What of a model matters here: numbers of parameters, and bytes of each weight."""

    parameters: int
    trainable: int
    largest_layer: int  # parameters of the module that has most of its own
    weight_bytes: float
    mixed: bool  # trained in 16 bits, by autocast or by DeepSpeed
    merged_bytes: float = 0.0  # of each weight in the copy that an adapter is merged into


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on each device, and on each host, at the worst moment of a training."""

    weights: float
    gradients: float
    optimizer: float
    buffers: float  # reduced or gathered at a time
    activations: float
    reserved: float
    host: float  # of each machine
    merge: float = 0.0  # after the last step, when an adapter is merged into a second model

    @property
    def states(self) -> float:
        return self.weights + self.gradients + self.optimizer

    @property
    def step(self) -> float:
        return self.states + self.buffers + self.activations + self.reserved

    @property
    def merging_is_worst(self) -> bool:
        return self.states + self.merge > self.step

    @property
    def device(self) -> float:
        return max(self.step, self.states + self.merge)


def skeleton(
    config: PretrainedConfig, dtype: torch.dtype, peft: PeftConfig | None = None
) -> PreTrainedModel:
    """The model without any weights; to be called and used under `without_data()`."""
    import torch
    from peft import get_peft_model
    from torch._subclasses.fake_tensor import unset_fake_temporarily
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:  # not by from_config, which would cut the weights up where DeepSpeed is at work
        # A constant such as Gemma's embedding scale cannot be made on this device in fake mode.
        with unset_fake_temporarily(), torch.device("meta"):
            model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config)
            if peft is not None:
                model = get_peft_model(model, peft)
    finally:
        torch.set_default_dtype(before)
    _to_cpu(model)
    return model


def _to_cpu(model: PreTrainedModel) -> None:
    """Give a model on no device one, tensor by tensor: `to` cannot, without data."""
    import torch

    moved: dict[int, torch.Tensor] = {}  # tied weights stay one
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if id(weight) not in moved:
                here = torch.empty(weight.shape, dtype=weight.dtype)
                moved[id(weight)] = torch.nn.Parameter(here, weight.requires_grad)
            module.register_parameter(name, moved[id(weight)])
        for name, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(name, torch.zeros(buffer.shape, dtype=buffer.dtype))
        for name, value in list(vars(module).items()):  # tensors that are no buffers
            if isinstance(value, torch.Tensor):
                setattr(module, name, torch.zeros(value.shape, dtype=value.dtype))


@contextlib.contextmanager
def without_data(training: SFTConfig | None = None) -> Iterator[None]:
    """Within it, tensors have shapes and no data, and DeepSpeed's ZeRO-3 keeps off them."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from transformers.integrations import deepspeed

    plugin = getattr(training, "deepspeed_plugin", None)
    if plugin:
        deepspeed.unset_hf_deepspeed_config()
    # Of an operation that fails without data it logs pages; the exception says it, too.
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before = log.disabled
    log.disabled = True
    try:
        with FakeTensorMode():
            yield
    finally:
        log.disabled = before
        if plugin:
            plugin.set_deepspeed_weakref()


def sizes(model: PreTrainedModel, *, quantized: bool, mixed: bool, merged: bool = False) -> Model:
    """The numbers of parameters of a skeleton; `merged`: with an adapter that will be merged."""
    weights = list(model.parameters())
    return Model(
        parameters=sum(weight.numel() for weight in weights),
        trainable=sum(weight.numel() for weight in weights if weight.requires_grad),
        largest_layer=max(
            sum(weight.numel() for weight in module.parameters(recurse=False))
            for module in model.modules()
        ),
        weight_bytes=NF4 if quantized else weights[0].element_size(),
        mixed=mixed,
        merged_bytes=weights[0].element_size() if merged else 0.0,
    )


def activations(
    model: PreTrainedModel, batch: Batch, *, mixed: bool, checkpointing: bool, on_cpu: bool
) -> int:
    """Bytes alive at the worst moment of a forward and backward pass, weights and their
    gradients left out.

    Args:
        model: a skeleton, in the type that its weights have; call it under `without_data()`.
        mixed: whether operations run in bfloat16 by autocast.
        checkpointing: whether activations within layers are computed again in the backward pass.
        on_cpu: where the loss is another one (see `scoring`); all tokens are taken for learned.
    """
    import torch
    from trl.trainer.utils import add_fused_lm_head

    if not on_cpu:
        # The head that SFTTrainer puts on: the logits of the whole batch never exist at once.
        add_fused_lm_head(
            model.get_base_model() if hasattr(model, "peft_config") else model,
            outputs=("log_probs", "entropy", "is_top1"),
        )
    model.train()
    if checkpointing:
        # The reentrant kind saves the same, and lets go of it at once also without data.
        model.enable_input_require_grads()
        model.activation_checkpointing_enable({"use_reentrant": True})
    for weight in model.parameters():
        if weight.requires_grad:
            weight.register_post_accumulate_grad_hook(_drop_gradient)
    shape = (1, batch.sequences * batch.tokens) if batch.joined else (batch.sequences, batch.tokens)
    ids = torch.zeros(shape, dtype=torch.long)
    alive = _alive(known=list(model.parameters()))
    autocast = torch.autocast("cpu", torch.bfloat16) if mixed else contextlib.nullcontext()
    with alive:
        with autocast:
            if on_cpu:
                loss = loss_at(model, {"input_ids": ids}, ids[:, 1:], torch.arange(shape[1] - 1))
            else:
                out = model(input_ids=ids, labels=ids, use_cache=False, fused_lm_head=True)
                loss = -out.log_probs.sum()
        loss.backward()
    # Rows in one line are kept apart by a mask of all tokens by all tokens.
    mask = shape[1] ** 2 if batch.joined else 0
    return alive.peak + mask


def holes(model: PreTrainedModel, batch: Batch, *, mixed: bool) -> float:
    """Bytes that the heap of glibc holds on a CPU beside what is alive, where adapters are learned.

    The result of a frozen layer and that of its adapter live until they are added up; a small
    tensor that stays then lands where they were, and no other large one fits there again. So
    nearly two such holes remain of each adapter. Measured (1.2 to 2.9, with and without
    checkpointing, 33M to 227M parameters): with MALLOC_MMAP_THRESHOLD_=131072, under which there
    are no holes, the peak is what is alive, but a step takes half as long again.
    """
    width = sum(module.out_features for module in model.modules() if hasattr(module, "lora_A"))
    return ADAPTER_HOLES * width * batch.sequences * batch.tokens * (2 if mixed else 4)


def _drop_gradient(weight: torch.Tensor) -> None:
    weight.grad = None


def _alive(known: list[torch.Tensor]) -> Any:
    """A mode that counts the bytes of storages which are alive, but for those of `known`."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Alive(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.now = self.peak = 0
            self.seen = {id(tensor.untyped_storage()) for tensor in known}

        def __torch_dispatch__(
            self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if operation is torch.ops.aten._grouped_mm.default:
                result = _grouped_product(*args, **(kwargs or {}))
            else:
                result = operation(*args, **(kwargs or {}))
            for tensor in tree_leaves(result):
                if isinstance(tensor, torch.Tensor):
                    self.count(tensor.untyped_storage())
            return result

        def count(self, storage: Any) -> None:
            if id(storage) in self.seen:
                return
            self.seen.add(id(storage))
            weakref.finalize(storage, self.free, id(storage), storage.nbytes())
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)

        def free(self, name: int, size: int) -> None:
            self.now -= size
            self.seen.discard(name)

    return Alive()


def _grouped_product(
    left: torch.Tensor, right: torch.Tensor, offs: torch.Tensor | None = None, *_: Any, **__: Any
) -> torch.Tensor:
    """An empty tensor of the shape that a mixture of experts multiplies to.

    Without data PyTorch accepts this operation in bfloat16 alone, and with data in every type.

    Args:
        left: tokens x in, or experts x tokens x in.
        right: in x out, or experts x in x out.
        offs: where the tokens of each expert end, if one of the two has no axis for experts.
    """
    shape = [left.shape[-2], right.shape[-1]]
    if left.dim() == right.dim():  # two axes each: a product for each expert
        shape = [offs.shape[0] if offs is not None else left.shape[0], *shape]
    return left.new_empty(shape)


def needed(model: Model, layout: Layout, activated: float, *, optim: str) -> Memory:
    """The memory of a training whose activations need `activated` bytes on a device."""
    shares = layout.processes
    trainable, each = model.trainable, model.weight_bytes
    kept = next((n for part, n in OPTIMIZER_BYTES.items() if part in optim), None)
    master = host = buffers = 0.0
    if layout.deepspeed:
        # Beside 16-bit weights, DeepSpeed keeps its own in 32 bits, and its gradients so, too.
        full = 16 if model.mixed else 4
        wide = 4.0
        weights = model.parameters * each
        gradients = trainable * (each + (wide if full == 16 else 0)) / shares
        optimizer = trainable * (8.0 if kept is None else kept) / shares
        master = trainable * wide / shares
        buffers = min(trainable, REDUCED_AT_ONCE) * each
        if layout.kind == "zero3":
            weights /= shares
            buffers *= 2  # gradients are copied once more to be cut into parts
            buffers += min(model.parameters, GATHERED_AT_ONCE) * each
        if layout.offload_weights:
            host += weights * layout.on_each_machine
            weights = 0.0
        if layout.offload_optimizer:
            wide_alone = trainable * wide / shares
            host += (optimizer + master + wide_alone) * layout.on_each_machine
            optimizer = master = gradients = 0.0
        host *= HOST_BUFFERS
    elif layout.kind == "fsdp2":  # accelerate keeps the shards in 32 bits
        weights, gradients = 4.0 * model.parameters / shares, 4.0 * trainable / shares
        optimizer = trainable * (8.0 if kept is None else kept) / shares
        buffers = 2 * 4.0 * model.largest_layer
    else:
        weights, gradients = model.parameters * each, trainable * each
        if trainable < model.parameters:
            gradients = trainable * 4.0  # of adapters, which are kept in 32 bits
        optimizer = 2 * gradients if kept is None else trainable * kept
        buffers = gradients * DDP_BUCKETS if shares > 1 else 0.0
    merge = model.parameters * model.merged_bytes  # in the first process alone
    if layout.on_cpu:
        reserved = float(psutil.Process().memory_info().rss)  # libraries and data: held already
        reserved += WORKSPACE
        merge += reserved if merge else 0.0
    else:
        used = weights + gradients + optimizer + master + buffers + activated
        reserved = RESERVED + used * (FRAGMENTS - 1)
        host, merge = host + merge, 0.0
    return Memory(
        weights=weights + master,
        gradients=gradients,
        optimizer=optimizer,
        buffers=buffers,
        activations=activated,
        reserved=reserved,
        host=host,
        merge=merge,
    )
