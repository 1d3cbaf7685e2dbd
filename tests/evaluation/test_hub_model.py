"""A model of the Hub is one commit: a moved branch gives no old answers, a cached one needs no Hub.

In one process of its own, since huggingface_hub reads its environment once.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support.hub_double import HubDouble

SCRIPT = """
import json, sys
from pathlib import Path
from huggingface_hub import HfApi
from code_alpaca.cli import main
from code_alpaca.training.scratch_model import make_base

folder, out = Path(sys.argv[1]), sys.argv[2]
for part in make_base(["x = 1"], vocab_size=300, hidden_size=32, layers=1, heads=2,
                      max_length=512, seed=0):
    part.save_pretrained(folder)
(folder / "pytorch_model.bin").write_bytes(b"the same weights as a pickle")
api = HfApi()
api.create_repo("alice/model")
def push():
    return api.upload_folder(repo_id="alice/model", folder_path=folder).oid
def evaluate(*more):
    return main(["eval", "--model", "alice/model", "--limit", "1", "--max_new_tokens", "2",
                 "--output_dir", out, *more])
seen = {"first": push(), "codes": [evaluate()]}
seen["recorded"] = json.loads(Path(out, "results.json").read_text())["model"]["revision"]
path = folder / "generation_config.json"
path.write_text(json.dumps({**json.loads(path.read_text()), "repetition_penalty": 1.3}))
seen["second"] = push()
seen["codes"] += [evaluate(), evaluate("--revision", seen["first"]), evaluate("--revision", "no")]
print(json.dumps(seen))
sys.stdout.flush()
sys.stdin.readline()
print(json.dumps([evaluate("--revision", seen["first"])]))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """What the script saw, with the Hub and then without it."""
    home = tmp_path_factory.mktemp("home")
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
    out, said = process.communicate("\n", timeout=120)
    assert lines and lines[-1].startswith("{"), said[-3000:]
    return json.loads(lines[-1]), json.loads(out.splitlines()[-1]), said, home


def test_the_commit_is_recorded_and_another_one_does_not_reuse_its_answers(run):
    seen, _, said, _ = run
    assert seen["recorded"] == seen["first"] != seen["second"]
    assert seen["codes"] == [0, 2, 0, 2]
    assert f"model commit: {seen['first'][:12]} there, {seen['second'][:12]} now" in said
    assert "the Hub refuses it at revision no" in said


def test_weights_that_are_there_twice_are_downloaded_once(run):
    seen, *_, home = run
    names = {path.name for path in home.glob(f"hf/hub/*/snapshots/{seen['first']}/*")}
    assert "model.safetensors" in names and "pytorch_model.bin" not in names


def test_what_was_downloaded_needs_no_hub(run):
    _, without_hub, said, _ = run
    assert without_hub == [0], said[-2000:]
    assert "Retrying" not in said
