"""Hugging Face Jobs: the commands of docs/train.md run up to the request that submits the job."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
from support.documents import ROOT, blocks
from support.jobs_double import JobsDouble
from support.needs import need

TOKEN = "hf_secret"
BLOCKS = blocks(ROOT / "docs/train.md")
SUBMITTED = next(block for block in BLOCKS if block.text.startswith("hf jobs uv run "))
PRINTED = BLOCKS[BLOCKS.index(SUBMITTED) + 1]
COMMANDS = SUBMITTED.text.splitlines()
RAW = re.search(r"https://\S+?(/\S+/raw/v[\d.]+/)", SUBMITTED.text)  # files of the repository
MODELS = {"type": "bucket", "source": "ORG/models", "mountPath": "/models"}


@pytest.fixture
def hub():
    """A Hub that is also the host of the repository."""
    need(int(huggingface_hub.__version__.split(".")[0]) >= 2, "needs hf of huggingface-hub 2.0")
    with JobsDouble(ROOT, RAW[1]) as double:
        yield double


@pytest.fixture
def submit(hub, tmp_path):
    def submit(command: str, *options: str) -> str:
        """Run `hf jobs uv run ...` as alice and return what it prints."""
        hf = Path(sys.executable).with_name("hf")
        words = shlex.split(command.replace(RAW[0], f"{hub.url}{RAW[1]}"))
        words[4:4] = ["--detach", *options]
        environment = {
            "HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN,
            "HF_HUB_OFFLINE": "0",
        }  # fmt: skip
        done = subprocess.run(
            [hf, *words[1:]], cwd=tmp_path, env={**os.environ, **environment}, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert TOKEN not in done.stdout + done.stderr
        return done.stdout.replace(f"{hub.url}{RAW[1]}", RAW[0])

    return submit


def test_the_documented_commands_train_evaluate_and_release(hub, submit):
    for command in COMMANDS:
        submit(command)
    assert [job["labels"]["name"] for job in hub.jobs] == ["sft", "eval", "release"]
    for job, command in zip(hub.jobs, COMMANDS, strict=True):
        script = re.search(r"/scripts/(\w+\.py) (.*)", command)
        assert job["command"] == ["uv", "run", f"/data/{script[1]}", *script[2].split()]
        assert job["dockerImage"] == "ghcr.io/astral-sh/uv:python3.12-bookworm"
        models, files = job["volumes"]
        assert models.items() >= MODELS.items()
        assert files["mountPath"] == "/data" and f"{files['path']}/{script[1]}" in hub.shipped
        # The token travels as a secret, where it was asked for, and nowhere else.
        secrets = job.pop("secrets", {})
        assert secrets == ({"HF_TOKEN": TOKEN} if "--secrets" in command else {})
        assert TOKEN not in str(job)
    training, evaluation, _ = hub.jobs
    assert (training["flavor"], training["timeoutSeconds"]) == ("a100-large", 6 * 3600)
    assert evaluation["flavor"] == "a10g-large"


def test_a_dry_run_prints_the_documented_job(hub, submit):
    assert submit(COMMANDS[0], "--dry-run") == PRINTED.text
    assert hub.jobs == hub.shipped == []


def test_a_script_and_a_recipe_of_ones_own_travel_with_the_job(hub, submit, tmp_path):
    (tmp_path / "mine.yaml").write_text("max_length: 512\n")
    (tmp_path / "sft.py").write_bytes((ROOT / "scripts/sft.py").read_bytes())
    submit("hf jobs uv run sft.py --config mine.yaml --learning_rate 1e-5")
    (job,) = hub.jobs
    assert job["command"][2:] == [
        "/data/sft.py", "--config", "/data/mine.yaml", "--learning_rate", "1e-5",
    ]  # fmt: skip
    assert {Path(path).name for path in hub.shipped} == {"sft.py", "mine.yaml"}
