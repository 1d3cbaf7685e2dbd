"""Find the records in JSON of unknown origin: a list, JSONL, columns, or values in a row.

Published datasets contain raw tabs in strings, trailing commas, joined files and repeated keys.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from code_alpaca.core.console import plural
from code_alpaca.core.errors import InputError

MALFORMED_ROW = "malformed_row"  # the reason with which curate rejects a record
JSON_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\Z)|[\[\]{},]', re.DOTALL)
BETWEEN_VALUES = re.compile(r"[\s,]*")


class UnreadableRecord(NamedTuple):
    """Takes the place of a record that cannot be read."""

    problem: str
    reason: str = MALFORMED_ROW


class RecordList(list[Any]):
    """Records in file order; for JSONL, `lines` contains the line number of each."""

    def __init__(self, records: Iterable[Any] = (), lines: Iterable[int] = ()) -> None:
        super().__init__(records)
        self.lines = list(lines)

    def number(self, index: int) -> int:
        """Return the line of a record in JSONL, otherwise its position, from 1."""
        return self.lines[index] if self.lines else index + 1

    def where(self, index: int) -> str:
        """Return the place of a record for messages: `line 3` in JSONL, else `row 3`."""
        return f"{'line' if self.lines else 'row'} {self.number(index)}"


class ObjectWithRepeatedKey(dict[str, Any]):
    """A JSON object that contains a key twice with different values."""

    key = ""


def parse_json(path: Path, text: str) -> RecordList:
    """Return the records in the text of a file; refuse a file that is mostly unreadable."""
    records = _find_records(path, text)
    for index, record in enumerate(records):
        if key := _repeated_key(record):
            records[index] = UnreadableRecord(f"has the key {key!r} twice, with different values")
    return records


def _find_records(path: Path, text: str) -> RecordList:
    try:
        value = _loads(text)
    except (ValueError, RecursionError):
        if text.lstrip().startswith("["):
            return _parse_elements(path, text)
        return _parse_lines(path, text) if text.strip() else RecordList()
    if isinstance(value, dict):
        return _parse_object(path, value)
    if not isinstance(value, list):
        raise InputError(f"{path} contains one {type(value).__name__}; use a list of JSON objects")
    return RecordList(value)


def _parse_elements(path: Path, text: str) -> RecordList:
    """Return the elements of a JSON list with unreadable elements or a trailing comma."""
    records, depth, begin, end = RecordList(), 0, 0, None
    for token in JSON_TOKEN.finditer(text):
        sign = token[0]
        if sign in ("[", "{"):
            depth += 1
            begin = token.end() if depth == 1 else begin
        elif sign in ("]", "}"):
            depth -= 1
        if (sign == "," and depth == 1) or (sign == "]" and depth == 0):
            if element := text[begin : token.start()].strip():
                records.append(_read_value(element))
            begin = token.end()
        if sign == "]" and depth == 0:
            end = token.end()
            break
    if end is None:
        raise _not_json(path, f"it ends inside row {len(records) + 1}; is the file complete?")
    if text[end:].strip():
        raise _not_json(path, "text follows the end of the list")
    return _refuse_mostly_unreadable(path, records)


def _parse_lines(path: Path, text: str) -> RecordList:
    """Return one value per line, or else values that span several lines."""
    separator = "\n" if "\n" in text or "\r" not in text else "\r"
    records = RecordList()
    for number, line in enumerate(text.split(separator), 1):  # U+2028 may be part of a string
        # In joined files a byte-order mark precedes the first line of each.
        if line := line.strip().removeprefix("\ufeff").removesuffix(","):
            records.append(_read_value(line))
            records.lines.append(number)
    if not any(isinstance(record, dict) for record in records):
        with contextlib.suppress(ValueError, RecursionError):
            return RecordList(_parse_values(text))
    return _refuse_mostly_unreadable(path, records)


def _parse_values(text: str) -> Iterator[Any]:
    at = 0
    decoder = json.JSONDecoder(object_pairs_hook=_make_object, strict=False)
    while (at := BETWEEN_VALUES.match(text, at).end()) < len(text):
        value, at = decoder.raw_decode(text, at)
        yield value


def _parse_object(path: Path, value: dict[str, Any]) -> RecordList:
    """Return the records in one object: a list under a key, columns, or the object itself."""
    lists = [key for key, rows in value.items() if _is_list_of_rows(rows)]
    if lists and not any(isinstance(value.get(key), str) for key in ("instruction", "output")):
        if len(lists) > 1:
            raise InputError(
                f"{path} contains several lists of rows ({', '.join(lists)}); put each in its own "
                "file"
            )
        rows = value[lists[0]]
        if all(isinstance(row.get("row"), dict) for row in rows):  # the Hub's viewer API
            rows = [row["row"] for row in rows]
        return RecordList(rows)
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):
        names = value["columns"]
        return RecordList(
            dict(zip(names, cells, strict=True))
            if isinstance(cells, list) and len(cells) == len(names)
            else UnreadableRecord(f"is not a list of {plural(len(names), 'cell')}")
            for cells in value["data"]
        )
    if len(value) > 1 and all(_is_column(cells) for cells in value.values()):
        if len({len(cells) for cells in value.values()}) > 1:
            counts = ", ".join(f"{key}: {len(cells)}" for key, cells in value.items())
            raise InputError(f"{path} has columns of different lengths ({counts})")
        return RecordList(
            dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)
        )
    if len(value) > 1 and all(isinstance(cells, dict) for cells in value.values()):
        labels = dict.fromkeys(label for cells in value.values() for label in cells)
        return RecordList({key: value[key].get(label) for key in value} for label in labels)
    return RecordList([value])


def _is_list_of_rows(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(row, dict) for row in value)
        and not _is_conversation(value)
    )


def _is_column(value: Any) -> bool:
    return isinstance(value, list) and not _is_conversation(value)


def _is_conversation(value: list[Any]) -> bool:
    """Return whether a list contains the turns of one conversation."""
    first = value[0] if value else None
    return isinstance(first, dict) and any(key in first for key in ("role", "from"))


def _refuse_mostly_unreadable(path: Path, records: RecordList) -> RecordList:
    """Refuse a file of which most records cannot be read."""
    bad = [index for index, record in enumerate(records) if isinstance(record, UnreadableRecord)]
    if bad and len(bad) > len(records) - len(bad):
        raise _not_json(path, f"{records.where(bad[0])} {records[bad[0]].problem}")
    return records


def _repeated_key(value: Any) -> str:
    """Return the key of an `ObjectWithRepeatedKey` anywhere in a value, or ""."""
    pending = [value] if isinstance(value, dict | list) else []
    while pending:
        value = pending.pop()
        if isinstance(value, ObjectWithRepeatedKey):
            return value.key
        items = value.values() if isinstance(value, dict) else value
        pending += [item for item in items if isinstance(item, dict | list)]
    return ""


def _read_value(text: str) -> Any:
    try:
        return _loads(text)
    except json.JSONDecodeError as error:
        return UnreadableRecord(f"is not JSON ({error.msg} at column {error.colno})")
    except RecursionError:
        return UnreadableRecord("has brackets nested too deeply")
    except ValueError:
        return UnreadableRecord("has a number too long to be read")


def _loads(text: str) -> Any:
    """Like `json.loads`, but accept raw tabs in strings and mark repeated keys."""
    return json.loads(text, object_pairs_hook=_make_object, strict=False)


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        for key, item in pairs:
            if value[key] != item:
                marked = ObjectWithRepeatedKey(value)
                marked.key = key
                return marked
    return value


def _not_json(path: Path, reason: str) -> InputError:
    return InputError(
        f"{path} is neither a JSON list nor JSONL ({reason}); the name of a CSV or TSV file "
        "must end in .csv or .tsv"
    )
