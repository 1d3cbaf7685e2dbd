"""A release folder holds what a user needs, and its card says only what the files say."""

from __future__ import annotations

import json

import pytest
from huggingface_hub import ModelCard

from code_alpaca.cli import main
from code_alpaca.formatting import format_prompt
from code_alpaca.weights import weights_sha256

TRAINING = {
    "base_model": "from scratch", "parameters": 2_100_000, "rows": 10, "tokens": 900,
    "counts": {"learned_tokens": 300}, "steps": 5, "seconds": 1.2, "processes": 1,
    "first_loss": 6.5, "last_loss": 1.25,
    "dataset": {"name": "runs/x/dataset", "config": "default", "revision": "v0.1.0 (sha256 ab)"},
    "config": {"learning_rate": 0.002, "seed": 0}, "versions": {"torch": "2.13.0"},
}  # fmt: skip


@pytest.fixture
def trained(tmp_path):
    """A model folder with weights of sorts, and its results."""
    model = tmp_path / "model"
    (model / "checkpoint-5").mkdir(parents=True)
    for name in ("model.safetensors", "config.json", "tokenizer.json", "training_args.bin",
                 "checkpoint-5/optimizer.pt"):  # fmt: skip
        (model / name).write_bytes(name.encode())
    (model / "run.json").write_text(json.dumps(TRAINING))
    assert main(["eval", "--samples", "reference", "--output_dir", str(tmp_path / "eval")]) == 0
    path = tmp_path / "eval/results.json"
    results = json.loads(path.read_text())
    results["model"] = {"name": str(model), "sha256": weights_sha256(str(model)), "dataset": None}
    path.write_text(json.dumps(results))
    return model, path


def release(trained, out, *more):
    model, results = trained
    return main(["release", "--model_dir", str(model), "--results", str(results),
                 "--output_dir", str(out), *more])  # fmt: skip


def test_the_folder_holds_what_a_user_needs_and_no_more(trained, tmp_path):
    out = tmp_path / "release"
    assert release(trained, out) == 0
    assert sorted(path.name for path in out.rglob("*")) == [
        "README.md", "config.json", "model.safetensors", "release.json", "results.json",
        "run.json", "tokenizer.json",
    ]  # fmt: skip
    assert release(trained, out, "--model_version", "0.2.0") == 0
    assert "# Code Alpaca model 0.2.0" in (out / "README.md").read_text()


def test_the_card(trained, tmp_path):
    assert release(trained, tmp_path / "r", "--license", "apache-2.0") == 0
    text = (tmp_path / "r/README.md").read_text()
    for gap in ("None", "More Information", "{{", "undefined"):
        assert gap not in text
    for fact in ("| pass@1 | 100.0% | 83.9% to 100.0% |", "6.500, 1.250", "v0.1.0 (sha256 ab)",
                 format_prompt("{instruction}"), format_prompt("{instruction}", "{input}"),
                 "not made to be safe or harmless"):  # fmt: skip
        assert fact in text
    card = ModelCard.load(tmp_path / "r/README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.eval_results[0].metric_value == 1.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model_version", "1"], "not SemVer"),
        (["--hub_model_id", "me/model"], "hf upload"),
        (["--results", "missing.json"], "cannot read missing.json"),
        (["--model_dir", "missing"], "a model folder made by sft"),
    ],
)
def test_bad_input(trained, tmp_path, words, said, capsys):
    assert release(trained, tmp_path / "r", *words) == 2
    assert said in capsys.readouterr().err


def test_results_of_another_model_are_refused(trained, tmp_path, capsys):
    (trained[0] / "model.safetensors").write_bytes(b"other weights")
    assert release(trained, tmp_path / "r") == 2
    assert "holds no results of the weights" in capsys.readouterr().err


def test_a_folder_that_is_no_release_is_not_replaced(trained, tmp_path, capsys):
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter1.txt").write_text("words")
    assert release(trained, precious) == 2
    assert (precious / "chapter1.txt").read_text() == "words"


def test_no_release_without_weights_or_over_its_own_source(trained, tmp_path, capsys):
    model, results = trained
    assert release(trained, model) == 2
    assert release(trained, results.parent) == 2
    assert (model / "checkpoint-5/optimizer.pt").exists()
    assert release(trained, tmp_path / "r", "--dataset_card", "nowhere.md") == 2
    (model / "model.safetensors").unlink()
    capsys.readouterr()
    assert release(trained, tmp_path / "r") == 2
    assert "holds no weights" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("broken", [b"{}", b"[]", b"\xff", b"{"])
def test_results_that_are_none(trained, tmp_path, broken, capsys):
    trained[1].write_bytes(broken)
    assert release(trained, tmp_path / "r") == 2
    assert capsys.readouterr().err.count("\n") == 1
