"""Read the records of an existing dataset as rows that can be curated."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from code_alpaca.core.data_files import UnreadableRecord
from code_alpaca.core.ledger import utc_now
from code_alpaca.core.row_formats import ALPACA, RowFormat, is_unicode
from code_alpaca.core.schema import Example, content_id
from code_alpaca.dataset.load import OpenedDataset, slice_records

PROVENANCE = ("language", "strategy", "teacher", "prompt_version", "request_id", "tests")
MAX_FIELD_CHARACTERS = 2_000  # of a record that is not a row


class SourceRow(NamedTuple):
    """A record as an example."""

    number: int  # counted from 1
    example: Example
    problem: str  # why the record is not a row, or ""


def read_rows(source: OpenedDataset, start: int, stop: int) -> Iterator[SourceRow]:
    """Yield the records from `start` to `stop`, counted from 0."""
    for number, record in enumerate(slice_records(source.records, start, stop), start + 1):
        yield SourceRow(number, *_read_record(record, source.row_format))


def _read_record(record: Any, form: RowFormat) -> tuple[Example, str]:
    row = form.row(record)
    if not isinstance(row, UnreadableRecord):
        missing = [key for key in ALPACA if row[key] is None]
        if not missing:
            return _make_example(row), ""
        row = UnreadableRecord(f"{form.columns.get(missing[0], missing[0])!r} is null")
    values = record if isinstance(record, dict) else {}
    texts = {key: _shorten(values.get(form.columns.get(key, key))) for key in ALPACA}
    example = Example(**texts, id=content_id(**texts), strategy="imported", created_at=utc_now())
    return example, row.problem


def _make_example(row: dict[str, Any]) -> Example:
    """Return a row with its recorded origin; values of a wrong type are left out."""
    texts = {key: row[key] for key in ALPACA}
    origin = {key: row[key] for key in PROVENANCE if isinstance(row.get(key), str)}
    tests, seed_ids = row.get("tests"), row.get("seed_ids")
    if isinstance(tests, list) and all(isinstance(i, str) and is_unicode(i) for i in tests):
        origin["tests"] = "\n".join(tests)  # a list of statements, as in MBPP
    if not isinstance(seed_ids, list) or not all(isinstance(i, str | int) for i in seed_ids):
        seed_ids = []
    return Example(
        **texts,
        **{"strategy": "imported", **{key: value for key, value in origin.items() if value}},
        id=content_id(**texts),
        seed_ids=[str(i)[:MAX_FIELD_CHARACTERS] for i in seed_ids if is_unicode(str(i))],
        created_at=utc_now(),
    )


def _shorten(value: Any) -> str:
    """Return the beginning of any value as text that every file can store."""
    if value is None:
        return ""
    try:
        text = value if isinstance(value, str) else json.dumps(value, default=str)
    except (ValueError, RecursionError):
        text = f"<{type(value).__name__}>"
    return text[:MAX_FIELD_CHARACTERS].encode("utf-8", "backslashreplace").decode()
