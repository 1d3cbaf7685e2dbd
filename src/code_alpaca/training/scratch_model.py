"""A base model from nothing: a tokenizer trained on the texts, and a random LLaMA to go with it.

For machines without a Hub or a GPU: it shows that training works, and can learn a narrow
family of tasks. It knows nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

BOS, EOS, PAD = "<s>", "</s>", "<pad>"


def make_base(
    texts: Iterable[str],
    *,
    vocab_size: int,
    hidden_size: int,
    layers: int,
    heads: int,
    max_length: int,
    seed: int,
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """A random model and its tokenizer; the same texts and seed give the same pair.

    The tokenizer is a byte-level BPE (Sennrich et al. 2016, https://arxiv.org/abs/1508.07909)
    that splits digits singly, as LLaMA's does.
    """
    from transformers import LlamaConfig, LlamaForCausalLM, set_seed

    tokenizer = _train_tokenizer(texts, vocab_size, max_length)
    set_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=hidden_size * 3,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=max(2048, max_length),
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config), tokenizer


def _train_tokenizer(
    texts: Iterable[str], vocab_size: int, max_length: int
) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, bpe.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=max(2048, max_length),
        clean_up_tokenization_spaces=False,
    )
