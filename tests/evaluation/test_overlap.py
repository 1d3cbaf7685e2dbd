"""Scores without the problems that the model was trained on: by run.json, or labelled otherwise."""

from __future__ import annotations

import hashlib
import json

import pytest

from code_alpaca.cli import main
from code_alpaca.problems import load_problems
from code_alpaca.training.scratch_model import ScratchShape, build_scratch_model

FIRST, SECOND = load_problems("mini")[:2]


def write_rows(path, *instructions):
    rows = [{"instruction": each, "input": "", "output": "x"} for each in instructions]
    path.write_text("\n".join(map(json.dumps, rows)))
    return f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model folder of sft, trained on a file that holds the first problem."""
    folder = tmp_path_factory.mktemp("model")
    for part in build_scratch_model(
        [FIRST.prompt], ScratchShape(vocab_size=300, hidden_size=32, num_layers=1, num_heads=2)
    ):
        part.save_pretrained(folder)
    return folder


@pytest.fixture
def data(tmp_path, model):
    path = tmp_path / "train.jsonl"
    revision = write_rows(path, FIRST.instruction, "Say hi.")
    source = {"name": str(path), "config": "default", "revision": revision, "weight": 1.0}
    record = {"dataset": source, "datasets": [source], "config": {"prompt_style": "alpaca"}}
    (model / "run.json").write_text(json.dumps(record))
    return path


@pytest.fixture
def evaluate(model, tmp_path):
    def run(*more):
        words = ["eval", "--model", str(model), "--limit", "3", "--max_new_tokens", "2",
                 "--output_dir", str(tmp_path / "eval"), *more]  # fmt: skip
        assert main(words) == 0
        return json.loads((tmp_path / "eval/results.json").read_text())

    return run


def test_the_training_data_is_that_of_run_json(evaluate, data, tmp_path):
    found = evaluate()["uncontaminated"]
    assert found["matched"] == [FIRST.task_id] and found["problems"] == 2
    assert found["is_training_data"] is True
    (source,) = found["sources"]
    assert source["name"] == str(data) and source["rows"] == 2 and len(source["sha256"]) == 64
    assert source["revision"] == f"sha256 {hashlib.sha256(data.read_bytes()).hexdigest()}"
    assert "without a match in the training data | 2" in (tmp_path / "eval/results.md").read_text()


@pytest.mark.parametrize("change", ["changed", "gone"])
def test_data_that_is_not_what_was_trained_on_is_not_compared(evaluate, data, change, capsys):
    if change == "gone":
        data.unlink()
    else:
        write_rows(data, SECOND.instruction)
    results = evaluate()
    assert "uncontaminated" not in results and str(data) in results["training_data_not_checked"]
    assert "training data not checked" in capsys.readouterr().out


def test_other_data_is_labelled_as_other(evaluate, data, tmp_path, capsys):
    other = tmp_path / "other.jsonl"
    write_rows(other, SECOND.instruction)
    found = evaluate("--training_data", str(other))["uncontaminated"]
    assert found["matched"] == [SECOND.task_id] and found["is_training_data"] is False
    assert "is not what run.json says" in capsys.readouterr().out
    assert "(not its training data)" in (tmp_path / "eval/results.md").read_text()


@pytest.mark.parametrize("record", ['{"datasets": [1]}', '{"datasets": 3}', "[]", '{"config": 1}'])
def test_a_run_json_of_another_form_ends_no_run(evaluate, data, model, record):
    (model / "run.json").write_text(record)
    assert "uncontaminated" not in evaluate()


def test_it_can_be_skipped(evaluate, data):
    results = evaluate("--training_data", "skip")
    assert "uncontaminated" not in results and "skip" in results["training_data_not_checked"]
