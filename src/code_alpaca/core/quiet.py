"""Leave the screen to our own lines, and the network to what was asked for.

Other libraries' bars and notes come by the dozen, and TRL tells huggingface.co of every training.
"""

from __future__ import annotations

import os
import warnings


def silence_libraries() -> None:
    """Silence the progress bars of datasets and transformers, and notes that nobody can act on.

    Telemetry as well, unless HF_HUB_DISABLE_TELEMETRY=0 asks for it. To be called before anything
    imports huggingface_hub, which reads its environment once.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import datasets
    import torch
    import transformers

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # or DeepSpeed warns that it found none
    datasets.disable_progress_bars()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
    warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)
    # DeepSpeed calls collectives by names that PyTorch is about to change, at every step.
    warnings.filterwarnings("ignore", message=".*torch.distributed.*", category=FutureWarning)
    # Of TRL, which means to leave Liger's own package for the Hub's; why we do not: arguments.py.
    warnings.filterwarnings("ignore", message=".*use_liger_kernel.*", category=FutureWarning)
