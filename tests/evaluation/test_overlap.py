"""A second score leaves out problems in the training data of run.json; other data is labelled."""

from __future__ import annotations

import hashlib
import json

import pytest

from code_alpaca.problems import load_problems

FIRST, SECOND = load_problems("mini")[:2]


def write_rows(path, *instructions):
    """Write a dataset and return its revision."""
    rows = [{"instruction": text, "input": "", "output": "x"} for text in instructions]
    path.write_text("\n".join(map(json.dumps, rows)))
    return f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.fixture
def run_json(tiny_model):
    """Write run.json beside the model, and delete it afterwards."""
    path = tiny_model / "run.json"
    yield path
    path.unlink()


@pytest.fixture
def data(tmp_path, run_json):
    """The training data that run.json names; it contains the first problem."""
    path = tmp_path / "train.jsonl"
    revision = write_rows(path, FIRST.instruction, "Print hello.")
    source = {"name": str(path), "config": "default", "revision": revision, "weight": 1.0}
    record = {"dataset": source, "datasets": [source], "config": {"prompt_style": "alpaca"}}
    run_json.write_text(json.dumps(record))
    return path


@pytest.fixture
def evaluate(tiny_model, run_eval):
    def evaluate_model(*words):
        words = ["--model", tiny_model, "--limit", "3", "--max_new_tokens", "2", *words]
        assert run_eval(*words) == 0
        return run_eval.results

    return evaluate_model


def test_the_training_data_is_that_of_run_json(evaluate, data, run_eval):
    clean = evaluate().uncontaminated
    assert clean.matched == [FIRST.task_id] and clean.problems == 2
    assert clean.is_training_data is True
    (source,) = clean.sources
    assert source.name == str(data) and source.rows == 2 and len(source.sha256) == 64
    assert source.revision == f"sha256 {hashlib.sha256(data.read_bytes()).hexdigest()}"
    table = (run_eval.output_dir / "results.md").read_text()
    assert "without a match in the training data | 2" in table


@pytest.mark.parametrize("change", ["changed", "deleted"])
def test_data_that_is_not_that_of_the_training_is_not_compared(evaluate, data, change, capsys):
    if change == "deleted":
        data.unlink()
    else:
        write_rows(data, SECOND.instruction)
    results = evaluate()
    assert results.uncontaminated is None and str(data) in results.training_data_not_checked
    assert "training data not checked" in capsys.readouterr().out


def test_other_data_is_labelled(evaluate, data, tmp_path, run_eval, capsys):
    other = tmp_path / "other.jsonl"
    write_rows(other, SECOND.instruction)
    clean = evaluate("--training_data", other).uncontaminated
    assert clean.matched == [SECOND.task_id] and clean.is_training_data is False
    assert "is not the training data that run.json records" in capsys.readouterr().out
    assert "(not its training data)" in (run_eval.output_dir / "results.md").read_text()


@pytest.mark.parametrize("record", ['{"datasets": [1]}', '{"datasets": 3}', "[]", '{"config": 1}'])
def test_a_run_json_of_another_tool_is_not_used(evaluate, run_json, record):
    run_json.write_text(record)
    results = evaluate()
    assert results.uncontaminated is None and "run.json" in results.training_data_not_checked


def test_the_comparison_can_be_skipped(evaluate, data):
    results = evaluate("--training_data", "skip")
    assert results.uncontaminated is None and "skip" in results.training_data_not_checked


def test_samples_without_a_model_are_compared_with_named_data(run_eval, tmp_path):
    data = tmp_path / "train.jsonl"
    write_rows(data, FIRST.instruction, "Something else.")
    assert run_eval("--samples", "reference", "--training_data", data) == 0
    clean = run_eval.results.uncontaminated
    assert clean.matched == [FIRST.task_id] and clean.problems == 19
    table = (run_eval.output_dir / "results.md").read_text()
    assert "| all | 20 | 1 | 100.0%" in table
    assert "| without a match in the training data | 19 | 1 | 100.0%" in table


@pytest.mark.parametrize(
    ("style", "first_turn", "matched"),
    [
        ("alpaca", True, [FIRST.task_id]),
        ("chat", True, [FIRST.task_id]),
        ("chat", False, [FIRST.task_id, SECOND.task_id]),
    ],
)
def test_the_training_data_is_read_in_the_form_of_the_training(
    evaluate, run_json, tmp_path, style, first_turn, matched
):
    path = tmp_path / "chats.jsonl"
    texts = [FIRST.instruction, "x", SECOND.instruction, "y"]
    roles = ("user", "assistant") * 2
    turns = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
    path.write_text(json.dumps({"dialog": turns, "id": 1}) + "\n")
    source = {
        "name": str(path), "config": "default", "weight": 1.0, "first_turn": first_turn,
        "revision": f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}",
        "column_map": {"messages": "dialog"},
    }  # fmt: skip
    record = {"dataset": source, "datasets": [source], "config": {"prompt_style": style}}
    run_json.write_text(json.dumps(record))
    clean = evaluate("--prompt_format", "alpaca").uncontaminated
    assert clean.matched == matched and clean.is_training_data is True
