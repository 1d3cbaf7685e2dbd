"""Tokens and labels, built so that training sees the very tokens that inference will see.

Prompt and completion are tokenized apart: tokenized together, the prompt's final ":" merges
with the first characters of the answer in many tokenizers, and the model would learn to
continue a token that it never meets again. The loss is on the completion and its EOS alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from code_alpaca.errors import InputError
from code_alpaca.formatting import PromptStyle, format_prompt

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # the label that the loss leaves out


@dataclass(frozen=True, slots=True)
class Counts:
    """What tokenizing did: rows kept, without a label left, cut; tokens, and those learned."""

    rows: int
    dropped: int
    cut: int
    tokens: int
    learned_tokens: int


def tokenize(
    rows: Iterable[dict[str, str]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    prompt_style: PromptStyle,
    max_length: int | None,
) -> tuple[Dataset, Counts]:
    """A dataset of `input_ids` and `labels`, lists of the same length for each row.

    A row longer than `max_length` is cut at its end and so loses its EOS; one whose prompt
    alone fills it has nothing to learn and is dropped. Both are counted.

    Raises:
        InputError: the tokenizer has no EOS, or no row has a label left.
    """
    from datasets import Dataset

    if tokenizer.eos_token_id is None:
        raise InputError("the tokenizer has no EOS token; a model trained so would never stop")
    kept: list[dict[str, Any]] = []
    dropped = cut = 0
    for row in rows:
        prompt, answer = encode(row, tokenizer, prompt_style)
        ids = [*prompt, *answer][:max_length]
        if len(ids) <= len(prompt):
            dropped += 1
            continue
        cut += len(ids) < len(prompt) + len(answer)
        labels = [IGNORED] * len(prompt) + ids[len(prompt) :]
        kept.append({"input_ids": ids, "labels": labels})
    if not kept:
        raise InputError(f"no row has anything to learn within max_length {max_length}; raise it")
    counts = Counts(
        rows=len(kept),
        dropped=dropped,
        cut=cut,
        tokens=sum(len(row["input_ids"]) for row in kept),
        learned_tokens=sum(label != IGNORED for row in kept for label in row["labels"]),
    )
    return Dataset.from_list(kept), counts


def encode(
    row: dict[str, str], tokenizer: PreTrainedTokenizerBase, prompt_style: PromptStyle
) -> tuple[list[int], list[int]]:
    """The ids of the prompt, as inference makes them, and of the answer with its EOS."""
    prompt = format_prompt(row["instruction"], row["input"], style=prompt_style)
    answer = tokenizer(row["output"], add_special_tokens=False)["input_ids"]
    return tokenizer(prompt)["input_ids"], [*answer, tokenizer.eos_token_id]
