"""Refuse rows that the model has no place for: token ids without an embedding, or too many tokens.

Without this check such a training ends in an index error deep inside torch, or trains positions
that the model never had.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from code_alpaca.core.errors import InputError
from code_alpaca.training.arguments import Job
from code_alpaca.training.tokenization import Tokens

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


def check_positions(job: Job, config: PretrainedConfig, tokens: Tokens | None) -> None:
    """Refuse sequences longer than the model's positions.

    Raises:
        InputError: with the key that makes them fit.
    """
    positions, max_length = _positions(config), job.training.max_length
    if positions is None:
        return
    advice = f"set max_length: {positions} or less"
    if max_length and max_length > positions and (job.max_length_given or job.training.packing):
        raise InputError(
            f"max_length {max_length} is above the {positions} positions of "
            f"{job.model.model_name_or_path}; {advice}"
        )
    longest = max(_longest(tokens.train), _longest(tokens.validation)) if tokens else 0
    if longest > positions:
        raise InputError(
            f"the longest row has {longest} tokens, and {job.model.model_name_or_path} has "
            f"{positions} positions; {advice}"
        )


def check_vocabulary(
    job: Job, config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, tokens: Tokens | None
) -> None:
    """Refuse a tokenizer whose ids go beyond the model's embedding.

    A special token of other uses (Gemma 3's tokenizer has one for images, also where the model
    reads text alone) may lie beyond it, as long as no row uses it.

    Raises:
        InputError: naming the tokenizer's size and the model's.
    """
    rows = getattr(config.get_text_config(), "vocab_size", None)
    if not rows:
        return
    special = {token: id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    known = {str(token) for token in special}
    ids = [id for token, id in tokenizer.get_vocab().items() if token not in known]
    ids += [tokenizer.bos_token_id or 0, tokenizer.eos_token_id or 0, tokenizer.pad_token_id or 0]
    for dataset in (tokens.train, tokens.validation) if tokens else ():
        ids.append(_highest(dataset))
    if max(ids, default=0) >= rows:
        raise InputError(
            f"the tokenizer of {job.model.model_name_or_path} has ids up to {max(ids)}, and the "
            f"model's embedding has {rows} rows; use the tokenizer that belongs to the model, or "
            "resize the embedding first (resize_token_embeddings)"
        )


def _longest(dataset: Dataset | None) -> int:
    """Tokens of the longest row, after truncation."""
    import pyarrow.compute as pc

    if dataset is None or not len(dataset):
        return 0
    return int(pc.max(pc.list_value_length(dataset.data.table["input_ids"])).as_py() or 0)


def _highest(dataset: Dataset | None) -> int:
    """The highest token id of a dataset."""
    import pyarrow.compute as pc

    if dataset is None or not len(dataset):
        return 0
    return int(pc.max(pc.list_flatten(dataset.data.table["input_ids"])).as_py() or 0)


def _positions(config: PretrainedConfig) -> int | None:
    """How many tokens the model tells apart; None where its architecture has no such number."""
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        return None
    rope = getattr(text, "rope_parameters", None) or {}
    factor, original = rope.get("factor"), rope.get("original_max_position_embeddings")
    if factor and original:  # scaled in the config, with the number above left as it was
        positions = max(positions, int(factor * original))
    return positions
