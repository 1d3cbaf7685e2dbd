"""A tiny trained and evaluated model, and a Hub double to release it on."""

from __future__ import annotations

import shutil

import pytest
from support.hub_fixtures import double, hub, shared_worker, start_worker, worker  # noqa: F401
from support.model_releases import REPO, TrainedModel, release_command
from support.tiny_sft import tiny_sft, write_rows

from code_alpaca.cli import main


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory):
    """A model trained from scratch and its results; `rows.json` beside them is its data."""
    home = tmp_path_factory.mktemp("trained")
    model_dir, results = home / "model", home / "eval"
    rows = write_rows(home / "rows.json", 16)
    assert main(tiny_sft(rows, model_dir, "--max_steps", "3", "--logging_steps", "1")) == 0
    assert main(["eval", "--benchmark", "mini", "--model", str(model_dir),
                 "--max_new_tokens", "8", "--output_dir", str(results)]) == 0  # fmt: skip
    return TrainedModel(model_dir, results)


@pytest.fixture
def trained(trained_once, tmp_path):
    """A copy for one test."""
    shutil.copytree(trained_once.model_dir, tmp_path / "model")
    shutil.copytree(trained_once.results, tmp_path / "eval")
    return TrainedModel(tmp_path / "model", tmp_path / "eval")


@pytest.fixture
def release(trained):
    """Releases the model into a folder, and returns the exit code."""

    def run(output_dir, *words):
        return main(release_command(trained, output_dir, *words))

    return run


@pytest.fixture
def refused(release, capsys):
    """Releases the model into a folder, which must be refused, and returns the error output."""

    def run(output_dir, *words):
        capsys.readouterr()
        assert release(output_dir, *words) == 2
        return capsys.readouterr().err

    return run


@pytest.fixture
def command(trained, tmp_path):
    """Returns the command that releases the model on the Hub."""

    def build(*words, version="0.1.0", repo=REPO):
        return release_command(
            trained, tmp_path / "release", "--hub_model_id", repo, "--model_version", version,
            "--license", "apache-2.0", *words,
        )  # fmt: skip

    return build
