"""The converted tokenizer produces the ids of SentencePiece for every text."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.meta_llama import CORPUS, VOCAB

from code_alpaca.conversion.llama_tokenizer import (
    PROBES,
    build_tokenizer,
    check_tokenizer,
    load_sentencepiece,
)
from code_alpaca.core.errors import InputError


class TokenizerPair(NamedTuple):
    converted: object
    sentencepiece: object


@pytest.fixture(scope="session")
def pair(tmp_path_factory, tokenizer_model):
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "tokenizer.model").write_bytes(tokenizer_model)
    model = load_sentencepiece(folder / "tokenizer.model")
    build_tokenizer(model, 2048).save_pretrained(folder)
    return TokenizerPair(AutoTokenizer.from_pretrained(folder), model)


@given(
    st.one_of(
        st.text(),
        st.text(" \t\nae(1.▁é日"),
        st.lists(st.sampled_from([*CORPUS[:300], " ", "\n", "\n    ", "日本"])).map("".join),
    )
)
@settings(max_examples=300, deadline=None)
def test_every_text_has_the_ids_of_sentencepiece(pair, text):
    check_tokenizer(pair.converted, pair.sentencepiece, [text])


def test_lines_of_code_have_the_ids_of_sentencepiece(pair):
    converted = pair.converted
    check_tokenizer(converted, pair.sentencepiece, [*CORPUS, *PROBES])
    assert len(converted.tokenize("\n".join(CORPUS))) < 0.6 * len("\n".join(CORPUS))
    a, b = converted("a").input_ids, converted("b").input_ids
    assert converted("a", "b").input_ids == [*a, *b]


class ReorderedModel:
    """A SentencePiece model with its pieces in another order, so that scores rank merges, not ids.

    LLaMA's file has such an order: two spaces have the first id after the bytes and the last score.
    """

    def __init__(self, model):
        self.model = model
        self.new_ids = [*range(259), *reversed(range(259, VOCAB))]

    def __getattr__(self, name):
        return getattr(self.model, name)

    def id_to_piece(self, i):
        return self.model.id_to_piece(self.new_ids[i])

    def get_score(self, i):
        return self.model.get_score(self.new_ids[i])

    def encode(self, text):
        return [self.new_ids[i] for i in self.model.encode(text)]

    def decode(self, ids):
        return self.model.decode([self.new_ids[i] for i in ids])


def test_merges_are_ranked_by_score_and_not_by_id(pair):
    reordered = ReorderedModel(pair.sentencepiece)
    check_tokenizer(build_tokenizer(reordered, 2048), reordered, CORPUS)


def test_other_special_ids_are_refused(pair):
    other = build_tokenizer(pair.sentencepiece, 2048)
    other.eos_token = other.bos_token
    with pytest.raises(InputError, match="BOS and EOS ids 1 and 1, SentencePiece 1 and 2"):
        check_tokenizer(other, pair.sentencepiece)
