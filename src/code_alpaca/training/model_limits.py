"""Refuse rows that exceed the model's vocabulary or its number of positions.

Otherwise training would fail with an index error deep inside torch, or train positions that the
model does not have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from code_alpaca.core.errors import InputError
from code_alpaca.training.arguments import TrainingSetup
from code_alpaca.training.tokenization import TokenizedRows

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


def check_positions(
    setup: TrainingSetup, config: PretrainedConfig, tokens: TokenizedRows | None
) -> None:
    """Refuse sequences that are longer than the model's positions."""
    positions, max_length = _count_positions(config), setup.training.max_length
    if positions is None:
        return
    advice = f"set max_length: {positions} or less"
    used = "max_length" in setup.explicit_keys or setup.training.packing
    if max_length and max_length > positions and used:
        raise InputError(
            f"max_length {max_length} is above the {positions} positions of {setup.model_name}; "
            f"{advice}"
        )
    longest = max((_longest_row(split) for split in _splits(tokens)), default=0)
    if longest > positions:
        raise InputError(
            f"the longest row has {longest} tokens, and {setup.model_name} has {positions} "
            f"positions; {advice}"
        )


def check_vocabulary(
    setup: TrainingSetup,
    config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    tokens: TokenizedRows | None,
) -> None:
    """Refuse a tokenizer with ids beyond the model's embedding.

    Special tokens for other inputs may be beyond it, as long as no row uses them: Gemma 3's
    tokenizer has one for images, also for its text-only models.
    """
    num_embeddings = getattr(config.get_text_config(), "vocab_size", None)
    if not num_embeddings:
        return
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    ids = [id for token, id in tokenizer.get_vocab().items() if token not in special]
    ids += [tokenizer.bos_token_id or 0, tokenizer.eos_token_id or 0, tokenizer.pad_token_id or 0]
    ids += [_highest_id(split) for split in _splits(tokens)]
    if max(ids) >= num_embeddings:
        raise InputError(
            f"the tokenizer of {setup.model_name} has ids up to {max(ids)}, and the model's "
            f"embedding has {num_embeddings} rows; use the tokenizer that belongs to the model, or "
            "resize the embedding first (resize_token_embeddings)"
        )


def _splits(tokens: TokenizedRows | None) -> list[Dataset]:
    splits = (tokens.train, tokens.validation) if tokens else ()
    return [split for split in splits if split is not None and len(split)]


def _longest_row(split: Dataset) -> int:
    import pyarrow.compute as pc

    return _as_int(pc.max(pc.list_value_length(split.data.table["input_ids"])))


def _highest_id(split: Dataset) -> int:
    import pyarrow.compute as pc

    return _as_int(pc.max(pc.list_flatten(split.data.table["input_ids"])))


def _as_int(scalar: Any) -> int:
    return int(scalar.as_py() or 0)


def _count_positions(config: PretrainedConfig) -> int | None:
    """Return the model's number of positions, or None if its architecture has no limit."""
    text_config = config.get_text_config()
    positions = getattr(text_config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        return None
    rope = getattr(text_config, "rope_parameters", None) or {}
    factor, original = rope.get("factor"), rope.get("original_max_position_embeddings")
    if factor and original:  # scaled, possibly without a change of max_position_embeddings
        positions = max(positions, int(factor * original))
    return positions
