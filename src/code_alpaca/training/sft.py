"""Supervised fine-tuning with TRL's SFTTrainer on tokens and labels of our own making.

Says first whether it will fit and how long it will take, goes on from the last whole checkpoint
in `output_dir`, and ends by writing the model, its curve and `run.json`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from code_alpaca.core.errors import InputError, one_line
from code_alpaca.core.fs import weights_sha256
from code_alpaca.core.prompts import chat_template
from code_alpaca.core.quiet import quiet
from code_alpaca.training import (
    checkpoints,
    model_limits,
    model_loading,
    output_dir,
    plan,
    run_summary,
    training_rows,
)
from code_alpaca.training.arguments import Job, parse
from code_alpaca.training.batching import accumulation, examples_per_sequence
from code_alpaca.training.parallelism import Layout, require_devices
from code_alpaca.training.telemetry import telemetry, watched
from code_alpaca.training.tokenization import Tokens, tokenize
from code_alpaca.training.trainer import learned_alone

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
    from trl import SFTTrainer


@dataclass(frozen=True, slots=True)
class Start:
    """What training begins from."""

    model: PreTrainedModel | str  # TRL loads what has only a name
    config: PretrainedConfig
    tokenizer: PreTrainedTokenizerBase | None  # None: of a dry run that cannot read it


def train(argv: Sequence[str], planned: Layout | None = None) -> None:
    """Train as `--config FILE.yaml --key value ...` says.

    Args:
        planned: of a dry run: the layout that `accelerate launch` would start.

    Raises:
        InputError: an unknown key, a dataset or model that cannot be used, or does not fit.
        Diverged: the loss is no number any more.
    """
    quiet()
    job = parse(argv, planned)
    _fine_tune(job)
    if job.training.world_size > 1:
        _leave(job)


def _leave(job: Job) -> None:
    """End one process of several.

    A thread of gloo that frees its last tensor while Python is ending aborts the process, and the
    launcher then takes the whole training for failed. The first process writes the model after its
    last collective, by when such threads are long done; the others end there and then.
    """
    from accelerate import PartialState

    PartialState().destroy_process_group()
    if job.training.process_index:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # without the end of Python: what is to be finished, is the first process's


def _fine_tune(job: Job) -> None:
    """From the rows to the model in its folder."""
    arguments, training = job.arguments, job.training
    model_loading.require_quantization(job)
    model_loading.pin(job)
    if not arguments.dry_run:
        require_devices(job.layout)
        plan.find_build_tools(job.layout)
    rows = _rows(job)
    for line in rows.left_out if rows else ():
        job.say(f"warning: {line}")
    config, out = _config(job), Path(training.output_dir)
    with training.main_process_first(desc="output_dir"):
        if rows and output_dir.claim(out, config, rows.revision, write=not arguments.dry_run):
            job.say(f"{out} is trained already with this very configuration")
            return
    start = _start(job, rows)
    tokens = _tokens(job, start, rows)
    model_limits.check_positions(job, start.config, tokens)
    if start.tokenizer is not None:
        model_limits.check_vocabulary(job, start.config, start.tokenizer, tokens)
    training_plan = plan.plan(job, start.config, tokens)
    for line in plan.told(job, training_plan):
        job.say(line)
    plan.refuse(job, training_plan)
    if arguments.dry_run or rows is None or tokens is None:
        if rows and tokens:
            for line in plan.shown(job, start.tokenizer, rows.train, tokens):
                job.say(line)
        job.say("dry run: nothing was trained or written")
        return
    training.activation_checkpointing = training.gradient_checkpointing = (
        training_plan.checkpointing
    )
    trainer = _trainer(job, start, tokens)
    watch = telemetry(training_plan.speed, len(start.tokenizer), on_cpu=job.layout.on_cpu)
    trainer.callback_handler.callbacks.insert(0, watch)  # trackers report what it adds to a log
    with checkpoints.disk_errors(out):
        spent = _train(job, trainer)
        report = run_summary.report(job, training_plan, trainer, spent)
        _save(job, trainer)
    origin = {
        "base_model": job.model.model_name_or_path or "from scratch",
        "base_revision": _commit(job),
        "dataset": rows.named,
        "datasets": rows.sources,
        "config": config,
    }
    if trainer.is_world_process_zero():
        run_summary.finish(out, {**origin, **report})
        job.say(run_summary.in_words(report))
        job.say(f"model in {out}")


def _config(job: Job) -> dict[str, Any]:
    """What decides the result, beside the dataset."""
    config = output_dir.plain_config(job)
    if job.layout.deepspeed:  # its checkpoints are cut into parts, which fit the same layout alone
        config["deepspeed"] = str(job.layout)
    if not job.arguments.from_scratch:
        config["base_sha256"] = weights_sha256(str(job.model.model_name_or_path))
    return config


def _commit(job: Job) -> str | None:
    """The commit of a base model from the Hub."""
    name = job.model.model_name_or_path
    return job.model.model_revision if name and not Path(name).exists() else None


def _rows(job: Job) -> training_rows.Rows | None:
    """What to learn from; None where a dry run of a model that exists can do without."""
    try:
        return training_rows.read(job.arguments, job.training.seed, job.say)
    except InputError as error:
        if not job.arguments.dry_run or job.arguments.from_scratch:
            raise
        job.say(f"rows      not looked at: {error}")
        return None


def _start(job: Job, rows: training_rows.Rows | None) -> Start:
    if job.arguments.from_scratch and rows:
        model, tokenizer = model_loading.from_nothing(job, rows.train)
        return Start(model, model.config, tokenizer)
    config = model_loading.read_config(job)
    name = str(job.model.model_name_or_path)
    try:
        return Start(name, config, model_loading.read_tokenizer(job))
    except InputError as error:
        if not job.arguments.dry_run:
            raise
        job.say(f"tokens    not looked at: {error}")
        return Start(name, config, None)


def _tokens(job: Job, start: Start, rows: training_rows.Rows | None) -> Tokens | None:
    """Rows as tokens, and the accumulation that follows; None without a tokenizer or rows."""
    arguments, training = job.arguments, job.training
    tokens, per_sequence = None, 1.0
    if start.tokenizer is not None and rows:
        how: dict[str, Any] = {
            "prompt_style": arguments.prompt_style,
            "max_length": training.max_length,
            "mask": arguments.mask,
            "processes": training.dataset_num_proc,
        }
        with training.main_process_first(desc="tokens"):  # the others find them in the cache
            train, counts = tokenize(rows.train, start.tokenizer, revision=rows.revision, **how)
            measured = None
            if rows.validation is not None:
                name = f"{rows.revision}, validation"
                measured, _ = tokenize(rows.validation, start.tokenizer, revision=name, **how)
        tokens = Tokens(train, measured, counts)
        per_sequence = examples_per_sequence(train, training)
    if arguments.target_examples_per_step:
        training.gradient_accumulation_steps = accumulation(
            arguments.target_examples_per_step,
            training.per_device_train_batch_size,
            job.layout.processes,
            per_sequence,
        )
    return tokens


def _trainer(job: Job, start: Start, tokens: Tokens) -> SFTTrainer:
    from transformers.trainer_callback import PrinterCallback
    from trl import SFTTrainer

    training = job.training
    training.disable_tqdm = True
    training.logging_nan_inf_filter = False  # which would log the mean instead, and hide it
    if training.ddp_find_unused_parameters is None:
        training.ddp_find_unused_parameters = False  # every weight is used; looking costs time
    if isinstance(start.model, str):
        training.model_init_kwargs = model_loading.how_to_load(job, start.config)
    limit, training.save_total_limit = training.save_total_limit, None
    kind = learned_alone(SFTTrainer) if job.layout.on_cpu else SFTTrainer
    try:
        trainer = watched(kind)(
            model=start.model,
            args=training,
            train_dataset=tokens.train,
            eval_dataset=tokens.validation,
            processing_class=start.tokenizer,
            peft_config=model_loading.adapter(job.model),
        )
    except OSError as error:
        if error.errno is not None:
            raise  # the machine's trouble, a full disk for one, and not the model's
        raise InputError(f"cannot load the model {start.model}: {one_line(error)}") from None
    except (ValueError, RuntimeError, ImportError) as error:  # of keys that contradict each other
        raise InputError(f"bad training config: {one_line(error)}") from None
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(checkpoints.keep_whole(limit))
    return trainer


def _train(job: Job, trainer: SFTTrainer) -> run_summary.Spent:
    """Train to the end, from the last whole checkpoint on, and return the time it took."""
    out = Path(job.training.output_dir)
    checkpoint = checkpoints.last_checkpoint(out)
    if checkpoint:
        job.say(f"going on from {checkpoint}")
    with job.training.main_process_first(desc="torn checkpoints"):
        for name in checkpoints.delete_torn(out):
            job.say(f"{name} was not written to its end; it is deleted")
    before = checkpoints.seconds_until(checkpoint)  # the checkpoint may be deleted by the end
    epochs = checkpoints.epochs_until(checkpoint)
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return run_summary.Spent(before, epochs, time.monotonic() - started)


def _save(job: Job, trainer: SFTTrainer) -> None:
    """A folder that loads: weights, tokenizer, its chat template and the generation config."""
    out = Path(job.training.output_dir)
    tokenizer = trainer.processing_class
    tokenizer.chat_template = chat_template(tokenizer, job.arguments.prompt_style)
    adapted = out / "adapter" if job.model.use_peft and job.arguments.merge_adapter else out
    trainer.save_model(str(adapted))
    if not trainer.is_world_process_zero():
        return
    if adapted != out:
        model_loading.merge(job, adapted, out)
        tokenizer.save_pretrained(out)
    trainer.model.generation_config.save_pretrained(out)
    for folder in (out, adapted):
        (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle; it may hold a token
        (folder / "README.md").unlink(missing_ok=True)  # names no revision; release writes ours
