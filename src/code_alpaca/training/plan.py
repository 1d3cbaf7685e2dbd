"""Before training: will it fit, what will it learn from, how long will it take?

Known in seconds, from the shape of the model and the rows; weights are neither read nor made.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from code_alpaca.core.errors import InputError
from code_alpaca.core.prompts import PromptStyle, format_prompt
from code_alpaca.training import activation_memory, model_loading
from code_alpaca.training.activation_memory import GIB, Batch, Memory
from code_alpaca.training.arguments import Job
from code_alpaca.training.batching import examples_per_sequence, steps_of
from code_alpaca.training.memory_estimate import Estimate, Unknown, estimate_memory
from code_alpaca.training.parallelism import Layout
from code_alpaca.training.telemetry import Speed
from code_alpaca.training.tokenization import IGNORED, Tokens

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

SHOWN_ROWS = 3
LOOKED_AT = 1_000  # rows, for merges over the boundary
ASSUMED_GPU = "A100"  # for hours, where no GPU is here to ask
IN_CONFIGS = 8  # processes in the files of accelerate_configs/ for one machine
LEARNED = ("⟦", "⟧")  # around what is learned, in rows that are shown
# What may be advised, from the fastest to the leanest.
LAYOUTS: dict[str, dict[str, Any]] = {
    "ddp": {"kind": "ddp"},
    "zero2": {"kind": "zero2"},
    "zero3": {"kind": "zero3"},
    "zero3_offload": {"kind": "zero3", "offload_optimizer": True, "offload_weights": True},
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a training will need, against what there is."""

    config: PretrainedConfig
    estimate: Estimate | Unknown
    batch: Batch
    checkpointing: bool
    device: float | None  # bytes of each GPU, or of the host for a process; None: not known
    host: float | None
    speed: Speed
    tokens: Tokens | None
    per_sequence: float  # rows in a sequence

    @property
    def fits(self) -> bool:
        """Whether it fits as far as is known: without an estimate, training is tried."""
        found = self.estimate
        return isinstance(found, Unknown) or _fits(found.need, self.device, self.host)


def plan(job: Job, config: PretrainedConfig, tokens: Tokens | None) -> Plan:
    """Estimate the memory, and choose by it whether to checkpoint activations.

    Args:
        tokens: None where only the shape of the model is known.
    """
    training, layout = job.training, job.layout
    packed = bool(training.packing)
    longest = int(training.max_length or 0) if packed or not tokens else tokens.counts.longest
    per_sequence = examples_per_sequence(tokens.train, training) if tokens else 1.0
    most = math.ceil(tokens.counts.rows / per_sequence) if tokens else math.inf
    batch = Batch(int(min(training.per_device_train_batch_size, most)), longest, joined=packed)
    device, host = _there(job)
    # Where nobody said: computing twice costs time, so only where training fits no other way.
    for checkpointing in [False, True] if job.checkpointing is None else [job.checkpointing]:
        estimate = estimate_memory(job, config, batch, checkpointing)
        if isinstance(estimate, Estimate) and _fits(estimate.need, device, host):
            break
    if isinstance(estimate, Unknown) and job.checkpointing is None:
        checkpointing = not layout.on_cpu  # as TRL does it: a GPU has less memory to spare
    return Plan(
        config,
        estimate,
        batch,
        checkpointing,
        device,
        host,
        speed=Speed(config, longest, layout.processes, adapter=bool(job.model.use_peft)),
        tokens=tokens,
        per_sequence=per_sequence,
    )


def refuse(job: Job, plan: Plan) -> None:
    """Refuse a training that does not fit, before its weights are read.

    Raises:
        InputError: with what would fit.
    """
    if isinstance(plan.estimate, Estimate) and not plan.fits:
        advice = _advice(job, plan, plan.estimate)
        advice = advice or "no accelerate config would let it fit; take a smaller model"
        needs = _needs(job.layout, plan.estimate.need, plan.device, plan.host)
        raise InputError(f"this does not fit: {needs}; {advice}")


def find_build_tools(layout: Layout) -> None:
    """DeepSpeed builds some of its parts when it first needs them: say early what is missing.

    Raises:
        InputError: ninja or a C++ compiler is missing.
    """
    if not layout.deepspeed or not (layout.on_cpu or layout.offload_optimizer):
        return
    beside = str(Path(sys.executable).parent)  # where pip puts ninja, be that on PATH or not
    if not shutil.which("ninja") and shutil.which("ninja", path=beside):
        os.environ["PATH"] = f"{beside}{os.pathsep}{os.environ['PATH']}"
    missing = [tool for tool in ("ninja", os.environ.get("CXX", "g++")) if not shutil.which(tool)]
    if missing:
        raise InputError(
            f"DeepSpeed builds its parts for the CPU and needs {' and '.join(missing)} on PATH; "
            "apt install g++, pip install ninja"
        )


def told(job: Job, plan: Plan) -> Iterator[str]:
    """What every start tells first, line by line."""
    if plan.tokens:
        counts = plan.tokens.counts
        measured = plan.tokens.validation
        yield (
            f"rows      {counts.rows} rows, {counts.tokens} tokens ({counts.learned_tokens} "
            f"learned), {counts.cut} cut at {job.training.max_length}, {counts.dropped} without an "
            f"answer left{f'; {len(measured)} held out' if measured else ''}"
        )
    checkpointed = ", activations checkpointed" if plan.checkpointing else ""
    liger = ", Liger kernels" if job.training.use_liger_kernel else ""
    yield (
        f"model     {plan.config.model_type}, {_size(plan.estimate)}"
        f"{model_loading.precision(job)}, {model_loading.attention(job, plan.config)}"
        f"{liger}{checkpointed}"
    )
    yield f"memory    {job.layout}: {_memory(job, plan)}"
    yield f"batch     {_batch(job, plan)}"
    if plan.tokens:
        yield f"time      {_time(job, plan, plan.tokens)}"


def _size(estimate: Estimate | Unknown) -> str:
    """The numbers of parameters, where they are known."""
    if isinstance(estimate, Unknown):
        return ""
    model, learned = estimate.model, "all of them learned"
    if model.trainable < model.parameters:
        learned = f"{model.trainable:,} of them learned"
    return f"{model.parameters:,} parameters, {learned}; "


def _memory(job: Job, plan: Plan) -> str:
    """What is needed, against what there is, and its parts."""
    if isinstance(plan.estimate, Unknown):
        return (
            f"warning: not estimated for this model ({plan.estimate.reason}); training is tried "
            "without the check"
        )
    need = plan.estimate.need
    parts = {
        "weights": need.weights,
        "gradients": need.gradients,
        "optimizer": need.optimizer,
        "buffers": need.buffers,
        "activations": need.activations,
        "libraries" if job.layout.on_cpu else "reserved": need.reserved,
        "or, to merge the adapter at the end,": need.merge if need.merging_is_worst else 0.0,
    }
    split = ", ".join(f"{name} {_gib(size)}" for name, size in parts.items() if size)
    return f"{_needs(job.layout, need, plan.device, plan.host)} ({split})"


def shown(
    job: Job, tokenizer: PreTrainedTokenizerBase | None, rows: Dataset, tokens: Tokens | None
) -> Iterator[str]:
    """What a dry run tells beside: special tokens, merges over the boundary, three rows."""
    if tokenizer is None or tokens is None:
        return
    signs = ", ".join(
        f"{name.upper()} {getattr(tokenizer, f'{name}_token')!r} "
        f"{getattr(tokenizer, f'{name}_token_id')}"
        for name in ("bos", "eos", "pad")
    )
    some = rows.select(range(min(len(rows), LOOKED_AT)))
    merged = sum(_merges(tokenizer, row, job.arguments.prompt_style) for row in some)
    yield (
        f"tokens    {signs}; of {len(some)} rows {merged} would merge prompt and answer in one "
        "token if they were tokenized together"
    )
    for number, row in enumerate(tokens.train.select(range(min(SHOWN_ROWS, len(tokens.train))))):
        yield f"row {number + 1}, what is learned between {LEARNED[0]} and {LEARNED[1]}:"
        yield _marked(tokenizer, row)


def _batch(job: Job, plan: Plan) -> str:
    """What one step learns from, and how it is put together."""
    each = job.training.per_device_train_batch_size
    more = job.training.gradient_accumulation_steps
    examples = each * job.layout.processes * more * plan.per_sequence
    packed = f", {plan.per_sequence:.1f} rows packed in each" if job.training.packing else ""
    if packed and not plan.tokens:
        packed = ", rows packed in each not known and taken for 1"
    many = "es" * (job.layout.processes != 1)
    return (
        f"a step learns from {examples:.0f} rows: {job.layout.processes} process{many} x {each} "
        f"sequences x {more} accumulated{packed}"
    )


def _time(job: Job, plan: Plan, tokens: Tokens) -> str:
    """Steps, checkpoints and, on GPUs, hours."""
    training, layout = job.training, job.layout
    steps = steps_of(len(tokens.train), training, layout.processes, plan.per_sequence)
    saves = {
        "epoch": math.ceil(training.num_train_epochs),
        "steps": steps // max(1, int(training.save_steps)),
    }.get(str(training.save_strategy.value), 0)
    text = f"about {steps} steps, {saves} checkpoint{'s' * (saves != 1)} on the way"
    if layout.on_cpu:
        return text
    from trl.trainer.utils import get_peak_flops

    speed, share = plan.speed, job.arguments.assumed_mfu
    if not speed.flops_per_token:
        return f"{text}; hours are not known for this architecture"
    peak, name = speed.peak, speed.device
    if peak is None:
        peak, name = get_peak_flops(ASSUMED_GPU, "bfloat16"), ASSUMED_GPU
    work = speed.flops_per_token * tokens.counts.tokens * training.num_train_epochs
    hours = work / (peak * layout.processes * share) / 3600
    spent = f"{hours:.1f} hours" if hours >= 1 else f"{math.ceil(60 * hours)} minutes"
    return (
        f"{text}; about {spent} at {share:.0%} (assumed) of the peak of {layout.processes} {name}"
    )


def _merges(tokenizer: PreTrainedTokenizerBase, row: dict[str, str], style: PromptStyle) -> bool:
    prompt = format_prompt(row["instruction"], row["input"] or "", style=style)
    start = tokenizer(prompt)["input_ids"]
    return tokenizer(prompt + row["output"])["input_ids"][: len(start)] != start


def _marked(tokenizer: PreTrainedTokenizerBase, row: dict[str, list[int]]) -> str:
    """The text of a row, with marks around what is learned."""
    pieces: list[tuple[bool, list[int]]] = []
    for token, label in zip(row["input_ids"], row["labels"], strict=True):
        learned = label != IGNORED
        if not pieces or pieces[-1][0] != learned:
            pieces.append((learned, []))
        pieces[-1][1].append(token)
    texts = ((learned, tokenizer.decode(ids)) for learned, ids in pieces)
    return "".join(f"{LEARNED[0]}{text}{LEARNED[1]}" if on else text for on, text in texts)


def _there(job: Job) -> tuple[float | None, float | None]:
    """Bytes of each device and of the host, as far as they are known."""
    import psutil
    import torch

    if job.arguments.gpu_memory_gib is not None:
        return job.arguments.gpu_memory_gib * GIB, None  # of another machine
    free = float(psutil.virtual_memory().available)
    if job.layout.on_cpu:  # what this process has already is a part of what it will need
        return psutil.Process().memory_info().rss + free / job.layout.on_each_machine, None
    if not torch.cuda.is_available():
        return None, None
    return float(torch.cuda.get_device_properties(0).total_memory), free


def _fits(need: Memory, device: float | None, host: float | None) -> bool:
    return (device is None or need.device <= device) and (host is None or need.host <= host)


def _needs(layout: Layout, need: Memory, device: float | None, host: float | None) -> str:
    where = "process" if layout.on_cpu else "GPU"
    text = f"each {where} needs {_gib(need.device)} GiB"
    text += "" if device is None else f" of {_gib(device)}"
    if need.host:
        text += f", each host {_gib(need.host)}"
        text += "" if host is None else f" of {_gib(host)}"
    return text


def _advice(job: Job, plan: Plan, estimate: Estimate) -> str:
    """The config nearest to the wanted one that would fit; "" where none does."""
    optim, sequences = str(job.training.optim.value), plan.batch.sequences
    while sequences:
        activated = estimate.need.activations * sequences / plan.batch.sequences
        for name, change in LAYOUTS.items():
            if job.layout.on_cpu and name != "ddp":
                continue
            layout = replace(job.layout, **change)
            need = activation_memory.needed(estimate.model, layout, activated, optim=optim)
            if not _fits(need, plan.device, plan.host):
                continue
            words = [] if layout == job.layout else [f"--accelerate_config {name}"]
            if words and layout.processes != IN_CONFIGS:
                words.append(f"(there num_processes: {layout.processes})")
            if sequences != plan.batch.sequences:
                words.append(f"--per_device_train_batch_size {sequences}")
            if not plan.checkpointing:
                words.append("--activation_checkpointing true (or less)")
            host = f", each host {_gib(need.host)}" if need.host else ""
            return (
                f"this would fit, {layout} with {_gib(need.device)} GiB each{host}: "
                f"{' '.join(words)}"
            )
        sequences //= 2
    return ""


def _gib(size: float) -> str:
    return f"{size / GIB:.1f}" if size < 100 * GIB else f"{size / GIB:.0f}"
