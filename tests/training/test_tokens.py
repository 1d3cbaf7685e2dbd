"""Training sees the very tokens that inference will see, and learns the completion alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from code_alpaca.core.errors import InputError
from code_alpaca.core.prompts import format_prompt
from code_alpaca.training.scratch_model import ScratchShape, build_scratch_model
from code_alpaca.training.tokenization import IGNORED, tokenize

ROWS = [
    {"instruction": "Add two numbers.", "input": "", "output": "def add(a, b):\n    return a + b"},
    {"instruction": "Fix it.", "input": "x = = 1\r\n", "output": ":::\nx = 1"},
    {"instruction": "Größe?", "input": "日本語", "output": "\U0001f999 = 12345"},
]
SHAPE = ScratchShape(vocab_size=400, hidden_size=32, num_layers=1, num_heads=2)


@pytest.fixture(scope="module")
def base():
    texts = [format_prompt(row["instruction"], row["input"]) + row["output"] for row in ROWS]
    return build_scratch_model(texts * 3, SHAPE)


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


def llama_style(texts):
    """As LLaMA 1 and 2: spaces are marks, a text begins with one, unknown signs become bytes."""
    from tokenizers import (
        AddedToken,
        Tokenizer,
        decoders,
        models,
        normalizers,
        processors,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    bpe.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    bpe.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=900, special_tokens=special))
    bpe.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in special[:3]])
    bpe.decoder = decoders.Sequence([
        decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ])  # fmt: skip
    bpe.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", bpe.token_to_id("<s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def byte_level(texts):
    """As GPT's: bytes, no sign for the beginning, and marks that merge with what follows."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>")


# Answers that a tokenizer may merge with the ":" before them, and others that are odd.
MERGING = [
    *ROWS,
    *(
        {"instruction": "Say it.", "input": text, "output": text}
        for text in (":", "::", ":)", "\n\nx", " x", "\tx", "", "-", "é", "\u2581", "a " * 40)
    ),
]


@pytest.fixture(scope="module", params=["ours", "llama", "bytes"])
def any_tokenizer(request, tokenizer):
    texts = [format_prompt(r["instruction"], r["input"]) + r["output"] for r in MERGING]
    texts += [text.replace("Response:", "Response::") for text in texts]  # so that ":" merges
    make = {"ours": lambda _: tokenizer, "llama": llama_style, "bytes": byte_level}
    return make[request.param](texts * 3)


def as_in_2023(row, tokenizer, max_length):
    """The published rule again, a row at a time: https://github.com/tatsu-lab/stanford_alpaca."""
    source = format_prompt(row["instruction"], row["input"])
    example = source + f"{row['output']}{tokenizer.eos_token}"
    input_ids = tokenizer(example, max_length=max_length, truncation=True)["input_ids"]
    source_len = len(tokenizer(source, max_length=max_length, truncation=True)["input_ids"])
    labels = list(input_ids)
    labels[:source_len] = [IGNORED] * min(source_len, len(labels))
    return input_ids, labels


@pytest.mark.parametrize("max_length", [512, 60])
def test_the_seed_mask_is_the_rule_of_2023(any_tokenizer, max_length):
    expected = [as_in_2023(row, any_tokenizer, max_length) for row in MERGING]
    expected = [row for row in expected if set(row[1]) != {IGNORED}]
    dataset, counts = tokenize(
        MERGING, any_tokenizer, prompt_style="alpaca", max_length=max_length, mask="seed"
    )
    assert [(made["input_ids"], made["labels"]) for made in dataset] == expected
    assert counts.dropped == len(MERGING) - len(expected)


@pytest.mark.parametrize("style", ["alpaca", "alpaca_nl"])
def test_ids_are_prompt_then_answer_then_eos(any_tokenizer, style):
    tokenizer = any_tokenizer
    dataset, counts = tokenize(MERGING, tokenizer, prompt_style=style, max_length=None)
    for row, made in zip(MERGING, dataset, strict=True):
        prompt = tokenizer(format_prompt(row["instruction"], row["input"], style=style))[
            "input_ids"
        ]
        answer = [
            *tokenizer(row["output"], add_special_tokens=False)["input_ids"],
            tokenizer.eos_token_id,
        ]
        assert made["input_ids"] == prompt + answer
        assert made["labels"] == [IGNORED] * len(prompt) + answer
    assert counts.rows == len(MERGING) and counts.cut == counts.dropped == 0
    assert counts.learned_tokens == sum(
        label != IGNORED for made in dataset for label in made["labels"]
    )


def test_the_two_masks_differ_where_a_token_spans_prompt_and_answer():
    tokenizer = byte_level(["### Response::)"] * 50)
    row = {"instruction": "Smile.", "input": "", "output": ":)"}
    made = {
        mask: tokenize([row], tokenizer, prompt_style="alpaca", max_length=None, mask=mask)[0][0]
        for mask in ("completion", "seed")
    }
    assert made["seed"]["input_ids"] != made["completion"]["input_ids"]
    learned = [label for label in made["completion"]["labels"] if label != IGNORED]
    assert tokenizer.decode(learned, skip_special_tokens=True) == ":)"


def test_tokens_are_found_again_by_content(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    how = {"prompt_style": "alpaca", "max_length": None}
    first, counts = tokenize(ROWS, tokenizer, revision="one", **how)
    (file,) = (tmp_path / "code_alpaca").iterdir()
    written = file.stat().st_mtime_ns
    again, same = tokenize(ROWS, tokenizer, revision="one", **how)
    assert file.stat().st_mtime_ns == written and same == counts
    assert again[:] == first[:]
    tokenize(ROWS, tokenizer, revision="one", mask="seed", **how)
    tokenize(ROWS, tokenizer, revision="two", **how)
    tokenize(ROWS, llama_style(["abc"]), revision="one", **how)
    assert len(list((tmp_path / "code_alpaca").iterdir())) == 4


def test_several_processes_give_the_same(tokenizer):
    how = {"prompt_style": "alpaca", "max_length": 100}
    one, counts = tokenize(ROWS * 20, tokenizer, **how)
    two, same = tokenize(ROWS * 20, tokenizer, processes=2, **how)
    assert one[:] == two[:] and counts == same


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
    model, tokenizer = build_scratch_model(texts * 3, SHAPE)
    assert tokenizer.backend_tokenizer.to_str() == base[1].backend_tokenizer.to_str()
    for name, weights in base[0].state_dict().items():
        assert weights.equal(model.state_dict()[name]), name


def test_an_answer_that_spells_a_special_token_means_its_characters(any_tokenizer):
    tokenizer = any_tokenizer
    text = f"<p><s>struck</s> {tokenizer.eos_token}</p>"
    row = {"instruction": "Strike it out.", "input": "", "output": text}
    dataset, _ = tokenize([row], tokenizer, prompt_style="alpaca", max_length=None)
    learned = [label for label in dataset[0]["labels"] if label != IGNORED]
    assert learned.count(tokenizer.eos_token_id) == 1 and learned[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(learned[:-1]).strip() == text
