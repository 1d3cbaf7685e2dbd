"""Check that a row can be stored: column types, valid Unicode, limited size.

Rows are checked when they are decided and again when a dataset is built: an invalid row is rejected
and does not end the run.
"""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

from code_alpaca.core.json_records import MALFORMED_ROW
from code_alpaca.core.row_formats import is_unicode
from code_alpaca.core.schema import Example

# Tokenizers take seconds for a megabyte of text, and no training sequence is that long.
MAX_ROW_BYTES = 1 << 20
MAX_EXCERPT_CHARACTERS = 2_000  # of each text of a row that is too large
EMPTY_VALUES: dict[str, Any] = {"str": "", "list[str]": [], "float": 0.0, "float | None": None}


def validate_row(example: Example) -> tuple[str, str] | None:
    """Return the reason and the evidence why a row cannot be stored; None for a valid row."""
    size = 0
    for column in fields(Example):
        value = getattr(example, column.name)
        if not _has_type(value, str(column.type)):
            found = type(value).__name__
            if isinstance(value, list):
                found = f"list of {', '.join(sorted({type(item).__name__ for item in value}))}"
            return MALFORMED_ROW, f"{column.name!r} must be {column.type}, found {found}"
        for text in [value] if isinstance(value, str) else value if isinstance(value, list) else []:
            if "\0" in text:
                return "not_text", f"{column.name!r} contains a NUL character"
            if not is_unicode(text):
                return "not_text", f"{column.name!r} contains half a surrogate pair"
            size += len(text.encode())
    if size > MAX_ROW_BYTES:
        return "row_too_large", f"{size:,} bytes of text, the limit is {MAX_ROW_BYTES:,}"
    return None


def make_storable(example: Example) -> Example:
    """Shorten and correct an invalid row, so that it can be stored among the rejected ones."""
    problem = validate_row(example)
    if problem is None:
        return example
    limit = MAX_EXCERPT_CHARACTERS if problem[0] == "row_too_large" else MAX_ROW_BYTES
    values = {
        column.name: _as_type(getattr(example, column.name), str(column.type), limit)
        for column in fields(Example)
    }
    return replace(example, **values)


def _has_type(value: Any, kind: str) -> bool:
    if kind in ("float", "float | None"):
        is_number = isinstance(value, int | float) and math.isfinite(value)
        return is_number or (value is None and kind != "float")
    if kind == "list[str]":
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return isinstance(value, str)


def _as_type(value: Any, kind: str, limit: int) -> Any:
    if kind == "list[str]" and isinstance(value, list):
        return [make_text(item, limit) for item in value[:1_000]]
    if kind == "str" and value is not None:
        return make_text(value, limit)
    return value if _has_type(value, kind) else EMPTY_VALUES[kind]


def make_text(value: Any, limit: int = MAX_ROW_BYTES // 8) -> str:
    """Return a value as text that can be stored, of at most `limit` characters."""
    text = value if isinstance(value, str) else repr(value)
    return text[:limit].replace("\0", "\ufffd").encode("utf-8", "replace").decode()
