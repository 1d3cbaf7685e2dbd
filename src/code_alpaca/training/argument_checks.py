"""Reject keys of `code-alpaca sft` that contradict each other, are out of range or unsupported."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING

from code_alpaca.core.errors import InputError
from code_alpaca.training.arguments import SFTArguments
from code_alpaca.training.scratch_model import MIN_VOCAB_SIZE

if TYPE_CHECKING:
    from trl import ModelConfig, SFTConfig

# Keys that TRL accepts and this stage would silently ignore.
UNSUPPORTED_KEYS = {
    "push_to_hub": "training pushes nothing; code-alpaca release writes and pushes the model",
    "resume_from_checkpoint": "training resumes from its last complete checkpoint by itself",
    "load_best_model_at_end": "the last checkpoint is kept; compare models with code-alpaca eval",
    "assistant_only_loss": "the Alpaca form has no turns; `mask` selects the tokens of the loss",
    "chat_template_path": "the Alpaca form has no turns; `prompt_style` sets how a prompt ends",
}


def check_arguments(args: SFTArguments, training: SFTConfig, model: ModelConfig) -> None:
    """Check the keys of a run.

    Raises:
        InputError: naming the first key that cannot be used.
    """
    if not args.dataset_name and not args.dataset_mixture:
        raise InputError("missing key 'dataset_name'; give a dataset folder, file or Hub id")
    if not args.from_scratch and not model.model_name_or_path:
        raise InputError("missing key 'model_name_or_path'; or set from_scratch: true")
    _reject_unsupported(args, training)
    _reject_contradictions(args, training, model)
    _reject_out_of_range(args, training)
    if Path(str(training.output_dir)).is_file():
        raise InputError(f"output_dir {training.output_dir} is a file; choose a folder")


def _reject_unsupported(args: SFTArguments, training: SFTConfig) -> None:
    for key, reason in UNSUPPORTED_KEYS.items():
        if getattr(training, key, None):
            raise InputError(f"{key!r} cannot be set here; {reason}")
    evaluates = training.eval_strategy not in (None, "no") or training.eval_on_start
    if evaluates and not args.has_validation:
        raise InputError(
            "'eval_strategy' needs held-out rows; set validation_fraction or validation_split"
        )
    if training.completion_only_loss is False:
        raise InputError("'completion_only_loss' cannot be false; only completions have a loss")


def _reject_contradictions(args: SFTArguments, training: SFTConfig, model: ModelConfig) -> None:
    for item in dataclasses.fields(model):
        if args.from_scratch and getattr(model, item.name) != item.default:
            raise InputError(
                f"{item.name!r} and from_scratch exclude each other; remove one of them "
                "(--from_scratch false, if the config file sets it)"
            )
    for key in ("dataset_name", "dataset_revision", "validation_split"):
        if args.dataset_mixture and getattr(args, key):
            raise InputError(f"{key!r} and dataset_mixture exclude each other; remove one of them")
    if args.target_examples_per_step and training.gradient_accumulation_steps != 1:
        raise InputError(
            "target_examples_per_step and gradient_accumulation_steps both set the global batch "
            "size; remove one of them"
        )
    if args.validation_fraction and args.validation_split:
        raise InputError(
            "validation_fraction and validation_split both set the held-out rows; remove one"
        )


def _reject_out_of_range(args: SFTArguments, training: SFTConfig) -> None:
    width, heads = args.scratch_hidden_size, args.scratch_heads
    target = args.target_examples_per_step
    in_range = {
        "scratch_heads": heads > 0 and width > 0 and width % (2 * heads) == 0,
        "scratch_layers": args.scratch_layers > 0,
        "scratch_vocab_size": args.scratch_vocab_size >= MIN_VOCAB_SIZE,
        "max_length": training.max_length is None or training.max_length > 0,
        "per_device_train_batch_size": training.per_device_train_batch_size > 0,
        "learning_rate": math.isfinite(training.learning_rate) and training.learning_rate > 0,
        "seed": 0 <= training.seed < 2**32,
        "validation_fraction": 0 <= args.validation_fraction < 1,
        "assumed_mfu": 0 < args.assumed_mfu <= 1,
        "gpu_memory_gib": args.gpu_memory_gib is None or args.gpu_memory_gib > 0,
        "target_examples_per_step": target is None or target >= 1,
    }
    reasons = {
        "scratch_heads": "must divide scratch_hidden_size into heads of an even width",
        "scratch_vocab_size": f"must be at least {MIN_VOCAB_SIZE}: bytes, BOS, EOS and padding",
    }
    for key, valid in in_range.items():
        if not valid:
            value = getattr(args, key, getattr(training, key, None))
            reason = reasons.get(key, "is out of range")
            raise InputError(f"bad value for {key!r}: {value!r} {reason}")
