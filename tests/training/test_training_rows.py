"""Training rows come from one dataset or a mixture, without the held-out rows."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import yaml
from support import tokenizers_in_use
from support.tiny_sft import RECIPE, TINY, read_metrics

from code_alpaca.cli import main
from code_alpaca.core.errors import InputError
from code_alpaca.core.records import RunRecord
from code_alpaca.training.arguments import SFTArguments
from code_alpaca.training.tokenization import IGNORE_INDEX, TokenizationOptions, tokenize_rows
from code_alpaca.training.training_rows import read_training_rows


def write(path, name, count):
    rows = [
        {"instruction": f"{name} {n}", "input": "", "output": f"{name} {n}"} for n in range(count)
    ]
    path.write_text(json.dumps(rows))
    return str(path)


@pytest.fixture
def two(tmp_path):
    return write(tmp_path / "a.json", "a", 100), write(tmp_path / "b.json", "b", 40)


def count_by_dataset(rows):
    return Counter(row["instruction"][0] for row in rows)


def test_a_weight_repeats_rows_and_samples_the_fraction(two):
    a, b = two
    mixture = SFTArguments(
        dataset_mixture=[{"name": a, "weight": 0.25}, {"name": b, "weight": 2.5}]
    )
    rows = read_training_rows(mixture, seed=0)
    assert count_by_dataset(rows.train) == {"a": 25, "b": 100}
    copies = Counter(row["instruction"] for row in rows.train)
    assert {copies[f"b {n}"] for n in range(40)} == {2, 3}
    assert rows.revision.startswith("0.25 x sha256 ") and "; 2.5 x sha256 " in rows.revision
    assert read_training_rows(mixture, seed=0).train[:] == rows.train[:]
    assert read_training_rows(mixture, seed=1).train[:] != rows.train[:]


def test_held_out_rows_are_not_trained_on_and_stay_held_out(two, tmp_path):
    a, _ = two
    rows = read_training_rows(SFTArguments(dataset_name=a, validation_fraction=0.2), seed=0)
    held_out = {row["instruction"] for row in rows.validation}
    assert 10 <= len(held_out) <= 30
    assert held_out.isdisjoint(row["instruction"] for row in rows.train)
    longer = write(tmp_path / "longer.json", "a", 200)
    more = read_training_rows(SFTArguments(dataset_name=longer, validation_fraction=0.2), seed=5)
    assert held_out <= {row["instruction"] for row in more.validation}


def test_a_single_dataset_keeps_its_revision(two):
    rows = read_training_rows(SFTArguments(dataset_name=two[0]), seed=0)
    assert rows.revision == rows.sources[0]["revision"]
    assert rows.dataset["name"] == two[0] and rows.validation is None


def test_columns_are_mapped_and_rows_without_an_answer_are_left_out(tmp_path):
    path = tmp_path / "rows.json"
    rows = [{"task": f"a {n}", "code": "x" if n else None, "note": n} for n in range(5)]
    path.write_text(json.dumps(rows))
    lines = []
    for column_map in (
        "{instruction: task, output: code}",
        {"instruction": "task", "output": "code"},
    ):
        arguments = SFTArguments(dataset_name=str(path), column_map=column_map)
        train = read_training_rows(arguments, 0, lines.append).train
        assert train["instruction"][:] == ["a 1", "a 2", "a 3", "a 4"]
        assert train["input"][:] == [""] * 4
    assert "1 of 5 rows without instruction or output (the first is row 1)" in lines[1]
    with pytest.raises(InputError, match="it is not clear which contain the task and the response"):
        read_training_rows(SFTArguments(dataset_name=str(path)), 0)
    with pytest.raises(InputError, match=r"bad dataset_name, .* column_map"):
        arguments = SFTArguments(dataset_name=str(path), column_map="{task: instruction}")
        read_training_rows(arguments, 0)


@pytest.mark.parametrize("mixture", [[{"nam": "x"}], [{"name": "x", "weight": 0}], ["x"]])
def test_a_bad_mixture_is_refused(mixture):
    with pytest.raises(InputError, match="bad dataset_mixture"):
        read_training_rows(SFTArguments(dataset_mixture=mixture), seed=0)


def test_a_mixture_trains_with_an_evaluation_loss(two, tmp_path, capsys):
    a, b = two
    recipe, output_dir = tmp_path / "recipe.yaml", tmp_path / "model"
    values = yaml.safe_load(RECIPE.read_text())
    values |= {"dataset_mixture": [{"name": a}, {"name": b, "weight": 0.5}],
               "validation_fraction": 0.2}  # fmt: skip
    recipe.write_text(yaml.safe_dump(values))
    words = ["sft", "--config", str(recipe), *TINY[2:], "--output_dir", str(output_dir)]
    assert main(words) == 0, capsys.readouterr().err
    record = RunRecord.load(output_dir)
    assert len(record.datasets) == 2 and record.datasets[1].weight == 0.5
    _, losses = zip(*record.eval_loss_curve, strict=True)
    assert len(losses) == 2 and losses[1] < losses[0]
    metrics = read_metrics(output_dir)
    assert [line["eval_loss"] for line in metrics if "eval_loss" in line] == list(losses)
    assert (output_dir / "loss.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--eval_strategy", "epoch"], "needs held-out rows"),
        (["--validation_split", "test", "--validation_fraction", "0.1"], "both set the held-out"),
        (["--validation_fraction", "0.0001"], "no row is held out"),
    ],
)
def test_bad_validation_is_refused(two, tmp_path, capsys, words, message):
    paths = ["--dataset_name", two[0], "--output_dir", str(tmp_path / "m")]
    assert main(["sft", *TINY, *paths, *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("key", [{"dataset_split": "test"}, {"first_turn": True}], ids=str)
def test_a_mixture_names_these_keys_for_each_dataset(two, tmp_path, capsys, key):
    recipe = tmp_path / "recipe.yaml"
    values = yaml.safe_load(RECIPE.read_text()) | {"dataset_mixture": [{"name": two[0]}], **key}
    recipe.write_text(yaml.safe_dump(values))
    words = ["--config", str(recipe), *TINY[2:], "--output_dir", str(tmp_path / "model")]
    assert main(["sft", *words]) == 2
    assert f"{next(iter(key))!r} and dataset_mixture exclude each other" in capsys.readouterr().err


def test_conversations_and_splits_of_a_folder_are_read(tmp_path):
    def write_chats(name, *conversations):
        path = tmp_path / "chats" / name
        path.parent.mkdir(exist_ok=True)
        roles = ("user", "assistant") * 2
        lines = [
            {"messages": [{"role": r, "content": t} for r, t in zip(roles, texts, strict=False)]}
            for texts in conversations
        ]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    write_chats("train.jsonl", ["a 0", "1"], ["a 1", "2", "a 2", "3"])
    write_chats("test.jsonl", ["b 0", "4"])
    keys = {"dataset_name": str(tmp_path / "chats"), "validation_split": "test"}
    with pytest.raises(InputError, match=r"1 of 2 rows with several turns.*first_turn: true"):
        read_training_rows(SFTArguments(**keys), seed=0)
    lines = []
    rows = read_training_rows(SFTArguments(**keys, first_turn=True), 0, lines.append)
    assert rows.train["instruction"][:] == ["a 0", "a 1"] and rows.train["output"][:] == ["1", "2"]
    assert rows.validation["instruction"][:] == ["b 0"]
    assert "2 rows in chat form (messages); 1 of several turns, of which the first" in lines[0]
    only_test = SFTArguments(dataset_name=keys["dataset_name"], dataset_split="test")
    assert read_training_rows(only_test, seed=0).train["instruction"][:] == ["b 0"]
    mixture = SFTArguments(
        dataset_mixture=[
            {"name": keys["dataset_name"], "first_turn": True},
            {"name": keys["dataset_name"], "split": "test"},
        ]
    )
    assert read_training_rows(mixture, seed=0).train["instruction"][:] == ["a 0", "a 1", "b 0"]


def test_a_file_is_not_its_own_validation_split(two):
    arguments = SFTArguments(dataset_name=two[0], validation_split="validation")
    with pytest.raises(InputError, match="is a file and has no split 'validation'"):
        read_training_rows(arguments, seed=0)


def test_the_tokens_of_another_column_of_the_same_file_are_not_reused(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [
        {"question": f"Set x to {n}.", "code": f"x = {n}", "prose": "Set it."} for n in range(9)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = tokenizers_in_use.make("llama-1", [path.read_text()])
    answers = []
    for column in ("code", "prose"):
        column_map = {"instruction": "question", "output": column}
        rows = read_training_rows(
            SFTArguments(dataset_name=str(path), column_map=column_map), seed=0
        )
        options = TokenizationOptions("alpaca", max_length=None)
        tokens, _ = tokenize_rows(rows.train, tokenizer, options, revision=rows.cache_key)
        labels = [label for label in tokens[0]["labels"] if label != IGNORE_INDEX]
        answers.append(tokenizer.decode(labels, skip_special_tokens=True).strip())
    assert answers == ["x = 0", "Set it."]
