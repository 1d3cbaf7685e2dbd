"""Select the attention implementation: the configured one, or the fastest that works here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from code_alpaca.training.arguments import TrainingSetup

if TYPE_CHECKING:
    from transformers import PretrainedConfig

MIN_COMPUTE_CAPABILITY = (8, 0)  # Ampere, which FlashAttention 2 needs
HUB_FLASH_ATTENTION = "kernels-community/flash-attn2"


@dataclass(frozen=True, slots=True)
class FlashAttentionSupport:
    """What FlashAttention would find on this machine."""

    ampere: bool  # the GPU is of this generation or newer
    installed: bool  # the package flash-attn
    hub: bool  # the package kernels, and the Hub may be contacted for its build

    @classmethod
    def detect(cls) -> Self:
        import torch
        from huggingface_hub.constants import HF_HUB_OFFLINE
        from transformers.utils import is_flash_attn_2_available, is_kernels_available

        has_gpu = torch.cuda.is_available()
        return cls(
            ampere=has_gpu and torch.cuda.get_device_capability() >= MIN_COMPUTE_CAPABILITY,
            installed=is_flash_attn_2_available(),
            hub=is_kernels_available() and not HF_HUB_OFFLINE,
        )


def select_attention(setup: TrainingSetup, config: PretrainedConfig) -> str:
    """Return the value of `attn_implementation` for a model."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    if setup.model.attn_implementation:
        return setup.model.attn_implementation
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    attention = "sdpa"
    if not setup.layout.on_cpu and getattr(model_class, "_supports_flash_attn", True):
        attention = fastest_attention(
            FlashAttentionSupport.detect(),
            half_precision=setup.mixed_precision,
            load_kernel=not setup.args.dry_run,
        )
    if attention == "sdpa" and not getattr(model_class, "_supports_sdpa", True):
        return "eager"  # Gemma 2 and gpt-oss modify the scores in ways that sdpa does not support
    return attention


def fastest_attention(
    support: FlashAttentionSupport, *, half_precision: bool, load_kernel: bool = False
) -> str:
    """Return FlashAttention, installed or from the Hub, or else PyTorch's sdpa.

    sdpa is exact as well: for packed rows it receives a block-diagonal attention mask.

    Args:
        half_precision: whether training computes in 16 bits, as FlashAttention requires.
        load_kernel: load the kernel of the Hub now, to check for a build for this machine.
    """
    if not (support.ampere and half_precision):
        return "sdpa"
    if support.installed:
        return "flash_attention_2"
    if support.hub and (not load_kernel or _loads(HUB_FLASH_ATTENTION)):
        return HUB_FLASH_ATTENTION
    return "sdpa"


def _loads(kernel: str) -> bool:
    from transformers.integrations.hub_kernels import load_and_register_attn_kernel

    try:
        load_and_register_attn_kernel(kernel)
    except Exception:  # no network, no build for this torch and GPU, or a broken download
        return False
    return True
