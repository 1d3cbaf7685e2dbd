"""Warnings of other libraries that a user cannot act on are not printed."""

from __future__ import annotations

import subprocess
import sys

CODE = """
from code_alpaca.core.quiet import silence_libraries

silence_libraries()
from transformers.trainer import logger

for name in ("lm_head.weight", "model.norm.weight"):
    logger.warning(f"There were missing keys in the checkpoint model loaded: {[name]}.")
"""


def test_a_resume_does_not_warn_of_tied_weights():
    """A checkpoint of a model with tied embeddings has no `lm_head.weight`, as it should be."""
    command = [sys.executable, "-c", CODE]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert "model.norm.weight" in printed and "lm_head.weight" not in printed
