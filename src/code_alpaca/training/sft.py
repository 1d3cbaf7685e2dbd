"""Supervised fine-tuning with TRL's SFTTrainer on tokens and labels of our own making.

Resumes from the last whole checkpoint in `output_dir`, and ends by writing the model and
`run.json`: the configuration, the exact dataset, versions, loss curve and speed.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from code_alpaca.dataset.load import load
from code_alpaca.errors import InputError
from code_alpaca.formatting import format_prompt
from code_alpaca.quiet import quiet
from code_alpaca.training import record
from code_alpaca.training.arguments import SFTArguments, parse
from code_alpaca.training.progress import line_progress
from code_alpaca.training.scratch import make_base
from code_alpaca.training.steps import accumulation, examples_per_sequence
from code_alpaca.training.tokens import IGNORED, Counts, tokenize
from code_alpaca.weights import weights_sha256

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl import ModelConfig, SFTConfig, SFTTrainer


def run(argv: Sequence[str]) -> None:
    """Train as `--config FILE.yaml --key value ...` says.

    Raises:
        InputError: an unknown key, a dataset or model that cannot be used.
    """
    from accelerate import PartialState

    quiet()
    arguments, training, model_config = parse(argv)
    rows, revision = load(
        arguments.dataset_name or "", arguments.dataset_config, arguments.dataset_revision
    )
    out = Path(training.output_dir)
    config = record.plain_config(arguments, training, model_config)
    if plugin := getattr(training, "deepspeed_plugin", None):
        # Its checkpoints are cut into parts, which fit the same number of processes alone.
        config["deepspeed"] = f"ZeRO-{plugin.zero_stage} on {training.world_size} processes"
    if not arguments.from_scratch:
        config["base_sha256"] = weights_sha256(str(model_config.model_name_or_path))
    if not arguments.dry_run:
        with training.main_process_first(desc="output_dir"):
            if record.claim(out, config, revision):
                _say(training, f"{out} is trained already with this very configuration")
                return
    base, tokenizer = _base(arguments, training, model_config, rows)
    with training.main_process_first(desc="tokens"):  # the others find them in the cache
        dataset, counts = tokenize(
            rows,
            tokenizer,
            prompt_style=arguments.prompt_style,
            max_length=training.max_length,
            mask=arguments.mask,
            revision=revision,
            processes=training.dataset_num_proc,
        )
    _say(
        training,
        f"{counts.rows} rows, {counts.tokens} tokens ({counts.learned_tokens} learned), "
        f"{counts.cut} cut at {training.max_length}, {counts.dropped} without an answer left",
    )
    per_sequence = examples_per_sequence(dataset, training)
    if arguments.target_examples_per_step:
        training.gradient_accumulation_steps = accumulation(
            arguments.target_examples_per_step,
            training.per_device_train_batch_size,
            training.world_size,
            per_sequence,
        )
    _say(training, _batch(training, per_sequence))
    if arguments.dry_run:
        _say(training, _plan(training, tokenizer, dataset, per_sequence))
        return
    trainer, seconds = _train(training, base, tokenizer, dataset)
    facts = {
        "base_model": model_config.model_name_or_path or "from scratch",
        "dataset": {
            "name": arguments.dataset_name,
            "config": arguments.dataset_config,
            "revision": revision,
        },
        "config": config,
    }
    _save(trainer, training, facts, counts, seconds)
    if training.world_size > 1:  # or its threads may abort a process that is done and ends
        PartialState().destroy_process_group()


def _base(
    arguments: SFTArguments, training: SFTConfig, model_config: ModelConfig, rows: Dataset
) -> tuple[PreTrainedModel | str, PreTrainedTokenizerBase]:
    """The model to start from, made now or by its name, and its tokenizer."""
    if arguments.from_scratch:  # the same in every process, since it depends on rows and seed alone
        return make_base(
            (format_prompt(row["instruction"], row["input"]) + row["output"] for row in rows),
            vocab_size=arguments.scratch_vocab_size,
            hidden_size=arguments.scratch_hidden_size,
            layers=arguments.scratch_layers,
            heads=arguments.scratch_heads,
            max_length=training.max_length or 0,
            seed=training.seed,
        )
    from transformers import AutoTokenizer

    name = str(model_config.model_name_or_path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name,
            revision=model_config.model_revision,
            trust_remote_code=training.trust_remote_code,
        )
    except (OSError, ValueError) as error:
        raise InputError(f"cannot load the tokenizer of {name}: {_line(error)}") from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked, so the loss never sees it
    training.model_init_kwargs = {  # TRL loads the model with these
        "revision": model_config.model_revision,
        "dtype": model_config.dtype,
        "attn_implementation": model_config.attn_implementation,
        **(training.model_init_kwargs or {}),
    }
    return name, tokenizer


def _batch(training: SFTConfig, per_sequence: float) -> str:
    """What one step learns from, and how it is put together."""
    each, more = training.per_device_train_batch_size, training.gradient_accumulation_steps
    examples = each * training.world_size * more * per_sequence
    packed = f", {per_sequence:.1f} rows packed in each" if training.packing else ""
    return (
        f"a step learns from {examples:.0f} rows: {training.world_size} processes x {each} "
        f"sequences x {more} accumulated{packed}"
    )


def _plan(
    training: SFTConfig, tokenizer: PreTrainedTokenizerBase, dataset: Dataset, per_sequence: float
) -> str:
    """What a dry run tells: the steps, and the first row with what is learned of it."""
    batch = training.per_device_train_batch_size * training.gradient_accumulation_steps
    batch *= training.world_size
    steps = training.max_steps
    if steps <= 0:
        sequences = math.ceil(len(dataset) / per_sequence)
        steps = math.ceil(math.ceil(sequences / batch) * training.num_train_epochs)
    learned = [label for label in dataset[0]["labels"] if label != IGNORED]
    return (
        f"dry run: about {steps} steps; nothing is trained or written. The first row:\n"
        f"{tokenizer.decode(dataset[0]['input_ids'])}\n"
        f"of which this is learned:\n{tokenizer.decode(learned)}"
    )


def _train(
    training: SFTConfig,
    base: PreTrainedModel | str,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
) -> tuple[SFTTrainer, float]:
    """The trained trainer and the seconds that training took."""
    from transformers.trainer_callback import PrinterCallback
    from trl import SFTTrainer

    training.disable_tqdm = True
    if training.ddp_find_unused_parameters is None:
        training.ddp_find_unused_parameters = False  # every weight is used; looking costs time
    try:
        trainer = SFTTrainer(
            model=base, args=training, train_dataset=dataset, processing_class=tokenizer
        )
    except OSError as error:
        if error.errno is not None:
            raise  # the machine's trouble, a full disk for one, and not the model's
        raise InputError(f"cannot load the model {base}: {_line(error)}") from None
    except (ValueError, RuntimeError, ImportError) as error:  # of keys that contradict each other
        raise InputError(f"bad training config: {_line(error)}") from None
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(line_progress())
    checkpoint = record.last_checkpoint(Path(training.output_dir))
    if checkpoint:
        _say(training, f"going on from {checkpoint}")
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return trainer, time.monotonic() - started


def _save(
    trainer: SFTTrainer, training: SFTConfig, facts: dict[str, Any], counts: Counts, seconds: float
) -> None:
    """The model, its tokenizer and generation config, and last of all run.json."""
    out = Path(training.output_dir)
    trainer.save_model(str(out))
    if not trainer.is_world_process_zero():
        return
    trainer.model.generation_config.save_pretrained(out)
    (out / "training_args.bin").unlink(missing_ok=True)  # a pickle, and it may hold a token
    (out / "README.md").unlink(missing_ok=True)  # TRL's card names no revision; release writes ours
    losses = [[log["step"], log["loss"]] for log in trainer.state.log_history if "loss" in log]
    report = {
        **facts,
        # Under ZeRO-3 a process holds a part of each, and DeepSpeed notes the size of the whole.
        "parameters": sum(getattr(p, "ds_numel", p.numel()) for p in trainer.model.parameters()),
        "rows": counts.rows,
        "tokens": counts.tokens,
        "counts": dataclasses.asdict(counts),
        "steps": trainer.state.global_step,
        "epochs": trainer.state.epoch,
        "first_loss": losses[0][1] if losses else None,
        "last_loss": losses[-1][1] if losses else None,
        "loss_curve": losses,
        "seconds": round(seconds, 1),
        "tokens_per_second": round(counts.tokens * (trainer.state.epoch or 0) / seconds, 1),
        "processes": training.world_size,
        "versions": {
            name: version(name) for name in ("torch", "transformers", "trl", "accelerate")
        },
    }
    record.write_json(out / record.FINISHED, report)
    learned = f"loss {losses[0][1]:.3f} first, {losses[-1][1]:.3f} last" if losses else "no loss"
    _say(
        training,
        f"{report['parameters'] / 1e6:.1f}M parameters, {report['steps']} steps in "
        f"{seconds:.0f} s, {report['tokens_per_second']:.0f} tokens/s, {learned}",
    )
    _say(training, f"model in {out}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _say(training: SFTConfig, text: str) -> None:
    if training.process_index == 0:
        print(f"sft       {text}", flush=True)
