"""The model to start from: by name, or made from nothing; whole, quantized, with an adapter."""

from __future__ import annotations

import json
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from code_alpaca.core.errors import InputError, one_line
from code_alpaca.core.prompts import format_prompt
from code_alpaca.hub.model_source import find_commit
from code_alpaca.training.arguments import Job
from code_alpaca.training.scratch_model import ScratchShape, build_scratch_model

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import PeftConfig
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
    from trl import ModelConfig

AMPERE = (8, 0)  # compute capability
FLASH_OF_HUB = "kernels-community/flash-attn2"  # as transformers calls it
SHAPES = "data/shapes"  # configs of the models that our recipes train, for planning without a Hub


def from_nothing(job: Job, rows: Dataset) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A random model and its tokenizer, the same in every process."""
    arguments = job.arguments
    return build_scratch_model(
        (format_prompt(row["instruction"], row["input"]) + row["output"] for row in rows),
        ScratchShape(
            vocab_size=arguments.scratch_vocab_size,
            hidden_size=arguments.scratch_hidden_size,
            num_layers=arguments.scratch_layers,
            num_heads=arguments.scratch_heads,
            max_length=job.training.max_length or 0,
        ),
        seed=job.training.seed,
    )


def read_tokenizer(job: Job) -> PreTrainedTokenizerBase:
    """The tokenizer of the model.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer

    name = str(job.model.model_name_or_path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name,
            revision=job.model.model_revision,
            trust_remote_code=job.training.trust_remote_code,
        )
    except (OSError, ValueError) as error:
        raise InputError(f"cannot load the tokenizer of {name}: {one_line(error)}") from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked, so the loss never sees it
    return tokenizer


def read_config(job: Job) -> PretrainedConfig:
    """The shape of the model: from its folder, the cache or the Hub; for a dry run, what is
    shipped here of the models that our recipes train.

    Raises:
        InputError: none of them has it.
    """
    from transformers import AutoConfig

    name = str(job.model.model_name_or_path)
    shipped = resources.files("code_alpaca") / SHAPES / f"{name.replace('/', '--')}.json"
    if job.arguments.dry_run and shipped.is_file():
        values = json.loads(shipped.read_text("utf-8"))
        return AutoConfig.for_model(values.pop("model_type"), **values)
    try:
        return AutoConfig.from_pretrained(
            name,
            revision=job.model.model_revision,
            trust_remote_code=job.training.trust_remote_code,
        )
    except (OSError, ValueError) as error:
        raise InputError(f"cannot load the model {name}: {one_line(error)}") from None


def pin(job: Job) -> None:
    """Let `model_revision` be the commit that it means now: what is trained, recorded and released
    is that one, whatever is committed meanwhile. A folder has none.

    Raises:
        InputError: there is no such model. A dry run continues without it, since the shape of the
            model, which may be shipped here, can be all that it needs.
    """
    name = job.model.model_name_or_path
    if not name:
        return
    try:
        commit = find_commit(name, job.model.model_revision)
    except InputError:
        if not job.arguments.dry_run:
            raise
        return
    job.model.model_revision = commit or job.model.model_revision


def adapter(model_config: ModelConfig) -> PeftConfig | None:
    """LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685) as asked for, or None.

    Where nobody names modules, all linear ones but the head get an adapter (QLoRA, Dettmers et
    al. 2023, https://arxiv.org/abs/2305.14314, section 4).
    """
    from trl import get_peft_config

    found = get_peft_config(model_config)
    if found is not None and model_config.lora_target_modules is None:
        found.target_modules = "all-linear"
    return found


def how_to_load(job: Job, config: PretrainedConfig) -> dict[str, Any]:
    """The keywords with which TRL loads the model."""
    from trl import get_quantization_config

    return {
        "revision": job.model.model_revision,
        "dtype": job.model.dtype,
        "attn_implementation": attention(job, config),
        "quantization_config": get_quantization_config(job.model),
        **(job.training.model_init_kwargs or {}),
    }


def precision(job: Job) -> str:
    """In what it computes."""
    training = job.training
    return "bfloat16" if training.bf16 else "float16" if training.fp16 else "float32"


def attention(job: Job, config: PretrainedConfig) -> str:
    """What computes attention: what was asked for, or the fastest that works here for the model."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    if job.model.attn_implementation:
        return job.model.attn_implementation
    kind = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    found = "sdpa"
    if not job.layout.on_cpu and getattr(kind, "_supports_flash_attn", True):
        half = bool(job.training.bf16 or job.training.fp16)
        found = fastest_attention(half=half, load=not job.arguments.dry_run, **_attention_here())
    if found == "sdpa" and not getattr(kind, "_supports_sdpa", True):
        return "eager"  # Gemma 2 and gpt-oss: what they add to the scores, sdpa cannot
    return found


def fastest_attention(
    *, ampere: bool, half: bool, installed: bool, hub: bool, load: bool = False
) -> str:
    """FlashAttention, installed or from the Hub; otherwise PyTorch's own, which is right, too:
    where rows are packed, it gets a mask that keeps them apart.

    Args:
        ampere: whether the GPU is of that generation or a later one, as FlashAttention needs.
        half: whether training computes in 16 bits, as FlashAttention does.
        installed: whether flash-attn is.
        hub: whether the package `kernels` is, and the Hub may be asked for its build.
        load: whether to load it from the Hub now, to find out if there is a build for this machine.
    """
    if not (ampere and half):
        return "sdpa"
    if installed:
        return "flash_attention_2"
    return FLASH_OF_HUB if hub and (not load or _loads(FLASH_OF_HUB)) else "sdpa"


def _attention_here() -> dict[str, bool]:
    import torch
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from transformers.utils import is_flash_attn_2_available, is_kernels_available

    gpu = torch.cuda.is_available()
    return {
        "ampere": gpu and torch.cuda.get_device_capability() >= AMPERE,
        "installed": is_flash_attn_2_available(),
        "hub": is_kernels_available() and not HF_HUB_OFFLINE,
    }


def _loads(kernel: str) -> bool:
    from transformers.integrations.hub_kernels import load_and_register_attn_kernel

    try:
        load_and_register_attn_kernel(kernel)
    except Exception:  # no network, no build for this torch and GPU, a broken download
        return False
    return True


def require_quantization(job: Job) -> None:
    """Refuse quantized weights where they cannot be trained on.

    Raises:
        InputError: without an adapter, a GPU or bitsandbytes; or where weights are split over GPUs.
    """
    if not (job.model.load_in_4bit or job.model.load_in_8bit):
        return
    if not job.model.use_peft:
        raise InputError("quantized weights are not trained themselves; set use_peft: true")
    if job.layout.kind in ("zero3", "fsdp2"):
        raise InputError(
            "quantized weights cannot be split over GPUs; take accelerate_configs/ddp.yaml or "
            "zero2.yaml"
        )
    if job.arguments.dry_run:
        return
    if job.layout.on_cpu:
        raise InputError("load_in_4bit and load_in_8bit need a GPU; leave them out on a CPU")
    if not find_spec("bitsandbytes"):
        raise InputError("load_in_4bit needs bitsandbytes; pip install bitsandbytes")


def merge(job: Job, adapted: Path, out: Path) -> None:
    """Write the base model with the adapter added to its weights, in the type that it came in.

    The base is read once more, whole and unquantized, on this host.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()  # training is over, and ZeRO-3 would cut these weights up as well
    model = AutoModelForCausalLM.from_pretrained(
        str(job.model.model_name_or_path),
        revision=job.model.model_revision,
        dtype=job.model.dtype or "auto",
    )
    PeftModel.from_pretrained(model, adapted).merge_and_unload().save_pretrained(out)
