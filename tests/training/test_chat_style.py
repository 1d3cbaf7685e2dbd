"""`prompt_style: chat`: a model is trained, evaluated and released with its own chat template."""

from __future__ import annotations

import json

import pytest
from support.tiny_sft import tiny_sft, write_rows

from code_alpaca import respond
from code_alpaca.cli import main
from code_alpaca.core.records import EvalResults, RunRecord

CONVERSATIONS = [
    {
        "messages": [
            *([{"role": "system", "content": "Be brief."}] if number % 2 else []),
            {"role": "user", "content": f"Return the number {number}."},
            {"role": "assistant", "content": f"return {number}"},
            {"role": "user", "content": "And twice?"},
            {"role": "assistant", "content": f"return {2 * number}"},
        ]
    }
    for number in range(20)
]
CHAT = ["--prompt_style", "chat", "--num_train_epochs", "1"]


@pytest.fixture(scope="module")
def conversations(tmp_path_factory):
    path = tmp_path_factory.mktemp("conversations") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in CONVERSATIONS))
    return path


@pytest.fixture(scope="module")
def model(conversations, tmp_path_factory):
    """A model that was trained on conversations of two turns."""
    output_dir = tmp_path_factory.mktemp("chat") / "model"
    assert main(tiny_sft(conversations, output_dir, *CHAT)) == 0
    return output_dir


def test_all_turns_are_trained_on_and_the_template_is_saved(model):
    from transformers import AutoTokenizer

    record = RunRecord.load(model)
    assert record.prompt_style == "chat" and record.counts.rows == len(CONVERSATIONS)
    tokenizer = AutoTokenizer.from_pretrained(model)
    text = tokenizer.apply_chat_template(CONVERSATIONS[1]["messages"], tokenize=False)
    assert "Be brief." in text and "return 2" in text
    ends = text.count(tokenizer.eos_token)
    assert ends == 2, "each answer ends with the token at which generation stops"


def test_alpaca_rows_become_conversations_of_one_turn(tmp_path, capsys):
    rows = write_rows(tmp_path / "rows.json", 20)
    words = [*CHAT, "--dry_run", "true"]
    assert main(tiny_sft(rows, tmp_path / "model", *words)) == 0
    printed = capsys.readouterr().out
    assert "<|im_start|>user\nReturn the number 0.<|im_end|>" in printed
    assert "<|im_start|>assistant\n⟦return 0" in printed.replace(" ⟦", "⟦")


def test_first_turn_trains_on_the_first_answer_only(conversations, tmp_path, capsys):
    words = [*CHAT, "--dry_run", "true", "--first_turn", "true"]
    assert main(tiny_sft(conversations, tmp_path / "model", *words)) == 0
    assert "And twice?" not in capsys.readouterr().out


def test_turns_that_do_not_alternate_are_refused_with_their_row(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    turns = CONVERSATIONS[0]["messages"]
    bad = {"messages": [*turns[:2], turns[0], turns[0], turns[1]]}
    path.write_text("".join(json.dumps(row) + "\n" for row in [CONVERSATIONS[0], bad]))
    assert main(tiny_sft(path, tmp_path / "model", *CHAT)) == 2
    error = capsys.readouterr().err
    assert "line 2" in error and "must alternate" in error and error.count("\n") == 1


def test_a_conversation_that_is_too_large_is_left_out(conversations, tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    turns = CONVERSATIONS[0]["messages"]
    large = [*turns, turns[0], {"role": "assistant", "content": "x" * 1_100_000}]
    path.write_text(conversations.read_text() + json.dumps({"messages": large}) + "\n")
    assert main(tiny_sft(path, tmp_path / "model", *CHAT, "--dry_run", "true")) == 0
    assert "row 21 (1,1" in capsys.readouterr().out


def test_the_rule_of_stanford_alpaca_has_no_turns(conversations, tmp_path, capsys):
    words = [*CHAT, "--mask", "alpaca_2023"]
    assert main(tiny_sft(conversations, tmp_path / "model", *words)) == 2
    assert "mask alpaca_2023" in capsys.readouterr().err


def test_eval_and_release_use_the_template(model, tmp_path, capsys):
    evaluate = ["eval", "--model", str(model), "--benchmark", "mini", "--max_new_tokens", "8"]
    assert main([*evaluate, "--output_dir", str(tmp_path / "eval")]) == 0
    assert EvalResults.load(tmp_path / "eval").prompt_format == "chat"
    assert isinstance(respond(model, "Return it.", "an input", max_new_tokens=4), str)
    release = ["release", "--model_dir", str(model), "--output_dir", str(tmp_path / "release")]
    assert main([*release, "--results", str(tmp_path / "eval"), "--license", "mit"]) == 0
    card = (tmp_path / "release/README.md").read_text()
    assert "trained with its chat template" in card and "### Response" not in card
