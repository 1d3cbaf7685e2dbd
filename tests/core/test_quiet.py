"""What other libraries print, and a user cannot act on, is not printed."""

from __future__ import annotations

import os
import subprocess
import sys

from code_alpaca.cli import main

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


def test_a_log_contains_no_progress_bars(tmp_path):
    words = ["generate", "--teacher_base_url", "offline", "--run_dir", str(tmp_path / "run")]
    assert main([*words, "--num_examples", "5", "--verify", "false"]) == 0
    command = [sys.executable, "-m", "code_alpaca.cli", "curate", "--verify", "false"]
    command += ["--source", str(tmp_path / "run/dataset"), "--run_dir", str(tmp_path / "curated")]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "empty")}  # so that the rows are read
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stderr == ""
