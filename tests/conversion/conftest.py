"""Checkpoints in Meta's format, with a tokenizer trained once."""

from __future__ import annotations

import pytest
from support.meta_llama import LLAMA_TOKENIZER, train_sentencepiece, write_checkpoint


@pytest.fixture(scope="session")
def tokenizer_model():
    """The bytes of a SentencePiece BPE with the settings of LLaMA's."""
    return train_sentencepiece(**LLAMA_TOKENIZER)


@pytest.fixture
def checkpoint(tmp_path, tokenizer_model):
    """Return a function that writes a checkpoint and returns its folder and weights."""

    def write(params, num_shards=1, generation=2, **options):
        folder = tmp_path / "meta" / "model"
        weights = write_checkpoint(folder, params, num_shards, generation, **options)
        (folder.parent / "tokenizer.model").write_bytes(tokenizer_model)
        return folder, weights

    return write
