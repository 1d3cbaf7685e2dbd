"""Tokenize rows into input ids and labels, with the exact tokens that inference will produce.

Prompt and completion are tokenized separately. Tokenized together, many tokenizers merge the
prompt's final ":" with the first characters of the answer, and the model would learn to continue
a token that it never receives at inference. Only the completion and its EOS contribute to the
loss.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from code_alpaca import __version__
from code_alpaca.core.errors import InputError
from code_alpaca.core.prompts import CHAT, PROMPT_STYLES, PromptStyle, format_prompt
from code_alpaca.training.conversation_tokens import encode_conversation, require_eos_token

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

IGNORE_INDEX = -100  # label of tokens without a loss
BATCH_SIZE = 1_000
CACHE_VERSION = 3  # raise it whenever the same rows produce other tokens or columns


@dataclass(frozen=True, slots=True)
class TokenizationOptions:
    """The prompt, truncation and loss mask of a row.

    Args:
        mask: `completion`: the answer and its EOS contribute to the loss. `alpaca_2023`: the rule
            of https://github.com/tatsu-lab/stanford_alpaca (train.py): prompt and answer are
            tokenized together, and as many tokens are masked as the prompt has by itself.
    """

    prompt_style: PromptStyle
    max_length: int | None
    mask: Literal["completion", "alpaca_2023"] = "completion"


@dataclass(frozen=True, slots=True)
class TokenStatistics:
    """Rows and tokens of a tokenized split."""

    rows: int
    dropped: int  # rows without a loss token
    truncated: int
    tokens: int
    loss_tokens: int
    longest: int  # tokens of the longest row


@dataclass(frozen=True, slots=True)
class TokenizedRows:
    """The tokenized splits."""

    train: Dataset
    validation: Dataset | None
    statistics: TokenStatistics  # of the training split


def tokenize_rows(
    rows: Dataset | Iterable[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    options: TokenizationOptions,
    *,
    revision: str | None = None,
    num_proc: int | None = None,
) -> tuple[Dataset, TokenStatistics]:
    """Return a dataset of `input_ids` and `labels`, lists of equal length per row.

    A row longer than `max_length` is truncated at its end and so loses its EOS. A row whose
    prompt alone fills `max_length` has no loss token and is dropped.

    Args:
        rows: with the Alpaca columns, or with `messages` for the prompt style `chat`.
        revision: identifies the content of `rows`; with it, the result is stored in the cache of
            `datasets` under a hash of everything that it depends on.
        num_proc: number of processes; None uses the tokenizer's threads.
    """
    from datasets import Dataset, Features, List, Value, config

    require_eos_token(tokenizer)
    if not isinstance(rows, Dataset):
        rows = Dataset.from_list(list(rows))
    cache_key = _cache_key(tokenizer, options, revision, len(rows)) if revision else None
    cache_dir = Path(config.HF_DATASETS_CACHE) / "code_alpaca"
    if cache_key:
        cache_dir.mkdir(parents=True, exist_ok=True)
    ids = List(Value("int32"))
    encoded = rows.map(
        _encode_batch,
        fn_kwargs={"tokenizer": tokenizer, "options": options},
        batched=True,
        batch_size=BATCH_SIZE,
        num_proc=num_proc,
        remove_columns=rows.column_names,
        features=Features({"input_ids": ids, "labels": ids, "truncated": Value("bool")}),
        cache_file_name=str(cache_dir / f"tokens-{cache_key}.arrow") if cache_key else None,
        keep_in_memory=cache_key is None,
        new_fingerprint=cache_key,
    )
    if not len(encoded):
        raise InputError(
            f"no row has a loss token within max_length {options.max_length}; raise max_length"
        )
    statistics = _count_tokens(encoded, num_dropped=len(rows) - len(encoded))
    return encoded.remove_columns("truncated"), statistics


def _encode_batch(
    batch: dict[str, list[str]], tokenizer: PreTrainedTokenizerBase, options: TokenizationOptions
) -> dict[str, list[Any]]:
    if options.prompt_style == CHAT:
        return _encode_conversations(batch, tokenizer, options.max_length)
    prompts = [
        format_prompt(instruction, input or "", style=options.prompt_style)
        for instruction, input in zip(batch["instruction"], batch["input"], strict=True)
    ]
    prompt_ids = tokenizer(prompts)["input_ids"]
    if options.mask == "alpaca_2023":
        texts = zip(prompts, batch["output"], strict=True)
        row_ids = tokenizer([p + c + tokenizer.eos_token for p, c in texts])["input_ids"]
    else:
        # A completion that contains a special token as text, such as the HTML tag `<s>`, means
        # these characters: encoded as the token, it would disappear when the answer is decoded.
        completion_ids = tokenizer(
            batch["output"], add_special_tokens=False, split_special_tokens=True
        )["input_ids"]
        pairs = zip(prompt_ids, completion_ids, strict=True)
        row_ids = [[*p, *c, tokenizer.eos_token_id] for p, c in pairs]
    labels = [
        [*[IGNORE_INDEX] * min(len(prompt), len(ids)), *ids[len(prompt) :]]
        for prompt, ids in zip(prompt_ids, row_ids, strict=True)
    ]
    return _truncate(row_ids, labels, options.max_length)


def _encode_conversations(
    batch: dict[str, list[Any]], tokenizer: PreTrainedTokenizerBase, max_length: int | None
) -> dict[str, list[Any]]:
    row_ids, labels = [], []
    for messages in batch["messages"]:
        ids, has_loss = encode_conversation(tokenizer, messages)
        row_ids.append(ids)
        pairs = zip(ids, has_loss, strict=True)
        labels.append([token if counts else IGNORE_INDEX for token, counts in pairs])
    return _truncate(row_ids, labels, max_length)


def _truncate(
    row_ids: list[list[int]], row_labels: list[list[int]], max_length: int | None
) -> dict[str, list[Any]]:
    """Truncate rows, and drop those without a loss token."""
    encoded: dict[str, list[Any]] = {"input_ids": [], "labels": [], "truncated": []}
    for ids, all_labels in zip(row_ids, row_labels, strict=True):
        labels = all_labels[:max_length]
        if any(label != IGNORE_INDEX for label in labels):
            encoded["input_ids"].append(ids[:max_length])
            encoded["labels"].append(labels)
            encoded["truncated"].append(len(labels) < len(ids))
    return encoded


def _count_tokens(encoded: Dataset, num_dropped: int) -> TokenStatistics:
    import pyarrow.compute as pc

    table = encoded.data.table
    labels = pc.list_flatten(table["labels"])
    return TokenStatistics(
        rows=len(encoded),
        dropped=num_dropped,
        truncated=pc.sum(table["truncated"]).as_py(),
        tokens=len(labels),
        loss_tokens=len(labels) - pc.sum(pc.equal(labels, IGNORE_INDEX)).as_py(),
        longest=pc.max(pc.list_value_length(table["labels"])).as_py(),
    )


def _cache_key(
    tokenizer: PreTrainedTokenizerBase, options: TokenizationOptions, revision: str, num_rows: int
) -> str:
    """Return a hash of everything that the tokens depend on."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = backend.to_str() if backend else repr(sorted(tokenizer.get_vocab().items()))
    prompts = repr(PROMPT_STYLES.get(options.prompt_style, tokenizer.chat_template))
    parts = [__version__, CACHE_VERSION, rules, tokenizer.eos_token_id, repr(options), prompts]
    return hashlib.sha256(json.dumps([*parts, revision, num_rows]).encode()).hexdigest()[:32]
