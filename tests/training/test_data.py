"""Which rows are learned: of one dataset or of several, without those held out."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml
from support.tiny_sft import TINY

from code_alpaca.cli import main
from code_alpaca.core.errors import InputError
from code_alpaca.training import training_rows
from code_alpaca.training.arguments import SFTArguments


def write(path, name, count):
    rows = [
        {"instruction": f"{name} {n}", "input": "", "output": f"{name} {n}"} for n in range(count)
    ]
    path.write_text(json.dumps(rows))
    return str(path)


@pytest.fixture
def two(tmp_path):
    return write(tmp_path / "a.json", "a", 100), write(tmp_path / "b.json", "b", 40)


def names(rows):
    return Counter(row["instruction"][0] for row in rows)


def test_weights_take_parts_and_copies(two):
    a, b = two
    mixture = [{"name": a, "weight": 0.25}, {"name": b, "weight": 2.5}]
    rows = training_rows.read(SFTArguments(dataset_mixture=mixture), seed=0)
    assert names(rows.train) == {"a": 25, "b": 100}
    copies = Counter(row["instruction"] for row in rows.train)
    assert {copies[f"b {n}"] for n in range(40)} == {2, 3}
    assert rows.revision.startswith("0.25 x sha256 ") and "; 2.5 x sha256 " in rows.revision
    again = training_rows.read(SFTArguments(dataset_mixture=mixture), seed=0)
    assert rows.train[:] == again.train[:]
    other = training_rows.read(SFTArguments(dataset_mixture=mixture), seed=1)
    assert rows.train[:] != other.train[:]


def test_rows_kept_apart_are_never_learned_and_stay_apart(two, tmp_path):
    a, _ = two
    rows = training_rows.read(SFTArguments(dataset_name=a, validation_fraction=0.2), seed=0)
    measured = {row["instruction"] for row in rows.validation}
    assert 10 <= len(measured) <= 30
    assert measured.isdisjoint(row["instruction"] for row in rows.train)
    longer = write(tmp_path / "longer.json", "a", 200)
    more = training_rows.read(SFTArguments(dataset_name=longer, validation_fraction=0.2), seed=5)
    assert measured <= {row["instruction"] for row in more.validation}


def test_one_dataset_keeps_its_own_revision(two):
    rows = training_rows.read(SFTArguments(dataset_name=two[0]), seed=0)
    assert rows.named["revision"] == rows.sources[0]["revision"]
    assert rows.named["name"] == two[0] and rows.validation is None


def test_columns_of_other_names_are_mapped_and_rows_without_an_answer_are_left_out(tmp_path):
    path = tmp_path / "rows.json"
    rows = [{"task": f"a {n}", "code": "x" if n else None, "note": n} for n in range(5)]
    path.write_text(json.dumps(rows))
    said = []
    for given in ("{instruction: task, output: code}", {"instruction": "task", "output": "code"}):
        arguments = SFTArguments(dataset_name=str(path), column_map=given)
        read = training_rows.read(arguments, 0, said.append)
        assert read.train["instruction"][:] == ["a 1", "a 2", "a 3", "a 4"]
        assert read.train["input"][:] == [""] * 4
    assert "1 of 5 rows have no instruction or no output (the first is row 1)" in said[1]
    with pytest.raises(InputError, match="it is not clear which hold the task and the answer"):
        training_rows.read(SFTArguments(dataset_name=str(path)), 0)
    with pytest.raises(InputError, match=r"bad dataset_name, .* column_map"):
        training_rows.read(
            SFTArguments(dataset_name=str(path), column_map="{task: instruction}"), 0
        )


@pytest.mark.parametrize(
    ("mixture", "said"),
    [
        ([{"nam": "x"}], "bad dataset_mixture"),
        ([{"name": "x", "weight": 0}], "bad dataset_mixture"),
        (["x"], "bad dataset_mixture"),
    ],
)
def test_a_bad_mixture_is_named(mixture, said):
    with pytest.raises(InputError, match=said):
        training_rows.read(SFTArguments(dataset_mixture=mixture), seed=0)


def test_a_mixture_trains_with_an_evaluation_loss(two, tmp_path, capsys):
    a, b = two
    recipe = tmp_path / "recipe.yaml"
    values = yaml.safe_load(Path(TINY[1]).read_text())
    values |= {"dataset_mixture": [{"name": a}, {"name": b, "weight": 0.5}],
               "validation_fraction": 0.2}  # fmt: skip
    recipe.write_text(yaml.safe_dump(values))
    out = tmp_path / "model"
    words = ["sft", *TINY, "--config", str(recipe), "--output_dir", str(out)]
    del words[1:3]
    assert main(words) == 0, capsys.readouterr().err
    report = json.loads((out / "run.json").read_text())
    assert len(report["datasets"]) == 2 and report["datasets"][1]["weight"] == 0.5
    _, losses = zip(*report["eval_loss_curve"], strict=True)
    assert len(losses) == 2 and losses[1] < losses[0]
    logged = [json.loads(line) for line in (out / "metrics.jsonl").open()]
    assert [line["eval_loss"] for line in logged if "eval_loss" in line] == list(losses)
    assert (out / "loss.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--eval_strategy", "epoch"], "needs rows to measure on"),
        (["--validation_split", "test", "--validation_fraction", "0.1"], "say the same"),
        (["--validation_fraction", "0.0001"], "no row is held out"),
    ],
)
def test_bad_validation(two, tmp_path, capsys, words, said):
    out = ["--dataset_name", two[0], "--output_dir", str(tmp_path / "m")]
    assert main(["sft", *TINY, *out, *words]) == 2
    assert said in capsys.readouterr().err
