"""Small tokenizers of the kinds that common models have, trained on the texts of a test.

They differ in what happens to a text that is decoded in two parts: SentencePiece marks words by
their leading space and drops that of the first word; byte-level BPE preserves every byte.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

BOS, EOS, UNK = "<s>", "</s>", "<unk>"
END_OF_TEXT = "<|endoftext|>"
KINDS = ("llama-1", "llama-2", "mistral", "gpt-2", "qwen", "smollm")
QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def make(kind: str, texts: Iterable[str], vocab_size: int = 500) -> PreTrainedTokenizerFast:
    """Train a tokenizer of one of KINDS on `texts`."""
    if kind in ("llama-1", "llama-2", "mistral"):
        return _sentencepiece(kind, list(texts), vocab_size)
    return _byte_level(kind, texts, vocab_size)


def _sentencepiece(kind: str, texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train BPE over words with a leading mark, with bytes for characters without a piece."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNK, fuse_unk=True, byte_fallback=True))
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # no piece contains a newline
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Metaspace(prepend_scheme="never")]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size + 256,
        special_tokens=[UNK, BOS, EOS, *byte_tokens],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = tokenizer.model
    tokenizer = Tokenizer(model)
    if kind == "llama-1":  # a mark before every text, as in converted LLaMA tokenizers
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    else:
        scheme = "first" if kind == "llama-2" else "always"
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in (UNK, BOS, EOS)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A {BOS} $B",
        special_tokens=[(BOS, tokenizer.token_to_id(BOS))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, unk_token=UNK
    )


def _byte_level(kind: str, texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    words = {
        "gpt-2": [pre_tokenizers.ByteLevel(add_prefix_space=False)],
        "qwen": [
            pre_tokenizers.Split(Regex(QWEN_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ],
        "smollm": [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ],
    }
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(words[kind])
    if kind == "qwen":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT
    )
