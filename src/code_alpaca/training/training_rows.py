"""The rows to learn from, of one dataset or of several, and those held out to measure on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from code_alpaca.core.config import StageConfig, Words
from code_alpaca.core.errors import InputError
from code_alpaca.core.row_formats import ColumnMap
from code_alpaca.dataset.load import ALPACA, load_rows, read_origin
from code_alpaca.dataset.shards import assign_split
from code_alpaca.training.arguments import SFTArguments

if TYPE_CHECKING:
    from datasets import Dataset


# A row of more bytes is no example to learn from, and takes minutes to tokenize: 1 MB is some
# 250,000 tokens, more than a training step has room for.
LARGEST_ROW = 1_000_000
ROWS_AT_ONCE = 10_000
NAMED_ROWS = 5  # in the line about those that are left out


class Source(StageConfig):
    """One dataset of `dataset_mixture`."""

    name: Words
    config: Words = "default"
    revision: str | None = None
    column_map: ColumnMap = None
    weight: float = Field(1.0, gt=0)


@dataclass(frozen=True, slots=True)
class Rows:
    """What to learn from and what to measure on, with the Alpaca columns alone."""

    train: Dataset
    validation: Dataset | None
    sources: list[dict[str, Any]]  # name, config, revision, weight and origin of each
    revision: str  # names the content of all of them
    left_out: tuple[str, ...] = ()  # a line for each dataset with rows that are too large

    @property
    def named(self) -> dict[str, str]:
        """The dataset, or all of them, in one name."""
        return {
            "name": " + ".join(source["name"] for source in self.sources),
            "config": " + ".join(source["config"] for source in self.sources),
            "revision": self.revision,
        }


def read(arguments: SFTArguments, seed: int, say: Callable[[str], None] = print) -> Rows:
    """The rows that the arguments name.

    A row stays on its side of `validation_fraction` whatever else is in the dataset. Of a dataset
    with a weight, every row comes in as often as the weight is whole, and a random part of the
    rows, by `seed`, once more for what is left of it. `say` gets a line for rows left out and for
    columns read under other names.

    Raises:
        InputError: a dataset cannot be read, or nothing is left to learn from.
    """
    from datasets import concatenate_datasets

    train, validation, sources, left_out = [], [], [], []
    for source in _sources(arguments):
        rows, revision = load_rows(
            source.name, source.config, source.revision, column_map=source.column_map, log=say
        )
        rows = _bounded(rows, source.name, left_out)
        fraction = arguments.validation_fraction
        sides = (
            [assign_split(f"training {_name(row)}", fraction) for row in rows] if fraction else []
        )
        rows = rows.select_columns(list(ALPACA))
        if fraction:
            validation.append(rows.select([i for i, s in enumerate(sides) if s == "validation"]))
            rows = rows.select([i for i, s in enumerate(sides) if s == "train"])
        elif arguments.validation_split:
            measured, _ = load_rows(
                source.name, source.config, source.revision, split=arguments.validation_split,
                column_map=source.column_map, log=say,
            )  # fmt: skip
            measured = _bounded(measured, f"{source.name}, validation", left_out)
            validation.append(measured.select_columns(list(ALPACA)))
        train.append(_weighted(rows, source.weight, seed))
        origin = read_origin(source.name, revision)
        named = source.model_dump(exclude_none=True)
        sources.append({**named, "revision": revision, "origin": origin})
    whole = concatenate_datasets(train)
    measured = concatenate_datasets(validation) if validation else None
    if not len(whole):
        reason = "; ".join(left_out) or "make validation_fraction smaller"
        raise InputError(f"no row is left to train on; {reason}")
    if measured is not None and not len(measured):
        raise InputError("no row is held out; make validation_fraction greater, or leave it out")
    return Rows(whole, measured, sources, _revision(sources), tuple(left_out))


def _bounded(rows: Dataset, name: str, left_out: list[str]) -> Dataset:
    """The rows that are not too large; a line about the others goes to `left_out`."""
    import numpy as np

    text = rows.select_columns(list(ALPACA)).with_format("arrow")
    sizes = np.concatenate([_row_bytes(table) for table in text.iter(ROWS_AT_ONCE)])
    too_large = np.flatnonzero(sizes > LARGEST_ROW)
    if not len(too_large):
        return rows
    numbers = ", ".join(f"row {at + 1} ({sizes[at]:,} bytes)" for at in too_large[:NAMED_ROWS])
    more = f" and {len(too_large) - NAMED_ROWS} more" if len(too_large) > NAMED_ROWS else ""
    left_out.append(
        f"{name}: {numbers}{more} left out, for a row may have {LARGEST_ROW:,} bytes; shorten "
        "such rows, or remove them"
    )
    return rows.select(np.flatnonzero(sizes <= LARGEST_ROW))


def _row_bytes(table: Any) -> Any:
    """The bytes of each row's text."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    sizes = np.zeros(table.num_rows, dtype=np.int64)
    for column in table.columns:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            sizes += pc.fill_null(pc.binary_length(column), 0).to_numpy()
    return sizes


def _sources(arguments: SFTArguments) -> list[Source]:
    if not arguments.dataset_mixture:
        named = {
            "name": arguments.dataset_name or "",
            "config": arguments.dataset_config,
            "revision": arguments.dataset_revision,
            "column_map": arguments.column_map,
        }
        return [_source(named, "dataset_name, dataset_config, dataset_revision or column_map")]
    return [_source(values, "dataset_mixture") for values in arguments.dataset_mixture]


def _source(values: Any, keys: str) -> Source:
    try:
        return Source(**values)
    except (ValidationError, TypeError) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(
            f"bad {keys} ({said}); a dataset has a name, and may have config, revision, "
            "column_map and weight"
        ) from None


def _name(row: dict[str, Any]) -> str:
    """What tells a row from others: its id, or, where it has none, its task."""
    return str(row.get("id") or hashlib.sha256(
        f"{row['instruction']}\0{row['input'] or ''}".encode()
    ).hexdigest())  # fmt: skip


def _weighted(rows: Dataset, weight: float, seed: int) -> Dataset:
    if weight == 1:
        return rows
    whole, part = divmod(weight, 1)
    some = rows.shuffle(seed=seed).select(range(round(len(rows) * part)))
    order = [*range(len(rows))] * int(whole)
    if not order:
        return some
    from datasets import concatenate_datasets

    return concatenate_datasets([rows.select(order), some])


def _revision(sources: list[dict[str, Any]]) -> str:
    if len(sources) == 1 and sources[0]["weight"] == 1:
        return str(sources[0]["revision"])
    return "; ".join(f"{each['weight']:g} x {each['revision']}" for each in sources)
