"""Measure a training run against its hardware: model FLOPs utilization and peak memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig

ADAPTER_FLOPS = 2 / 3  # of full fine-tuning: frozen weights need no gradients


class ThroughputMeter:
    """Convert tokens per second to model FLOPs utilization (MFU).

    FLOPs per token are counted as in PaLM (Chowdhery et al. 2022,
    https://arxiv.org/abs/2204.02311, appendix B). The peak is the vendor's for the GPU.

    Args:
        sequence_length: tokens.
        adapter: train an adapter, and not all weights.
    """

    def __init__(
        self, config: PretrainedConfig, sequence_length: int, world_size: int, *, adapter: bool
    ):
        import torch
        from trl.trainer.utils import compute_flops_per_token, get_peak_flops

        self.world_size = world_size
        try:
            self.flops_per_token = float(compute_flops_per_token(config, sequence_length))
        except Exception:  # TRL does not support this architecture
            self.flops_per_token = 0.0
        if adapter:
            self.flops_per_token *= ADAPTER_FLOPS
        self.device = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        self.peak_flops = get_peak_flops(self.device, "bfloat16") if self.device else None

    def mfu(self, tokens_per_second: float) -> float | None:
        """Return the MFU between 0 and 1, or None if peak or FLOPs per token are unknown."""
        if not self.peak_flops or not self.flops_per_token:
            return None
        return self.flops_per_token * tokens_per_second / (self.peak_flops * self.world_size)


def peak_memory_bytes(on_cpu: bool) -> int:
    """Return the peak memory of this process: of its GPU, or resident memory on a CPU."""
    if not on_cpu:
        import torch

        return torch.cuda.max_memory_reserved()
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
