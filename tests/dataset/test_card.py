"""The card of a dataset: its title, and what it states about imported rows."""

from __future__ import annotations

import json

import pytest
from huggingface_hub import DatasetCard
from support.hub_client import create_repo

from code_alpaca.cli import main

pytestmark = pytest.mark.usefixtures("without_plots")
UNKNOWN = (  # of rows that other tools wrote
    "follows the method", "in English", "mistakes of its teacher", "confidential material",
    "about people", "no person has reviewed", "Chaudhary", "how it was made", "The teacher",
)  # fmt: skip


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "my_tasks.jsonl"
    row = {"instruction": "Add 1 and 1 in Python.", "input": "", "output": "print(1 + 1)"}
    path.write_text(json.dumps(row))
    return path


@pytest.fixture
def run(tmp_path):
    """Run a command that writes a dataset, and return its card."""

    def run(command, *words):
        folder = tmp_path / command
        assert main([command, "--run_dir", str(folder), *map(str, words)]) == 0
        return DatasetCard.load(folder / "dataset/README.md")

    return run


@pytest.mark.parametrize("command", ["publish", "curate"])
def test_the_card_of_imported_rows_claims_only_what_is_known(source, run, command):
    card = run(command, "--source", source)
    assert [claim for claim in UNKNOWN if claim in card.content] == []
    assert card.data.tags == ["code", "instruction-tuning", "code-alpaca"]
    assert card.data.language == ["code"]
    assert "instruction, input and output are those of the source" in card.content
    assert ("curated them by the rules below" in card.content) == (command == "curate")


def test_the_card_of_generated_rows_states_their_method(run):
    words = "--teacher_base_url", "offline", "--num_examples", "5"
    card = run("generate", *words)
    assert "# Code Alpaca 0.1.0\n" in card.content and card.data.pretty_name == "Code Alpaca"
    assert {"synthetic", "self-instruct"} <= {*card.data.tags} and "Chaudhary" in card.content
    # The title may be set at any start, and stays until it is changed.
    card = run("generate", *words, "--title", "SQL: hard")
    assert "# SQL: hard 0.1.0\n" in card.content and card.data.pretty_name == "SQL: hard"
    assert run("generate", *words).data.pretty_name == "SQL: hard"


@pytest.mark.parametrize(
    ("novelty", "measure"),
    [
        ("code_aware", "words of the instruction, of its operators, or of the input"),
        ("rouge_l", "The measure `rouge_l` is the ROUGE-L F1 of the instructions."),
    ],
)
def test_the_card_names_the_measure_of_similarity(source, run, novelty, measure):
    card = run("curate", "--source", source, "--novelty", novelty).content
    assert measure in card and "## License\n" in card and "icence" not in card


@pytest.mark.parametrize("command", ["publish", "curate"])
def test_imported_rows_are_named_after_their_source_unless_there_is_a_title(source, run, command):
    card = run(command, "--source", source)
    assert "# my\\_tasks" not in card.content and "# my_tasks 0.1.0\n" in card.content
    assert card.data.pretty_name == "my_tasks"
    card = run(command, "--source", source, "--title", "My *own* tasks")
    assert "# My \\*own\\* tasks 0.1.0\n" in card.content
    assert card.data.pretty_name == "My *own* tasks"


def test_the_title_of_an_imported_dataset_is_changed_with_its_source(source, run, capsys):
    run("publish", "--source", source, "--title", "One")
    assert run("publish").data.pretty_name == "One"
    folder = str(source.parent / "publish")
    assert main(["publish", "--run_dir", folder, "--title", "Two"]) == 2
    assert "to change its title, add its source: --source" in capsys.readouterr().err


def test_rows_of_the_hub_are_named_after_their_repository(hub, worker, source, tmp_path):
    create_repo(hub, "alice/code")
    hub.edit("alice/code", {"rows.jsonl": source.read_bytes()}, author="alice")
    worker.succeed("publish", "--source", "alice/code", "--run_dir", tmp_path / "run")
    card = DatasetCard.load(tmp_path / "run/dataset/README.md")
    assert card.data.pretty_name == "alice/code"
