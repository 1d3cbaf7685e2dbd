"""Training uses the exact tokens of inference, and only the completion contributes to the loss."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tokenizers_in_use
from support.tiny_sft import TINY_SHAPE

from code_alpaca.core.errors import InputError
from code_alpaca.core.prompts import PROMPT_STYLES, format_prompt
from code_alpaca.training.scratch_model import build_scratch_model
from code_alpaca.training.tokenization import IGNORE_INDEX, TokenizationOptions, tokenize_rows

ROWS = [
    {"instruction": "Add two numbers.", "input": "", "output": "def add(a, b):\n    return a + b"},
    {"instruction": "Fix it.", "input": "x = = 1\r\n", "output": ":::\nx = 1"},
    {"instruction": "Größe?", "input": "日本語", "output": "\U0001f999 = 12345"},
]
TEXTS = [format_prompt(row["instruction"], row["input"]) + row["output"] for row in ROWS] * 3
# Answers that a tokenizer may merge with the ":" before them, and other unusual ones.
MERGING_ROWS = [
    *ROWS,
    *(
        {"instruction": "Print it.", "input": text, "output": text}
        for text in (":", "::", ":)", "\n\nx", " x", "\tx", "", "-", "é", "\u2581", "a " * 40)
    ),
]
ALPACA = TokenizationOptions("alpaca", max_length=None)


@pytest.fixture(scope="module")
def scratch_model():
    return build_scratch_model(TEXTS, TINY_SHAPE)


@pytest.fixture(scope="module")
def folder(scratch_model, tmp_path_factory):
    path = tmp_path_factory.mktemp("base")
    scratch_model[1].save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder):
    """The scratch tokenizer as inference has it: saved, then loaded."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module", params=["scratch", "llama-1", "gpt-2"])
def any_tokenizer(request, tokenizer):
    if request.param == "scratch":
        return tokenizer
    texts = [format_prompt(row["instruction"], row["input"]) + row["output"]
             for row in MERGING_ROWS]  # fmt: skip
    texts += [text.replace("Response:", "Response::") for text in texts]  # so that ":" merges
    return tokenizers_in_use.make(request.param, texts * 3, vocab_size=700)


def encode_as_stanford_alpaca(row, tokenizer, max_length):
    """The published rule: https://github.com/tatsu-lab/stanford_alpaca, train.py."""
    source = format_prompt(row["instruction"], row["input"])
    example = source + f"{row['output']}{tokenizer.eos_token}"
    input_ids = tokenizer(example, max_length=max_length, truncation=True)["input_ids"]
    source_len = len(tokenizer(source, max_length=max_length, truncation=True)["input_ids"])
    labels = list(input_ids)
    labels[:source_len] = [IGNORE_INDEX] * min(source_len, len(labels))
    return input_ids, labels


@pytest.mark.parametrize("max_length", [512, 60])
def test_the_mask_alpaca_2023_is_the_published_rule(any_tokenizer, max_length):
    expected = [encode_as_stanford_alpaca(row, any_tokenizer, max_length) for row in MERGING_ROWS]
    expected = [row for row in expected if set(row[1]) != {IGNORE_INDEX}]
    options = TokenizationOptions("alpaca", max_length, mask="alpaca_2023")
    dataset, statistics = tokenize_rows(MERGING_ROWS, any_tokenizer, options)
    assert [(row["input_ids"], row["labels"]) for row in dataset] == expected
    assert statistics.dropped == len(MERGING_ROWS) - len(expected)


@pytest.mark.parametrize("style", PROMPT_STYLES)
def test_ids_are_those_of_the_prompt_then_the_completion_then_eos(any_tokenizer, style):
    options = TokenizationOptions(style, max_length=None)
    dataset, statistics = tokenize_rows(MERGING_ROWS, any_tokenizer, options)
    for row, encoded in zip(MERGING_ROWS, dataset, strict=True):
        text = format_prompt(row["instruction"], row["input"], style=style)
        prompt = any_tokenizer(text)["input_ids"]
        completion = any_tokenizer(row["output"], add_special_tokens=False)["input_ids"]
        completion.append(any_tokenizer.eos_token_id)
        assert encoded["input_ids"] == prompt + completion
        assert encoded["labels"] == [IGNORE_INDEX] * len(prompt) + completion
    assert statistics.rows == len(MERGING_ROWS)
    assert statistics.truncated == statistics.dropped == 0
    assert statistics.loss_tokens == sum(
        label != IGNORE_INDEX for encoded in dataset for label in encoded["labels"]
    )


def test_the_two_masks_differ_where_a_token_spans_prompt_and_completion():
    tokenizer = tokenizers_in_use.make("gpt-2", ["### Response::)"] * 50, vocab_size=700)
    row = {"instruction": "Smile.", "input": "", "output": ":)"}
    completion, alpaca_2023 = (
        tokenize_rows([row], tokenizer, TokenizationOptions("alpaca", None, mask))[0][0]
        for mask in ("completion", "alpaca_2023")
    )
    assert alpaca_2023["input_ids"] != completion["input_ids"]
    loss_tokens = [label for label in completion["labels"] if label != IGNORE_INDEX]
    assert tokenizer.decode(loss_tokens, skip_special_tokens=True) == ":)"


def test_tokens_are_cached_by_content_hash(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    first, statistics = tokenize_rows(ROWS, tokenizer, ALPACA, revision="one")
    (file,) = (tmp_path / "code_alpaca").iterdir()
    written_ns = file.stat().st_mtime_ns
    second, same_statistics = tokenize_rows(ROWS, tokenizer, ALPACA, revision="one")
    assert file.stat().st_mtime_ns == written_ns and same_statistics == statistics
    assert second[:] == first[:]
    alpaca_2023 = TokenizationOptions("alpaca", None, "alpaca_2023")
    tokenize_rows(ROWS, tokenizer, alpaca_2023, revision="one")
    tokenize_rows(ROWS, tokenizer, ALPACA, revision="two")
    other_tokenizer = tokenizers_in_use.make("llama-1", ["abc"])
    tokenize_rows(ROWS, other_tokenizer, ALPACA, revision="one")
    assert len(list((tmp_path / "code_alpaca").iterdir())) == 4


def test_the_number_of_processes_changes_nothing(tokenizer):
    options = TokenizationOptions("alpaca", max_length=100)
    one, statistics = tokenize_rows(ROWS * 20, tokenizer, options)
    two, same_statistics = tokenize_rows(ROWS * 20, tokenizer, options, num_proc=2)
    assert one[:] == two[:] and statistics == same_statistics


def test_truncated_rows_lose_their_eos_and_rows_without_a_loss_token_are_dropped(tokenizer):
    prompt_length = len(tokenizer(format_prompt(ROWS[0]["instruction"], ""))["input_ids"])
    options = TokenizationOptions("alpaca", max_length=prompt_length + 2)
    long_row = {"instruction": "long " * 200, "input": "", "output": "x"}
    dataset, statistics = tokenize_rows([ROWS[0], long_row], tokenizer, options)
    assert (statistics.rows, statistics.truncated, statistics.dropped) == (1, 1, 1)
    assert len(dataset[0]["input_ids"]) == prompt_length + 2
    assert tokenizer.eos_token_id not in dataset[0]["labels"]
    with pytest.raises(InputError, match="max_length 4"):
        tokenize_rows(ROWS, tokenizer, TokenizationOptions("alpaca", max_length=4))


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(codec="utf-8")))
def test_the_scratch_tokenizer_decodes_every_text(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not any(token in text for token in tokenizer.all_special_tokens):
        assert tokenizer.decode(ids) == text


def test_digits_are_single_tokens(tokenizer):
    assert len(tokenizer("12345", add_special_tokens=False)["input_ids"]) == 5


def test_a_tokenizer_without_eos_is_refused(folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="no EOS"):
        tokenize_rows(ROWS, tokenizer, ALPACA)


def test_the_scratch_model_is_a_function_of_texts_and_seed(scratch_model):
    model, tokenizer = build_scratch_model(TEXTS, TINY_SHAPE)
    expected_model, expected_tokenizer = scratch_model
    assert tokenizer.backend_tokenizer.to_str() == expected_tokenizer.backend_tokenizer.to_str()
    for name, weights in expected_model.state_dict().items():
        assert weights.equal(model.state_dict()[name]), name


def test_a_special_token_in_a_completion_means_its_characters(any_tokenizer):
    text = f"<p><s>struck</s> {any_tokenizer.eos_token}</p>"
    row = {"instruction": "Strike it out.", "input": "", "output": text}
    dataset, _ = tokenize_rows([row], any_tokenizer, ALPACA)
    loss_tokens = [label for label in dataset[0]["labels"] if label != IGNORE_INDEX]
    eos = any_tokenizer.eos_token_id
    assert loss_tokens.count(eos) == 1 and loss_tokens[-1] == eos
    assert any_tokenizer.decode(loss_tokens[:-1]).strip() == text
