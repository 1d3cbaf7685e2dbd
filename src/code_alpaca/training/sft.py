"""Fine-tune a model with TRL's SFTTrainer on prompts and completions.

A run first reports whether it fits into memory and how long it takes, resumes from the last
complete checkpoint in `output_dir`, and ends by writing the model, its loss plot and run.json.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from code_alpaca.core import console
from code_alpaca.core.errors import InputError, error_message
from code_alpaca.core.prompts import CHAT, chat_template
from code_alpaca.core.quiet import silence_libraries
from code_alpaca.core.records import RunRecord
from code_alpaca.training import checks, model_loading, output_dir
from code_alpaca.training.arguments import TrainingSetup
from code_alpaca.training.metrics import TrainingTime, collect_results, plot_losses, summarize
from code_alpaca.training.parallelism import ParallelLayout
from code_alpaca.training.parsing import parse_sft_arguments
from code_alpaca.training.plan import TrainingPlan, make_plan, require_memory
from code_alpaca.training.plan_report import describe_plan, preview_rows
from code_alpaca.training.tokenization import TokenizationOptions, TokenizedRows, tokenize_rows
from code_alpaca.training.training_rows import TrainingRows, read_training_rows

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from code_alpaca.training.trainer import MonitoredTrainer


def train(argv: Sequence[str], planned_layout: ParallelLayout | None = None) -> None:
    """Train with the keys in `--config FILE.yaml --key value ...`.

    Args:
        planned_layout: in a dry run, the layout that `accelerate launch` would start.

    Raises:
        InputError: a key is unknown, a dataset or model cannot be used, or memory is too small.
        Diverged: the loss is NaN, infinite or far above that of uniform guessing.
    """
    silence_libraries()
    setup = parse_sft_arguments(argv, planned_layout)
    _fine_tune(setup)
    if setup.training.world_size > 1:
        _end_rank(setup)


def _fine_tune(setup: TrainingSetup) -> None:
    args, dry_run = setup.training, setup.args.dry_run
    out = console.stage("sft", enabled=args.process_index == 0)
    checks.require_quantization(setup)
    model_loading.pin_revision(setup)
    if not dry_run:
        checks.require_devices(setup.layout)
        checks.require_build_tools(setup.layout)
    rows = _read_rows(setup, out)
    config, folder = output_dir.identifying_config(setup), Path(args.output_dir)
    with args.main_process_first(desc="output_dir"):
        if rows and output_dir.claim(folder, config, rows.revision, write=not dry_run):
            out.print(f"{folder} is trained already with this configuration")
            return
    model, model_config, tokenizer = _load_base_model(setup, rows, out)
    tokens = _tokenize(setup, tokenizer, rows) if rows and tokenizer is not None else None
    checks.check_model_limits(setup, model_config, tokenizer, tokens)
    plan = make_plan(setup, model_config, tokens)
    for line in describe_plan(setup, plan):
        out.print(line)
    require_memory(setup, plan)
    if dry_run or rows is None or tokens is None:
        for line in preview_rows(setup, tokenizer, rows.train, tokens) if tokens else ():
            out.print(line)
        out.print("dry run: nothing was trained or written")
        return
    trainer = _build_trainer(setup, plan, model, tokenizer)
    with output_dir.disk_errors(folder):
        time_spent = _run_trainer(trainer, folder, out)
        origin = _describe_origin(setup, rows, config)
        record = collect_results(setup, plan, trainer, time_spent, origin)
        _save_model(setup, trainer)
    if trainer.is_world_process_zero():
        plot_losses(folder)
        record.save(folder / RunRecord.FILE)  # last, since it marks the run as finished
        out.print(summarize(record))
        out.print(f"model in {folder}")


def _read_rows(setup: TrainingSetup, out: console.Stage) -> TrainingRows | None:
    """Read the rows; None if they cannot be read and a dry run does not need them."""
    try:
        rows = read_training_rows(setup.args, setup.training.seed, out.print)
    except InputError as error:
        if not setup.args.dry_run or setup.args.from_scratch:
            raise
        out.print(f"rows      not read: {error}")
        return None
    for line in rows.warnings:
        out.print(f"warning: {line}")
    return rows


def _load_base_model(
    setup: TrainingSetup, rows: TrainingRows | None, out: console.Stage
) -> tuple[PreTrainedModel | str, PretrainedConfig, PreTrainedTokenizerBase | None]:
    """Return the model (or its name: TRL loads it), its config, and its tokenizer if it loads."""
    if setup.args.from_scratch and rows:
        model, tokenizer = model_loading.build_from_scratch(setup, rows.train)
        return model, model.config, tokenizer
    config = model_loading.load_model_config(setup)
    try:
        return setup.model_name, config, model_loading.load_tokenizer(setup)
    except InputError as error:
        if not setup.args.dry_run:
            raise
        out.print(f"tokens    not counted: {error}")
        return setup.model_name, config, None


def _tokenize(
    setup: TrainingSetup, tokenizer: PreTrainedTokenizerBase, rows: TrainingRows
) -> TokenizedRows:
    args, validation = setup.training, None
    options = TokenizationOptions(setup.args.prompt_style, args.max_length, setup.args.mask)
    tokenize = partial(
        tokenize_rows, tokenizer=tokenizer, options=options, num_proc=args.dataset_num_proc
    )
    with args.main_process_first(desc="tokens"):  # the other ranks read the cache
        train, statistics = tokenize(rows.train, revision=rows.cache_key)
        if rows.validation is not None:
            validation, _ = tokenize(rows.validation, revision=f"{rows.cache_key}, validation")
    return TokenizedRows(train, validation, statistics)


def _build_trainer(
    setup: TrainingSetup,
    plan: TrainingPlan,
    model: PreTrainedModel | str,
    tokenizer: PreTrainedTokenizerBase,
) -> MonitoredTrainer:
    from transformers.trainer_callback import PrinterCallback

    from code_alpaca.training.trainer import (
        CheckpointCallback,
        CpuTrainer,
        MonitoredTrainer,
        TelemetryCallback,
    )

    args, on_cpu = setup.training, setup.layout.on_cpu
    args.activation_checkpointing = args.gradient_checkpointing = plan.activation_checkpointing
    args.disable_tqdm = True
    args.logging_nan_inf_filter = False  # or the mean would be logged in place of a NaN
    if args.ddp_find_unused_parameters is None:
        args.ddp_find_unused_parameters = False  # all are used, and the search costs time
    if isinstance(model, str):
        args.model_init_kwargs = model_loading.model_init_kwargs(setup, plan.model_config)
    checkpoint_limit, args.save_total_limit = args.save_total_limit, None
    trainer_class = CpuTrainer if on_cpu else MonitoredTrainer
    try:
        trainer = trainer_class(
            model=model,
            args=args,
            train_dataset=plan.tokens.train,
            eval_dataset=plan.tokens.validation,
            processing_class=tokenizer,
            peft_config=model_loading.adapter_config(setup.model),
        )
    except OSError as error:
        if error.errno is not None:
            raise  # of the machine, such as a full disk, and not of the model
        raise InputError(f"cannot load the model {model}: {error_message(error)}") from None
    except (ValueError, RuntimeError, ImportError) as error:  # keys that contradict each other
        raise InputError(f"bad training config: {error_message(error)}") from None
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(CheckpointCallback(checkpoint_limit))
    telemetry = TelemetryCallback(plan.meter, len(tokenizer), on_cpu=on_cpu)
    trainer.callback_handler.callbacks.insert(0, telemetry)  # before the trackers
    return trainer


def _run_trainer(trainer: MonitoredTrainer, folder: Path, out: console.Stage) -> TrainingTime:
    """Train to the end, from the last complete checkpoint if any."""
    checkpoint = output_dir.find_last_checkpoint(folder)
    if checkpoint:
        out.print(f"resuming from {checkpoint}")
    with trainer.args.main_process_first(desc="incomplete checkpoints"):
        for name in output_dir.delete_incomplete_checkpoints(folder):
            out.print(f"{name} is incomplete and was deleted")
    seconds_before = output_dir.training_seconds(checkpoint)  # now: it may be deleted by the end
    untimed = seconds_before is None
    untimed_epochs = output_dir.trained_epochs(checkpoint) if untimed and checkpoint else 0.0
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.monotonic() - started + (seconds_before or 0.0)
    return TrainingTime(seconds, (trainer.state.epoch or 0) - untimed_epochs)


def _describe_origin(
    setup: TrainingSetup, rows: TrainingRows, config: dict[str, Any]
) -> dict[str, Any]:
    name = setup.model.model_name_or_path
    is_local = not name or Path(name).exists()
    return {
        "base_model": name or "from scratch",
        "base_revision": None if is_local else setup.model.model_revision,
        "dataset": rows.dataset,
        "datasets": rows.sources,
        "config": config,
    }


def _save_model(setup: TrainingSetup, trainer: MonitoredTrainer) -> None:
    """Save a folder that loads: weights, tokenizer, chat template and generation config."""
    folder, tokenizer = Path(setup.training.output_dir), trainer.processing_class
    if setup.args.prompt_style != CHAT:
        tokenizer.chat_template = chat_template(tokenizer, setup.args.prompt_style)
    merge = setup.model.use_peft and setup.args.merge_adapter
    trained_dir = folder / "adapter" if merge else folder
    trainer.save_model(str(trained_dir))
    if not trainer.is_world_process_zero():
        return
    if merge:
        model_loading.merge_adapter(setup, trained_dir, folder)
        tokenizer.save_pretrained(folder)
    trainer.model.generation_config.save_pretrained(folder)
    for path in (folder, trained_dir):
        (path / "training_args.bin").unlink(missing_ok=True)  # a pickle; may contain a token
        (path / "README.md").unlink(missing_ok=True)  # names no revision; release writes one


def _end_rank(setup: TrainingSetup) -> None:
    """End one process of several.

    A gloo thread that frees its last tensor while Python exits aborts the process, and the
    launcher then reports the run as failed. Rank 0 writes the model after its last collective, by
    when such threads have ended; the other ranks exit at once, without Python's cleanup.
    """
    from accelerate import PartialState

    PartialState().destroy_process_group()
    if setup.training.process_index:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
