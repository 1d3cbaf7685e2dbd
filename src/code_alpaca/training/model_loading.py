"""Load the base model: its tokenizer, config, attention implementation and LoRA adapter."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from code_alpaca.core.errors import InputError, error_message
from code_alpaca.core.prompts import CHAT, format_prompt
from code_alpaca.hub.model_source import refuse_wrong_path, resolve_commit
from code_alpaca.training.arguments import TrainingSetup
from code_alpaca.training.conversation_tokens import prepare_chat_tokenizer
from code_alpaca.training.scratch_model import ScratchShape, build_scratch_model

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import PeftConfig
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
    from trl import ModelConfig

# Configs of the models that the recipes train, to plan them without network.
SHIPPED_CONFIGS = "data/shapes"
MIN_COMPUTE_CAPABILITY = (8, 0)  # Ampere, which FlashAttention 2 needs
HUB_FLASH_ATTENTION = "kernels-community/flash-attn2"


def pin_revision(setup: TrainingSetup) -> None:
    """Set `model_revision` to its current commit, so that training, records and release agree.

    A dry run continues without it, since the shipped config may be all that it needs.
    """
    model = setup.model
    try:
        if model.model_name_or_path:  # a local folder has no commit
            commit = resolve_commit(model.model_name_or_path, model.model_revision)
            model.model_revision = commit or model.model_revision
    except InputError:
        if not setup.args.dry_run:
            raise


def build_from_scratch(
    setup: TrainingSetup, rows: Dataset
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Build a random model and train its tokenizer on the rows; equal on every rank."""
    args = setup.args
    shape = ScratchShape(
        args.scratch_vocab_size,
        args.scratch_hidden_size,
        args.scratch_layers,
        args.scratch_heads,
        max_length=setup.training.max_length or 0,
    )
    texts = (format_prompt(row["instruction"], row["input"]) + row["output"] for row in rows)
    model, tokenizer = build_scratch_model(texts, shape, setup.training.seed)
    if args.prompt_style == CHAT:
        prepare_chat_tokenizer(tokenizer)
    return model, tokenizer


def load_tokenizer(setup: TrainingSetup) -> PreTrainedTokenizerBase:
    """Load the tokenizer of the base model."""
    from transformers import AutoTokenizer

    tokenizer = _from_pretrained(AutoTokenizer, setup, "the tokenizer of")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding has no label, so no loss
    if setup.args.prompt_style == CHAT:
        prepare_chat_tokenizer(tokenizer)
    return tokenizer


def load_model_config(setup: TrainingSetup) -> PretrainedConfig:
    """Load the config of the base model; a dry run prefers the shipped one."""
    from transformers import AutoConfig

    file_name = f"{setup.model_name.replace('/', '--')}.json"
    shipped = resources.files("code_alpaca") / SHIPPED_CONFIGS / file_name
    if setup.args.dry_run and shipped.is_file():
        values = json.loads(shipped.read_text("utf-8"))
        return AutoConfig.for_model(values.pop("model_type"), **values)
    refuse_wrong_path(setup.model_name)
    return _from_pretrained(AutoConfig, setup, "the model")


def model_init_kwargs(setup: TrainingSetup, config: PretrainedConfig) -> dict[str, Any]:
    """Return the keyword arguments with which TRL loads the weights."""
    from trl import get_quantization_config

    return {
        "revision": setup.model.model_revision,
        "dtype": setup.model.dtype,
        "attn_implementation": select_attention(setup, config),
        "quantization_config": get_quantization_config(setup.model),
        **(setup.training.model_init_kwargs or {}),
    }


def _from_pretrained(auto_class: Any, setup: TrainingSetup, kind: str) -> Any:
    try:
        return auto_class.from_pretrained(
            setup.model_name,
            revision=setup.model.model_revision,
            trust_remote_code=setup.training.trust_remote_code,
        )
    except (OSError, ValueError) as error:
        raise InputError(f"cannot load {kind} {setup.model_name}: {error_message(error)}") from None


def select_attention(setup: TrainingSetup, config: PretrainedConfig) -> str:
    """Return the configured `attn_implementation`, or the fastest that works here."""
    import torch
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING
    from transformers.utils import is_flash_attn_2_available, is_kernels_available

    if setup.model.attn_implementation:
        return setup.model.attn_implementation
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    attention = "sdpa"
    if not setup.layout.on_cpu and getattr(model_class, "_supports_flash_attn", True):
        has_gpu = torch.cuda.is_available()
        attention = fastest_attention(
            ampere=has_gpu and torch.cuda.get_device_capability() >= MIN_COMPUTE_CAPABILITY,
            installed=is_flash_attn_2_available(),
            hub=is_kernels_available() and not HF_HUB_OFFLINE,
            half_precision=setup.mixed_precision,
            load_kernel=not setup.args.dry_run,
        )
    if attention == "sdpa" and not getattr(model_class, "_supports_sdpa", True):
        return "eager"  # Gemma 2 and gpt-oss modify the scores in ways that sdpa does not support
    return attention


def fastest_attention(
    *, ampere: bool, installed: bool, hub: bool, half_precision: bool, load_kernel: bool = False
) -> str:
    """Return FlashAttention, installed or from the Hub, or else PyTorch's sdpa.

    sdpa is exact as well: for packed rows it receives a block-diagonal attention mask.

    Args:
        ampere: the GPU is of this generation or newer.
        installed: the package flash-attn.
        hub: the package kernels is installed, and the Hub may be contacted for its build.
        load_kernel: load that build now, to check that there is one for this machine.
    """
    if not (ampere and half_precision):
        return "sdpa"
    if installed:
        return "flash_attention_2"
    if hub and (not load_kernel or _loads(HUB_FLASH_ATTENTION)):
        return HUB_FLASH_ATTENTION
    return "sdpa"


def _loads(kernel: str) -> bool:
    from transformers.integrations.hub_kernels import load_and_register_attn_kernel

    try:
        load_and_register_attn_kernel(kernel)
    except Exception:  # no network, no build for this torch and GPU, or a broken download
        return False
    return True


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


def merge_adapter(setup: TrainingSetup, adapter_dir: Path, out: Path) -> None:
    """Merge an adapter into its base model, loaded again unsharded and unquantized on this host."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()  # or ZeRO-3 would shard these weights, too
    model = AutoModelForCausalLM.from_pretrained(
        setup.model_name, revision=setup.model.model_revision, dtype=setup.model.dtype or "auto"
    )
    PeftModel.from_pretrained(model, adapter_dir).merge_and_unload().save_pretrained(out)
