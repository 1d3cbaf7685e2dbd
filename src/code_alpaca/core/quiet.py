"""Silence other libraries: progress bars, warnings without an action, and telemetry."""

from __future__ import annotations

import logging
import os
import warnings


def silence_libraries() -> None:
    """Silence other libraries, before huggingface_hub is imported and reads the environment.

    By default TRL reports every training to huggingface.co; HF_HUB_DISABLE_TELEMETRY=0 permits it.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import datasets
    import torch
    import transformers

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else DeepSpeed warns that it found none
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.get_logger("transformers.trainer").addFilter(_is_actionable)
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)
    # DeepSpeed calls deprecated names of PyTorch collectives at every step.
    warnings.filterwarnings("ignore", message=".*torch.distributed.*", category=FutureWarning)
    # TRL deprecates the liger-kernel package in favor of the Hub's kernels; see training/parsing.
    warnings.filterwarnings("ignore", message=".*use_liger_kernel.*", category=FutureWarning)


def _is_actionable(record: logging.LogRecord) -> bool:
    """Drop a warning on resume: tied weights are missing in every checkpoint, and tied again."""
    return "missing keys in the checkpoint model loaded: ['lm_head.weight']" not in str(record.msg)
