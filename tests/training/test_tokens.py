"""Training sees the very tokens that inference will see, and learns the completion alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from code_alpaca.errors import InputError
from code_alpaca.formatting import format_prompt
from code_alpaca.training.scratch import make_base
from code_alpaca.training.tokens import IGNORED, tokenize

ROWS = [
    {"instruction": "Add two numbers.", "input": "", "output": "def add(a, b):\n    return a + b"},
    {"instruction": "Fix it.", "input": "x = = 1\r\n", "output": ":::\nx = 1"},
    {"instruction": "Größe?", "input": "日本語", "output": "\U0001f999 = 12345"},
]
SIZES = {"vocab_size": 400, "hidden_size": 32, "layers": 1, "heads": 2, "max_length": 128}


@pytest.fixture(scope="module")
def base():
    texts = [format_prompt(row["instruction"], row["input"]) + row["output"] for row in ROWS]
    return make_base(texts * 3, seed=0, **SIZES)


@pytest.fixture(scope="module")
def folder(base, tmp_path_factory):
    path = tmp_path_factory.mktemp("base")
    base[1].save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder):
    """As inference has it: saved, then loaded."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("style", ["alpaca", "alpaca_nl"])
def test_ids_are_prompt_then_answer_then_eos(tokenizer, style):
    dataset, counts = tokenize(ROWS, tokenizer, prompt_style=style, max_length=None)
    for row, made in zip(ROWS, dataset, strict=True):
        prompt = tokenizer(format_prompt(row["instruction"], row["input"], style=style))[
            "input_ids"
        ]
        answer = [
            *tokenizer(row["output"], add_special_tokens=False)["input_ids"],
            tokenizer.eos_token_id,
        ]
        assert made["input_ids"] == prompt + answer
        assert made["labels"] == [IGNORED] * len(prompt) + answer
        assert made["input_ids"].count(tokenizer.bos_token_id) == 1
    assert counts.rows == 3 and counts.cut == counts.dropped == 0
    assert counts.learned_tokens == sum(
        label != IGNORED for made in dataset for label in made["labels"]
    )


def test_cut_rows_lose_their_eos_and_rows_without_an_answer_go(tokenizer):
    prompt = len(tokenizer(format_prompt(ROWS[0]["instruction"], ""))["input_ids"])
    long = {"instruction": "long " * 200, "input": "", "output": "x"}
    dataset, counts = tokenize(
        [ROWS[0], long], tokenizer, prompt_style="alpaca", max_length=prompt + 2
    )
    assert (counts.rows, counts.cut, counts.dropped) == (1, 1, 1)
    assert len(dataset[0]["input_ids"]) == prompt + 2
    assert tokenizer.eos_token_id not in dataset[0]["labels"]
    with pytest.raises(InputError, match="max_length 4"):
        tokenize(ROWS, tokenizer, prompt_style="alpaca", max_length=4)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(codec="utf-8")))
def test_the_scratch_tokenizer_loses_nothing(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not any(mark in text for mark in tokenizer.all_special_tokens):
        assert tokenizer.decode(ids) == text


def test_digits_are_single_tokens(tokenizer):
    assert len(tokenizer("12345", add_special_tokens=False)["input_ids"]) == 5


def test_a_tokenizer_without_eos_is_refused(folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="no EOS"):
        tokenize(ROWS, tokenizer, prompt_style="alpaca", max_length=None)


def test_the_scratch_base_is_a_function_of_texts_and_seed(base):
    texts = [format_prompt(row["instruction"], row["input"]) + row["output"] for row in ROWS]
    model, tokenizer = make_base(texts * 3, seed=0, **SIZES)
    assert tokenizer.backend_tokenizer.to_str() == base[1].backend_tokenizer.to_str()
    for name, weights in base[0].state_dict().items():
        assert weights.equal(model.state_dict()[name]), name
