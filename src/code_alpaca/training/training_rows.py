"""Read the rows to train on, from one dataset or a mixture, and the held-out rows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from code_alpaca.core import console
from code_alpaca.core.config import NonEmptyStr, StageConfig
from code_alpaca.core.errors import InputError, error_message
from code_alpaca.core.prompts import CHAT
from code_alpaca.core.row_formats import MESSAGES, ColumnMap
from code_alpaca.dataset.load import ALPACA, load_source, read_origin
from code_alpaca.dataset.shards import assign_split
from code_alpaca.dataset.source import DEFAULT_CONFIG, DEFAULT_SPLIT, DatasetSource
from code_alpaca.training.arguments import SFTArguments

if TYPE_CHECKING:
    from datasets import Dataset

# Larger rows are no useful examples and take minutes to tokenize: 1 MB is about 250,000 tokens.
MAX_ROW_BYTES = 1_000_000
BATCH_SIZE = 10_000
MAX_ROWS_IN_MESSAGE = 5


class MixtureSource(StageConfig):
    """One dataset of `dataset_mixture`."""

    name: NonEmptyStr
    config: NonEmptyStr = DEFAULT_CONFIG
    revision: str | None = None
    split: NonEmptyStr = DEFAULT_SPLIT
    column_map: ColumnMap = None
    first_turn: bool = False
    weight: float = Field(1.0, gt=0)

    def dataset(self, split: str) -> DatasetSource:
        """Return one split of the dataset."""
        return DatasetSource(
            self.name, self.config, self.revision, split, self.column_map, self.first_turn
        )


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Training and held-out rows: the Alpaca columns, and `messages` for the style `chat`."""

    train: Dataset
    validation: Dataset | None
    sources: list[dict[str, Any]]  # the keys of each MixtureSource, its revision and origin
    cache_key: str  # identifies the rows of both splits
    warnings: tuple[str, ...] = ()  # one line for each dataset with rows that are too large

    @property
    def revision(self) -> str:
        """Identify the content of all datasets."""
        if len(self.sources) == 1 and self.sources[0]["weight"] == 1:
            return str(self.sources[0]["revision"])
        return "; ".join(f"{source['weight']:g} x {source['revision']}" for source in self.sources)

    @property
    def dataset(self) -> dict[str, str]:
        """Name, config and revision of all datasets, joined."""
        name, config = (
            " + ".join(source[key] for source in self.sources) for key in ("name", "config")
        )
        return {"name": name, "config": config, "revision": self.revision}


def read_training_rows(
    arguments: SFTArguments, seed: int, log: console.Log = print
) -> TrainingRows:
    """Read the configured datasets; `log` receives a line for renamed columns and empty answers.

    `validation_fraction` assigns each row to its split by its id only. In a mixture, the integer
    part of a weight repeats all rows, and its fraction adds a random sample of them.
    """
    from datasets import concatenate_datasets

    train, validation, sources, warnings = [], [], [], []
    for source in _parse_sources(arguments):
        rows, held_out, revision = _read_source(source, arguments, warnings, log)
        train.append(_apply_weight(rows, source.weight, seed))
        if held_out is not None:
            validation.append(held_out)
        origin = read_origin(source.name, revision)
        values = source.model_dump(exclude_none=True)
        sources.append({**values, "revision": revision, "origin": origin})
    all_train = concatenate_datasets(train)
    all_validation = concatenate_datasets(validation) if validation else None
    if not len(all_train):
        reason = "; ".join(warnings) or "lower validation_fraction"
        raise InputError(f"no row remains to train on; {reason}")
    if all_validation is not None and not len(all_validation):
        raise InputError("no row is held out; raise validation_fraction, or remove it")
    key = _cache_key(sources, arguments, seed)
    return TrainingRows(all_train, all_validation, sources, key, tuple(warnings))


def _cache_key(sources: list[dict[str, Any]], arguments: SFTArguments, seed: int) -> str:
    """Return what decides which rows are read, and how; `seed` draws a part of a dataset."""
    unread = ("name", "origin")  # the revision identifies the content
    read = [{key: source[key] for key in source if key not in unread} for source in sources]
    is_sampled = any(source["weight"] % 1 for source in sources)
    held_out = [arguments.validation_fraction, arguments.validation_split]
    return json.dumps([read, held_out, seed if is_sampled else None], sort_keys=True)


def _read_source(
    source: MixtureSource, arguments: SFTArguments, warnings: list[str], log: console.Log
) -> tuple[Dataset, Dataset | None, str]:
    chat = arguments.prompt_style == CHAT

    def read(split: str, name: str) -> tuple[Dataset, str]:
        loaded = load_source(source.dataset(split), log=log, conversations=chat)
        return _drop_large_rows(loaded.rows, name, warnings), loaded.revision

    rows, revision = read(source.split, source.name)
    columns, held_out = [*ALPACA, *([MESSAGES] if chat else [])], None
    if fraction := arguments.validation_fraction:
        splits = [assign_split(f"training {_row_id(row)}", fraction) for row in rows]
        rows, held_out = (
            rows.select([i for i, name in enumerate(splits) if name == split])
            for split in ("train", "validation")
        )
    elif arguments.validation_split:
        held_out, _ = read(arguments.validation_split, f"{source.name}, validation")
    if held_out is not None:
        held_out = held_out.select_columns(columns)
    return rows.select_columns(columns), held_out, revision


def _parse_sources(arguments: SFTArguments) -> list[MixtureSource]:
    keys, items = "dataset_mixture", arguments.dataset_mixture
    if not items:
        keys = "dataset_name, dataset_config, dataset_split, dataset_revision or column_map"
        items = [
            {
                "name": arguments.dataset_name or "",
                "config": arguments.dataset_config,
                "revision": arguments.dataset_revision,
                "split": arguments.dataset_split,
                "column_map": arguments.column_map,
                "first_turn": arguments.first_turn,
            }
        ]
    try:
        return [MixtureSource(**item) for item in items]
    except (ValidationError, TypeError) as error:
        raise InputError(
            f"bad {keys} ({error_message(error)}); a dataset has a name, and optionally config, "
            "split, revision, column_map, first_turn and weight"
        ) from None


def _drop_large_rows(rows: Dataset, name: str, warnings: list[str]) -> Dataset:
    """Drop rows above MAX_ROW_BYTES, and append a line about them to `warnings`."""
    import numpy as np

    columns = [name for name in (*ALPACA, MESSAGES) if name in rows.column_names]
    text = rows.select_columns(columns).with_format("arrow")
    sizes = np.concatenate([_count_row_bytes(table) for table in text.iter(BATCH_SIZE)])
    large = np.flatnonzero(sizes > MAX_ROW_BYTES)
    if not len(large):
        return rows
    shown = large[:MAX_ROWS_IN_MESSAGE]
    listed = ", ".join(f"row {index + 1} ({sizes[index]:,} bytes)" for index in shown)
    more = f" and {len(large) - len(shown)} more" if len(large) > len(shown) else ""
    warnings.append(
        f"{name}: {listed}{more} left out, since a row may have at most {MAX_ROW_BYTES:,} bytes; "
        "shorten or remove such rows"
    )
    return rows.select(np.flatnonzero(sizes <= MAX_ROW_BYTES))


def _count_row_bytes(table: Any) -> Any:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    sizes = np.zeros(table.num_rows, dtype=np.int64)
    for column in table.columns:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            sizes += pc.fill_null(pc.binary_length(column), 0).to_numpy()
        else:  # messages
            contents = pc.struct_field(pc.list_flatten(column), "content")
            lengths = pc.fill_null(pc.binary_length(contents), 0).to_numpy()
            np.add.at(sizes, pc.list_parent_indices(column).to_numpy(), lengths)
    return sizes


def _row_id(row: dict[str, Any]) -> str:
    """Return the id of a row, or else a hash of its task."""
    if row.get("id"):
        return str(row["id"])
    task = f"{row['instruction']}\0{row['input'] or ''}"
    return hashlib.sha256(task.encode()).hexdigest()


def _apply_weight(rows: Dataset, weight: float, seed: int) -> Dataset:
    from datasets import concatenate_datasets

    if weight == 1:
        return rows
    copies, fraction = divmod(weight, 1)
    sample = rows.shuffle(seed=seed).select(range(round(len(rows) * fraction)))
    repeated = rows.select([*range(len(rows))] * int(copies))
    return concatenate_datasets([repeated, sample])
