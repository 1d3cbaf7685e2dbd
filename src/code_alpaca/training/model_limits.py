"""Refuse rows that exceed the model's vocabulary or its number of positions.

Otherwise training would fail with an index error deep inside torch, or train positions that the
model does not have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from code_alpaca.core.errors import InputError
from code_alpaca.training.arguments import TrainingSetup
from code_alpaca.training.tokenization import TokenizedRows

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


def check_model_limits(
    setup: TrainingSetup,
    config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase | None,
    tokens: TokenizedRows | None,
) -> None:
    """Check the length and the token ids of the rows; a dry run may lack tokenizer and tokens.

    Raises:
        InputError: a sequence is longer than the model's positions, or an id has no embedding.
    """
    splits = [split for split in (tokens.train, tokens.validation) if split] if tokens else []
    _check_positions(setup, config, splits)
    if tokenizer is not None:
        _check_vocabulary(setup, config, tokenizer, splits)


def _check_positions(setup: TrainingSetup, config: PretrainedConfig, splits: list[Dataset]) -> None:
    import pyarrow.compute as pc

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
    lengths = (pc.list_value_length(split.data.table["input_ids"]) for split in splits)
    longest = max((pc.max(column).as_py() for column in lengths), default=0)
    if longest > positions:
        raise InputError(
            f"the longest row has {longest} tokens, and {setup.model_name} has {positions} "
            f"positions; {advice}"
        )


def _check_vocabulary(
    setup: TrainingSetup,
    config: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    splits: list[Dataset],
) -> None:
    """Refuse a tokenizer with ids beyond the model's embedding.

    Special tokens for other inputs may be beyond it, as long as no row uses them: Gemma 3's
    tokenizer has one for images, also for its text-only models.
    """
    import pyarrow.compute as pc

    num_embeddings = getattr(config.get_text_config(), "vocab_size", None)
    if not num_embeddings:
        return
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    ids = [id for token, id in tokenizer.get_vocab().items() if token not in special]
    ids += [tokenizer.bos_token_id or 0, tokenizer.eos_token_id or 0, tokenizer.pad_token_id or 0]
    ids += [pc.max(pc.list_flatten(split.data.table["input_ids"])).as_py() for split in splits]
    if max(ids) >= num_embeddings:
        raise InputError(
            f"the tokenizer of {setup.model_name} has ids up to {max(ids)}, and the model's "
            f"embedding has {num_embeddings} rows; use the tokenizer that belongs to the model, or "
            "resize the embedding first (resize_token_embeddings)"
        )


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
