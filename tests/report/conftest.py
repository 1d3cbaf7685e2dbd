"""A finished run to report on."""

from __future__ import annotations

import shutil

import pytest
from support.plots import without_plots

from code_alpaca.cli import main


@pytest.fixture(scope="session")
def generated(tmp_path_factory):
    """A run of 20 examples by a teacher that refuses and truncates some."""
    folder = tmp_path_factory.mktemp("generated") / "run"
    command = ["generate", "--run_dir", str(folder), "--num_examples", "20", "--verify", "false"]
    with without_plots():
        assert main([*command, "--teacher_base_url", "offline?refusal=0.1&truncated=0.2"]) == 0
    return folder


@pytest.fixture
def run_dir(generated, tmp_path):
    return shutil.copytree(generated, tmp_path / "run")
