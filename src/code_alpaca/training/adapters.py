"""Configure LoRA adapters, check quantization, and merge an adapter into its base model."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from code_alpaca.core.errors import InputError
from code_alpaca.training.arguments import TrainingSetup

if TYPE_CHECKING:
    from peft import PeftConfig
    from trl import ModelConfig


def adapter_config(model_args: ModelConfig) -> PeftConfig | None:
    """Return the LoRA config (Hu et al. 2021, https://arxiv.org/abs/2106.09685), or None.

    Without `lora_target_modules`, all linear layers except the head get an adapter (QLoRA,
    Dettmers et al. 2023, https://arxiv.org/abs/2305.14314, section 4).
    """
    from trl import get_peft_config

    config = get_peft_config(model_args)
    if config is not None and model_args.lora_target_modules is None:
        config.target_modules = "all-linear"
    return config


def require_quantization(setup: TrainingSetup) -> None:
    """Refuse quantized weights that cannot be trained.

    Raises:
        InputError: there is no adapter, GPU or bitsandbytes, or weights are sharded across GPUs.
    """
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
    if not find_spec("bitsandbytes"):
        raise InputError("load_in_4bit needs bitsandbytes; pip install bitsandbytes")


def merge_adapter(setup: TrainingSetup, adapter_dir: Path, out: Path) -> None:
    """Merge an adapter into its base model and save the result in the dtype of the base model.

    The base model is loaded a second time on this host, unsharded and unquantized.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()  # or ZeRO-3 would shard these weights, too
    model = AutoModelForCausalLM.from_pretrained(
        setup.model_name, revision=setup.model.model_revision, dtype=setup.model.dtype or "auto"
    )
    PeftModel.from_pretrained(model, adapter_dir).merge_and_unload().save_pretrained(out)
