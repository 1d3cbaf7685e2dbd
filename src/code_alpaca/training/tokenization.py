"""Tokens and labels, built so that training sees the very tokens that inference will see.

Prompt and completion are tokenized apart: tokenized together, the prompt's final ":" merges
with the first characters of the answer in many tokenizers, and the model would learn to
continue a token that it never meets again. The loss is on the completion and its EOS alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from code_alpaca import __version__
from code_alpaca.core.errors import InputError
from code_alpaca.core.prompts import PromptStyle, format_prompt

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # the label that the loss leaves out
ROWS_AT_ONCE = 1_000
RULES = 2  # raised when the same rows become other tokens, so that no cache is taken for new
Mask = Literal["completion", "seed"]
Encoded = tuple[list[int], list[int], bool]  # ids, labels, whether it was cut


@dataclass(frozen=True, slots=True)
class Counts:
    """What tokenizing did: rows kept, without a label left, cut; tokens, and those learned."""

    rows: int
    dropped: int
    cut: int
    tokens: int
    learned_tokens: int
    longest: int  # tokens of a row


@dataclass(frozen=True, slots=True)
class Tokens:
    """Rows as tokens and labels, to learn from and to measure on."""

    train: Dataset
    validation: Dataset | None
    counts: Counts  # of the rows to learn from


def tokenize(
    rows: Dataset | Iterable[dict[str, str]],
    tokenizer: PreTrainedTokenizerBase,
    *,
    prompt_style: PromptStyle,
    max_length: int | None,
    mask: Mask = "completion",
    revision: str | None = None,
    processes: int | None = None,
) -> tuple[Dataset, Counts]:
    """A dataset of `input_ids` and `labels`, lists of the same length for each row.

    A row longer than `max_length` is cut at its end and so loses its EOS; one whose prompt
    alone fills it has nothing to learn and is dropped. Both are counted.

    Args:
        mask: `completion` learns the answer and its EOS. `seed` is the rule of 2023
            (https://github.com/tatsu-lab/stanford_alpaca, train.py): prompt and answer are
            tokenized together, and as many tokens left out as the prompt has alone.
        revision: names the content of `rows`; given, the result is kept in the cache of
            `datasets` and found there again.
        processes: how many to tokenize in; None leaves the threads of the tokenizer itself.

    Raises:
        InputError: the tokenizer has no EOS, or no row has a label left.
    """
    import pyarrow.compute as pc
    from datasets import Dataset, Features, List, Value, config

    if tokenizer.eos_token_id is None:
        raise InputError("the tokenizer has no EOS token; a model trained so would never stop")
    if not isinstance(rows, Dataset):
        rows = Dataset.from_list(list(rows))
    how = {"prompt_style": prompt_style, "max_length": max_length, "mask": mask}
    cached, key = None, None
    if revision is not None:
        key = _key(tokenizer, {**how, "revision": revision, "rows": len(rows)})
        cached = Path(config.HF_DATASETS_CACHE) / "code_alpaca" / f"tokens-{key}.arrow"
        cached.parent.mkdir(parents=True, exist_ok=True)
    numbers = List(Value("int32"))
    made = rows.map(
        _encode_batch,
        fn_kwargs={"tokenizer": tokenizer, **how},
        batched=True,
        batch_size=ROWS_AT_ONCE,
        num_proc=processes,
        remove_columns=rows.column_names,
        features=Features({"input_ids": numbers, "labels": numbers, "cut": Value("bool")}),
        cache_file_name=str(cached) if cached else None,
        keep_in_memory=cached is None,
        new_fingerprint=key,
    )
    if not len(made):
        raise InputError(f"no row has anything to learn within max_length {max_length}; raise it")
    table = made.data.table
    labels = pc.list_flatten(table["labels"])
    counts = Counts(
        rows=len(made),
        dropped=len(rows) - len(made),
        cut=pc.sum(table["cut"]).as_py(),
        tokens=len(labels),
        learned_tokens=len(labels) - pc.sum(pc.equal(labels, IGNORED)).as_py(),
        longest=pc.max(pc.list_value_length(table["labels"])).as_py(),
    )
    return made.remove_columns("cut"), counts


def _encode_batch(
    batch: dict[str, list[str]],
    tokenizer: PreTrainedTokenizerBase,
    prompt_style: PromptStyle,
    max_length: int | None,
    mask: Mask,
) -> dict[str, list[Any]]:
    prompts = [
        format_prompt(instruction, input or "", style=prompt_style)
        for instruction, input in zip(batch["instruction"], batch["input"], strict=True)
    ]
    rule = _together if mask == "seed" else _apart
    encoded = rule(prompts, batch["output"], tokenizer, max_length)
    # The rest has nothing to learn.
    kept = [row for row in encoded if any(label != IGNORED for label in row[1])]
    return {
        "input_ids": [ids for ids, _, _ in kept],
        "labels": [labels for _, labels, _ in kept],
        "cut": [cut for _, _, cut in kept],
    }


def _apart(
    prompts: Sequence[str],
    answers: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None,
) -> list[Encoded]:
    """The ids of the prompt, as inference makes them, then those of the answer and its EOS.

    An answer that spells a special token, such as the HTML tag `<s>`, means these characters:
    learned as the token, it would be left out of every decoded answer.
    """
    starts = tokenizer(list(prompts))["input_ids"]
    ends = tokenizer(list(answers), add_special_tokens=False, split_special_tokens=True)
    ends = ends["input_ids"]
    encoded = []
    for start, end in zip(starts, ends, strict=True):
        whole = [*start, *end, tokenizer.eos_token_id]
        ids = whole[:max_length]
        labels = ([IGNORED] * len(start) + whole[len(start) :])[:max_length]
        encoded.append((ids, labels, len(ids) < len(whole)))
    return encoded


def _together(
    prompts: Sequence[str],
    answers: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None,
) -> list[Encoded]:
    """As in 2023: one text with the EOS written behind it, learned beyond the prompt's length."""
    texts = [p + a + tokenizer.eos_token for p, a in zip(prompts, answers, strict=True)]
    starts = tokenizer(list(prompts))["input_ids"]
    encoded = []
    for start, whole in zip(starts, tokenizer(texts)["input_ids"], strict=True):
        ids = whole[:max_length]
        known = min(len(start), len(ids))
        encoded.append((ids, [IGNORED] * known + ids[known:], len(ids) < len(whole)))
    return encoded


def _key(tokenizer: PreTrainedTokenizerBase, how: dict[str, Any]) -> str:
    """A hash of all that the tokens depend on."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = backend.to_str() if backend else repr(sorted(tokenizer.get_vocab().items()))
    told = json.dumps([__version__, RULES, rules, tokenizer.eos_token_id, how], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:32]
