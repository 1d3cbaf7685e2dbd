"""A Hub model is one commit: a push makes it another model, and a downloaded one needs no Hub.

Runs in a separate process, since huggingface_hub reads its environment once.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from support.hub_double import HubDouble

SCRIPT = """
import json, sys
from pathlib import Path
from huggingface_hub import HfApi
from code_alpaca.cli import main

folder, out = Path(sys.argv[1]), sys.argv[2]
(folder / "pytorch_model.bin").write_bytes(b"the same weights as a pickle")
api = HfApi()
api.create_repo("alice/model")
def push():
    return api.upload_folder(repo_id="alice/model", folder_path=folder).oid
def evaluate(*more):
    return main(["eval", "--model", "alice/model", "--limit", "1", "--max_new_tokens", "2",
                 "--output_dir", out, *more])
report = {"first": push(), "codes": [evaluate()]}
report["recorded"] = json.loads(Path(out, "results.json").read_text())["model"]["revision"]
path = folder / "generation_config.json"
path.write_text(json.dumps({**json.loads(path.read_text()), "repetition_penalty": 1.3}))
report["second"] = push()
report["codes"] += [evaluate()]
report["codes"] += [evaluate("--revision", name) for name in (report["first"], "no")]
print(json.dumps(report))
sys.stdout.flush()
sys.stdin.readline()
print(json.dumps([evaluate("--revision", report["first"])]))
"""


@pytest.fixture(scope="module")
def run(tiny_model, tmp_path_factory):
    """Run the script, with the Hub and then without it; return its reports, stderr and home."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(tiny_model, home / "model")
    with HubDouble() as hub:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, home / "model", home / "eval"],
            env=hub.environment(home / "hf"), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("{"):
                break
    out, stderr = process.communicate("\n", timeout=120)
    assert lines and lines[-1].startswith("{"), stderr[-3000:]
    return json.loads(lines[-1]), json.loads(out.splitlines()[-1]), stderr, home


def test_the_commit_is_recorded_and_completions_of_another_are_not_reused(run):
    report, _, stderr, _ = run
    assert report["recorded"] == report["first"] != report["second"]
    assert report["codes"] == [0, 2, 0, 2]
    assert f"model commit was {report['first'][:12]}, now {report['second'][:12]}" in stderr
    assert "the Hub refuses it at revision no" in stderr


def test_weights_in_two_formats_are_downloaded_once(run):
    report, *_, home = run
    names = {path.name for path in home.glob(f"hf/hub/*/snapshots/{report['first']}/*")}
    assert "model.safetensors" in names and "pytorch_model.bin" not in names


def test_a_downloaded_model_needs_no_hub(run):
    _, without_hub, stderr, _ = run
    assert without_hub == [0], stderr[-2000:]
    assert "Retrying" not in stderr
