"""A tiny trained and measured model, and a Hub, for all tests of releases."""

from __future__ import annotations

import json
import shutil

import pytest
from hub_double import HubDouble
from sessions import TINY

from code_alpaca.cli import main


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A folder with `model`, which sft trained from nothing, and `eval`, its results."""
    home = tmp_path_factory.mktemp("made")
    rows = [
        {"instruction": f"Return {n}.", "input": "", "output": f"return {n}"} for n in range(16)
    ]
    (home / "rows.json").write_text(json.dumps(rows))
    words = ["--dataset_name", str(home / "rows.json"), "--output_dir", str(home / "model")]
    assert main(["sft", *TINY, *words, "--max_steps", "3", "--logging_steps", "1"]) == 0
    assert main(["eval", "--benchmark", "mini", "--model", str(home / "model"),
                 "--max_new_tokens", "8", "--output_dir", str(home / "eval")]) == 0  # fmt: skip
    return home


@pytest.fixture
def trained(made, tmp_path):
    """The same in a folder of this test: the model and its results."""
    shutil.copytree(made / "model", tmp_path / "model")
    shutil.copytree(made / "eval", tmp_path / "eval")
    return tmp_path / "model", tmp_path / "eval"


@pytest.fixture(scope="module")
def double():
    with HubDouble() as double:
        yield double


@pytest.fixture
def hub(double):
    """A Hub that is empty; the processes of a module may keep its address."""
    double.forget()
    return double
