"""Check that this machine and the model can train the rows; errors name what to change."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from code_alpaca.core.console import plural
from code_alpaca.core.errors import InputError
from code_alpaca.core.extras import require_package
from code_alpaca.training.arguments import TrainingSetup
from code_alpaca.training.parallelism import ParallelLayout

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PretrainedConfig, PreTrainedTokenizerBase
    from trl import SFTConfig

    from code_alpaca.training.tokenization import TokenizedRows


def require_devices(layout: ParallelLayout) -> None:
    """Refuse a layout with more ranks on this machine than GPUs, before every rank fails."""
    import torch

    num_gpus = torch.cuda.device_count()
    if layout.on_cpu or num_gpus >= layout.ranks_per_machine:
        return
    advice = "use --accelerate_config cpu"
    if num_gpus:
        advice = f"set num_processes: {num_gpus} in a copy of the accelerate config"
    processes = plural(layout.ranks_per_machine, "process", "processes")
    raise InputError(
        f"the accelerate config starts {processes} on this machine, which has "
        f"{plural(num_gpus, 'GPU')}; {advice}, plan it with --dry_run, or use a machine with "
        "more GPUs"
    )


def require_bfloat16(training_args: SFTConfig, *, native: bool, device: str) -> None:
    """Refuse bfloat16 on a GPU that only emulates it, where transformers would train slowly."""
    if (training_args.bf16 or training_args.bf16_full_eval) and not native:
        raise InputError(
            f"{device} has no native bfloat16; --bf16 false --fp16 true --dtype float32 trains "
            "there in float16"
        )


def require_quantization(setup: TrainingSetup) -> None:
    """Refuse quantized weights without an adapter, GPU or bitsandbytes, or if they are sharded."""
    if not (setup.model.load_in_4bit or setup.model.load_in_8bit):
        return
    if not setup.model.use_peft:
        raise InputError("quantized weights cannot be trained; set use_peft: true")
    if setup.layout.strategy in ("zero3", "fsdp2"):
        raise InputError(
            "quantized weights cannot be sharded across GPUs; use accelerate_configs/ddp.yaml or "
            "zero2.yaml"
        )
    if setup.args.dry_run:
        return
    if setup.layout.on_cpu:
        raise InputError("load_in_4bit and load_in_8bit need a GPU; remove them to train on a CPU")
    require_package("bitsandbytes")


def require_build_tools(layout: ParallelLayout) -> None:
    """Require the tools with which DeepSpeed compiles its CPU extensions on first use."""
    if not layout.uses_deepspeed or not (layout.on_cpu or layout.offload_optimizer):
        return
    environment_bin = str(Path(sys.executable).parent)  # pip installs ninja there
    if not shutil.which("ninja") and shutil.which("ninja", path=environment_bin):
        os.environ["PATH"] = f"{environment_bin}{os.pathsep}{os.environ['PATH']}"
    missing = [tool for tool in ("ninja", os.environ.get("CXX", "g++")) if not shutil.which(tool)]
    if missing:
        raise InputError(
            f"DeepSpeed compiles its CPU extensions and needs {' and '.join(missing)} on PATH; "
            "apt install g++, pip install ninja"
        )


def require_trackers(training_args: SFTConfig) -> None:
    """Require every tracker of `report_to` to exist and be installed."""
    from transformers.integrations import get_available_reporting_integrations
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    installed = [*get_available_reporting_integrations(), "flyte"]  # which transformers omits
    for tracker in training_args.report_to or []:
        if tracker not in INTEGRATION_TO_CALLBACK:
            valid = ", ".join(sorted(INTEGRATION_TO_CALLBACK))
            raise InputError(f"report_to: unknown tracker {tracker!r}; choose one of {valid}")
        if tracker not in installed:
            raise InputError(
                f"report_to: {tracker} is not installed; pip install {tracker.replace('_', '-')}, "
                "or remove it"
            )


def check_model_limits(
    setup: TrainingSetup,
    config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase | None,
    tokens: TokenizedRows | None,
) -> None:
    """Check the length and the token ids of the rows; a dry run may lack tokenizer and tokens."""
    splits = [split for split in (tokens.train, tokens.validation) if split] if tokens else []
    _check_positions(setup, config, splits)
    if tokenizer is not None:
        _check_vocabulary(setup, config, tokenizer, splits)


def _check_positions(setup: TrainingSetup, config: PretrainedConfig, splits: list[Dataset]) -> None:
    import pyarrow.compute as pc

    positions, max_length = _count_positions(config), setup.training.max_length
    if positions is None:
        return
    advice = f"set max_length: {positions} or less"
    used = "max_length" in setup.explicit_keys or setup.training.packing
    if max_length and max_length > positions and used:
        raise InputError(
            f"max_length {max_length} is above the {positions} positions of {setup.model_name}; "
            f"{advice}"
        )
    lengths = (pc.list_value_length(split.data.table["input_ids"]) for split in splits)
    longest = max((pc.max(column).as_py() for column in lengths), default=0)
    if longest > positions:
        raise InputError(
            f"the longest row has {longest} tokens, and {setup.model_name} has {positions} "
            f"positions; {advice}"
        )


def _check_vocabulary(
    setup: TrainingSetup,
    config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    splits: list[Dataset],
) -> None:
    """Refuse a tokenizer with ids beyond the model's embedding.

    Special tokens for other inputs may be beyond it, as long as no row uses them: Gemma 3's
    tokenizer has one for images, also for its text-only models.
    """
    import pyarrow.compute as pc

    num_embeddings = getattr(config.get_text_config(), "vocab_size", None)
    if not num_embeddings:
        return
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    ids = [id for token, id in tokenizer.get_vocab().items() if token not in special]
    ids += [tokenizer.bos_token_id or 0, tokenizer.eos_token_id or 0, tokenizer.pad_token_id or 0]
    ids += [pc.max(pc.list_flatten(split.data.table["input_ids"])).as_py() for split in splits]
    if max(ids) >= num_embeddings:
        raise InputError(
            f"the tokenizer of {setup.model_name} has ids up to {max(ids)}, and the model's "
            f"embedding has {num_embeddings} rows; use the tokenizer that belongs to the model, or "
            "resize the embedding first (resize_token_embeddings)"
        )


def _count_positions(config: PretrainedConfig) -> int | None:
    text_config = config.get_text_config()
    positions = getattr(text_config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        return None
    rope = getattr(text_config, "rope_parameters", None) or {}
    factor, original = rope.get("factor"), rope.get("original_max_position_embeddings")
    if factor and original:  # scaled, possibly without a change of max_position_embeddings
        positions = max(positions, int(factor * original))
    return positions
