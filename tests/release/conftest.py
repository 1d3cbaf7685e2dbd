"""A tiny trained and measured model, and a Hub, for all tests of releases."""

from __future__ import annotations

import json
import shutil

import pytest
from support.hub_double import HubDouble
from support.release_sessions import REPO, TINY, Session

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


@pytest.fixture(scope="session")
def double():
    with HubDouble() as double:
        yield double


@pytest.fixture
def hub(double):
    """A Hub that is empty; the processes of all tests may keep its address."""
    double.forget()
    return double


@pytest.fixture
def start(hub, tmp_path):
    """Starts a process of its own, for tests that kill it or that are somebody else."""
    started = []

    def more(user="alice"):
        started.append(Session(hub, tmp_path / f"home-{user}", user))
        return started[-1]

    yield more
    for session in started:
        session.kill()


@pytest.fixture(scope="session")
def shared(double, tmp_path_factory):
    session = Session(double, tmp_path_factory.mktemp("home"))
    yield session
    session.kill()


@pytest.fixture
def session(hub, shared):
    """The process that most tests share: starting one takes longer than they do."""
    return shared


@pytest.fixture
def words(trained, tmp_path):
    """The command that releases the tiny model, with more keys."""

    def command(*more, version="0.1.0"):
        return ["release", "--model_dir", str(trained[0]), "--results", str(trained[1]),
                "--output_dir", str(tmp_path / "release"), "--hub_model_id", REPO,
                "--model_version", version, "--license", "apache-2.0", *more]  # fmt: skip

    return command
