"""A tiny trained and evaluated model, a Hub double to release it on, and a demo of a model."""

from __future__ import annotations

import json
import shutil

import pytest
from support.hub_fixtures import double, hub, shared_worker, start_worker, worker  # noqa: F401
from support.model_releases import REPO, TrainedModel, release_command
from support.tiny_sft import tiny_sft, write_rows

from code_alpaca.cli import main
from code_alpaca.core.prompts import format_prompt
from code_alpaca.training.scratch_model import ScratchShape, build_scratch_model


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
    """Return a function that releases the model into a folder and returns the exit code."""

    def run(output_dir, *words):
        return main(release_command(trained, output_dir, *words))

    return run


@pytest.fixture
def refused(release, capsys):
    """Return a function whose release must be refused; it returns the error output."""

    def run(output_dir, *words):
        capsys.readouterr()
        assert release(output_dir, *words) == 2
        return capsys.readouterr().err

    return run


@pytest.fixture
def command(trained, tmp_path):
    """Return a function that returns the command of a release on the Hub."""

    def build(*words, version="0.1.0", repo=REPO):
        return release_command(
            trained, tmp_path / "release", "--hub_model_id", repo, "--model_version", version,
            "--license", "apache-2.0", *words,
        )  # fmt: skip

    return build


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory):
    """A random model of two layers, with the run.json of a training on a Hub dataset."""
    folder = tmp_path_factory.mktemp("demo") / "model"
    texts = [format_prompt("Add two numbers.", "a = 1") + "def add(a, b):\n    return a + b\n"] * 3
    shape = ScratchShape(vocab_size=300, hidden_size=32, num_layers=2, num_heads=2, max_length=5000)
    model, tokenizer = build_scratch_model(texts, shape, seed=1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    run = {
        "config": {"prompt_style": "alpaca_nl"},
        "dataset": {"name": "some-org/some-data", "revision": "a" * 40},
    }
    (folder / "run.json").write_text(json.dumps(run))
    return folder


@pytest.fixture(scope="session")
def demo_model(demo_folder):
    from support import demo  # imports gradio

    # It repeats the last token of its prompt: a colon is visible on the page, a newline is not.
    return demo.load_model(demo_folder, prompt_style="alpaca")


@pytest.fixture(scope="session")
def served(demo_model):
    """The address of the page of `demo_model`."""
    from support import demo

    page = demo.serve(demo_model)
    yield page.local_url
    page.close(verbose=False)


@pytest.fixture
def streams():
    """The responses that pages generate during a test."""
    from support.demo import ObservedStream

    ObservedStream.created.clear()
    ObservedStream.active = ObservedStream.max_active = 0
    return ObservedStream.created
