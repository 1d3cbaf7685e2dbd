"""Name the columns of a source that no row of the imported dataset contains."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from code_alpaca.core.json_records import RecordList
from code_alpaca.core.row_formats import ALPACA, MAX_LISTED_COLUMNS

if TYPE_CHECKING:
    from code_alpaca.dataset.source import OpenedDataset


def list_unkept(opened: OpenedDataset, kept: Collection[str]) -> list[str]:
    """Return the columns of a source that are neither kept nor read.

    Args:
        kept: fields of the rows that come from the column of that name, unless `row_format` reads
            another one. A column of system prompts is not listed: `OpenedDataset.describe` does.
    """
    records, form = opened.records, opened.row_format
    columns: Iterable[str]
    if isinstance(records, RecordList):
        columns = dict.fromkeys(key for row in records if isinstance(row, dict) for key in row)
    else:
        columns = records.column_names
    same_name = {name for name in kept if name not in (*ALPACA, *form.columns)}
    known = {*same_name, *form.read_columns, form.system}
    return [column for column in columns if column not in known]


def describe_unkept(columns: Sequence[str]) -> str:
    """Return a text that names the columns; "" for none."""
    more = ", ..." if len(columns) > MAX_LISTED_COLUMNS else ""
    return f"columns not kept: {', '.join(columns[:MAX_LISTED_COLUMNS])}{more}" if columns else ""
