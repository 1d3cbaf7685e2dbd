"""Rows and trained models that several tests read."""

from __future__ import annotations

import pytest
from support.tiny_sft import tiny_sft, write_rows

from code_alpaca.cli import main


@pytest.fixture(scope="session")
def rows(tmp_path_factory):
    """Sixty rows in an Alpaca file."""
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.json", 60)


@pytest.fixture(scope="session")
def uninterrupted(rows, tmp_path_factory):
    """A model trained for five epochs of four steps without interruption."""
    output_dir = tmp_path_factory.mktemp("uninterrupted") / "model"
    words = ["--num_train_epochs", "5", "--logging_steps", "1"]
    assert main(tiny_sft(rows, output_dir, *words)) == 0
    return output_dir
