"""A finished run to report on."""

from __future__ import annotations

import shutil

import pytest

from code_alpaca.cli import main
from code_alpaca.dataset import plots


@pytest.fixture(scope="session")
def generated(tmp_path_factory):
    """A run of 20 examples by a teacher that refuses and truncates some."""
    folder = tmp_path_factory.mktemp("generated") / "run"
    command = ["generate", "--run_dir", str(folder), "--num_examples", "20", "--verify", "false"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "draw_plots", lambda summary, folder: [])
        assert main([*command, "--teacher_base_url", "offline?refusal=0.1&truncated=0.2"]) == 0
    return folder


@pytest.fixture
def run_dir(generated, tmp_path):
    return shutil.copytree(generated, tmp_path / "run")
