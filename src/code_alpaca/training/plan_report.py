"""Describe the plan of a training run, and show rows as the model will see them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from code_alpaca.core.console import plural
from code_alpaca.core.prompts import CHAT, AlpacaStyle, format_prompt
from code_alpaca.training.arguments import TrainingSetup
from code_alpaca.training.memory_estimate import NoEstimate
from code_alpaca.training.model_loading import select_attention
from code_alpaca.training.model_state_memory import GIB
from code_alpaca.training.plan import TrainingPlan, format_gib, format_need
from code_alpaca.training.tokenization import IGNORE_INDEX, TokenizedRows

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

PREVIEWED_ROWS = 3
BOUNDARY_CHECK_ROWS = 1_000
ASSUMED_GPU = "A100"  # for the estimated hours on a machine without a GPU
LOSS_START, LOSS_END = "⟦", "⟧"  # around loss tokens in previewed rows


def describe_plan(setup: TrainingSetup, plan: TrainingPlan) -> Iterator[str]:
    """Yield the lines that every training run prints first."""
    if tokens := plan.tokens:
        rows = tokens.statistics
        held_out = f"; {len(tokens.validation)} held out" if tokens.validation else ""
        yield (
            f"rows      {plural(rows.rows, 'row')}, {rows.tokens} tokens "
            f"({rows.loss_tokens} loss tokens), {rows.truncated} truncated at "
            f"{setup.training.max_length}, {rows.dropped} dropped without a loss token{held_out}"
        )
    yield f"model     {_describe_model(setup, plan)}"
    yield f"memory    {setup.layout}: {_describe_memory(setup, plan)}"
    yield f"batch     {_describe_batch(setup, plan)}"
    if tokens:
        yield f"time      {_describe_time(setup, plan, tokens)}"


def preview_rows(
    setup: TrainingSetup, tokenizer: PreTrainedTokenizerBase, rows: Dataset, tokens: TokenizedRows
) -> Iterator[str]:
    """Yield the lines of a dry run: special tokens, merges at the boundary, three rows."""
    special_tokens = ", ".join(
        f"{name.upper()} {getattr(tokenizer, f'{name}_token')!r} "
        f"{getattr(tokenizer, f'{name}_token_id')}"
        for name in ("bos", "eos", "pad")
    )
    style, merges = setup.args.prompt_style, ""
    if style != CHAT:
        checked = rows.select(range(min(len(rows), BOUNDARY_CHECK_ROWS)))
        num_merging = sum(_merges_boundary(tokenizer, row, style) for row in checked)
        merges = (
            f"; in {num_merging} of {len(checked)} rows, tokenizing prompt and completion together "
            "would merge them in one token"
        )
    yield f"tokens    {special_tokens}{merges}"
    previewed = tokens.train.select(range(min(PREVIEWED_ROWS, len(tokens.train))))
    for number, row in enumerate(previewed, 1):
        yield f"row {number}, loss tokens between {LOSS_START} and {LOSS_END}:"
        yield _mark_loss_tokens(tokenizer, row)


def _describe_model(setup: TrainingSetup, plan: TrainingPlan) -> str:
    size = ""
    if not isinstance(plan.estimate, NoEstimate):
        model = plan.estimate.model
        trainable = f"{model.trainable:,}" if model.has_adapter else "all"
        size = f"{model.parameters:,} parameters, {trainable} trainable; "
    liger = ", Liger kernels" if setup.training.use_liger_kernel else ""
    checkpointing = ", activation checkpointing" if plan.activation_checkpointing else ""
    return (
        f"{plan.model_config.model_type}, {size}{setup.precision}, "
        f"{select_attention(setup, plan.model_config)}{liger}{checkpointing}"
    )


def _describe_memory(setup: TrainingSetup, plan: TrainingPlan) -> str:
    if isinstance(plan.estimate, NoEstimate):
        reason = plan.estimate.reason
        return f"warning: no estimate for this model ({reason}); training starts without the check"
    need = plan.estimate.need
    names = ("weights", "gradients", "optimizer", "buffers", "activations")
    parts = {name: getattr(need, name) for name in names}
    parts["libraries" if setup.layout.on_cpu else "reserved"] = need.reserved
    if need.peaks_at_merge:
        parts["or at the end, to merge the adapter,"] = need.merge
    listed = ", ".join(f"{name} {_format_part(size)}" for name, size in parts.items() if size)
    return f"{format_need(setup.layout, need, plan.available)} ({listed})"


def _format_part(size: float) -> str:
    """Return a size in GiB, or in MiB where that would be 0.0."""
    return f"{format_gib(size)} GiB" if size >= 0.05 * GIB else f"{size / 2**20:.1f} MiB"


def _describe_batch(setup: TrainingSetup, plan: TrainingPlan) -> str:
    micro_batch_size = setup.training.per_device_train_batch_size
    accumulation = setup.training.gradient_accumulation_steps
    world_size = setup.layout.world_size
    num_rows = micro_batch_size * world_size * accumulation * plan.rows_per_sequence
    packing = f", {plan.rows_per_sequence:.1f} rows per packed sequence"
    if not plan.tokens:
        packing = ", rows per packed sequence unknown, 1 assumed"
    return (
        f"{num_rows:.0f} rows per optimizer step: {plural(world_size, 'process', 'processes')} x "
        f"{plural(micro_batch_size, 'sequence')} x "
        f"{plural(accumulation, 'micro-batch', 'micro-batches')}"
        f"{packing if setup.training.packing else ''}"
    )


def _describe_time(setup: TrainingSetup, plan: TrainingPlan, tokens: TokenizedRows) -> str:
    args, world_size = setup.training, setup.layout.world_size
    steps = _count_steps(setup, plan, tokens)
    num_checkpoints = {
        "epoch": math.ceil(args.num_train_epochs),
        "steps": steps // max(1, int(args.save_steps)),
    }.get(str(args.save_strategy.value), 0)
    text = f"about {plural(steps, 'step')}, {plural(num_checkpoints, 'checkpoint')}"
    if setup.layout.on_cpu:
        return text
    from trl.trainer.utils import get_peak_flops

    meter, assumed_mfu = plan.meter, setup.args.assumed_mfu
    if not meter.flops_per_token:
        return f"{text}; no estimate of the hours for this architecture"
    peak_flops, gpu = meter.peak_flops, meter.device
    if peak_flops is None:
        peak_flops, gpu = get_peak_flops(ASSUMED_GPU, "bfloat16"), ASSUMED_GPU
    flops = meter.flops_per_token * tokens.statistics.tokens * args.num_train_epochs
    hours = flops / (peak_flops * world_size * assumed_mfu) / 3600
    duration = f"{hours:.1f} hours" if hours >= 1 else f"{math.ceil(60 * hours)} minutes"
    return f"{text}; about {duration} on {world_size} {gpu} at an assumed MFU of {assumed_mfu:.0%}"


def _count_steps(setup: TrainingSetup, plan: TrainingPlan, tokens: TokenizedRows) -> int:
    args = setup.training
    if args.max_steps > 0:
        return args.max_steps
    sequences = math.ceil(len(tokens.train) / plan.rows_per_sequence)
    micro_batches = math.ceil(
        sequences / (args.per_device_train_batch_size * setup.layout.world_size)
    )
    steps_per_epoch = math.ceil(micro_batches / args.gradient_accumulation_steps)
    return math.ceil(steps_per_epoch * args.num_train_epochs)


def _merges_boundary(
    tokenizer: PreTrainedTokenizerBase, row: dict[str, str], style: AlpacaStyle
) -> bool:
    prompt = format_prompt(row["instruction"], row["input"] or "", style=style)
    prompt_ids = tokenizer(prompt)["input_ids"]
    return tokenizer(prompt + row["output"])["input_ids"][: len(prompt_ids)] != prompt_ids


def _mark_loss_tokens(tokenizer: PreTrainedTokenizerBase, row: dict[str, list[int]]) -> str:
    """Return the text of a row with marks around its loss tokens."""
    text = ""
    pairs = zip(row["input_ids"], row["labels"], strict=True)
    for has_loss, span in groupby(pairs, key=lambda pair: pair[1] != IGNORE_INDEX):
        decoded = tokenizer.decode([token for token, _ in span])
        text += f"{LOSS_START}{decoded}{LOSS_END}" if has_loss else decoded
    return text
