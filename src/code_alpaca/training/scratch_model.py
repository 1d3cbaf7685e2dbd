"""Build a base model from scratch: a tokenizer trained on the texts, and a random LLaMA.

For machines without a Hub or a GPU. The model shows that training works and can fit a narrow
family of tasks; it has no other knowledge.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

BOS, EOS, PAD = "<s>", "</s>", "<pad>"
MIN_VOCAB_SIZE = 256 + 3  # bytes, BOS, EOS and padding
MIN_POSITIONS = 2048


@dataclass(frozen=True, slots=True)
class ScratchShape:
    """The size of a model with random weights."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    max_length: int = MIN_POSITIONS  # positions; never less than the default


def build_scratch_model(
    texts: Iterable[str], shape: ScratchShape, seed: int = 0
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """Build a random model and its tokenizer; equal texts and seeds produce equal pairs.

    The tokenizer is a byte-level BPE (Sennrich et al. 2016, https://arxiv.org/abs/1508.07909)
    with one token per digit, as LLaMA's.
    """
    from transformers import LlamaConfig, LlamaForCausalLM, set_seed

    positions = max(MIN_POSITIONS, shape.max_length)
    tokenizer = _train_tokenizer(texts, shape.vocab_size, positions)
    set_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        intermediate_size=shape.hidden_size * 3,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        max_position_embeddings=positions,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config), tokenizer


def _train_tokenizer(
    texts: Iterable[str], vocab_size: int, positions: int
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
        model_max_length=positions,
        clean_up_tokenization_spaces=False,
    )
