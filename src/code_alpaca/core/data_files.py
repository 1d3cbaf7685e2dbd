"""Read the records of a dataset file: JSON, JSONL, CSV, TSV or Parquet, also compressed.

A record that cannot be read becomes an `Unreadable` in its place, so that one bad row never
costs the others. A file that is something else is refused in one line.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from code_alpaca.core.errors import InputError, error_message

if TYPE_CHECKING:
    import pyarrow as pa

MAX_UNPACKED_BYTES = 4 << 30
OPENERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
COMPRESSED_SUFFIXES = {".gz", ".bz2", ".xz"}
DELIMITED_SUFFIXES = {".csv", ".tsv"}
UNSUPPORTED_FORMATS = {  # what a file begins with: what it is, and what to do
    b"PK\x03\x04": "a zip archive; unpack it and give the file in it",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it (zstd -d)",
    b"ARROW1": "an Arrow file; save it as Parquet (datasets: to_parquet)",
    b"\xff\xff\xff\xff": "an Arrow stream; save it as Parquet (datasets: to_parquet)",
    b"SQLite format 3": "an SQLite database; export the table as CSV or JSONL",
    b"version https://git-lfs": "a Git LFS pointer, not the data; fetch it (git lfs pull)",
}
JSON_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\Z)|[\[\]{},]', re.DOTALL)
QUOTED_CELL = re.compile(r'"[^"\n]*"')
BETWEEN_VALUES = re.compile(r"[\s,]*")


class UnreadableRecord(NamedTuple):
    """Stands where a record should be, and says why there is none."""

    problem: str


class RecordList(list[Any]):
    """Records in file order; `lines` has the line number of each where the file is JSONL."""

    def __init__(self, records: Iterable[Any] = (), lines: Iterable[int] = ()) -> None:
        super().__init__(records)
        self.lines = list(lines)

    def number(self, index: int) -> int:
        """The line of a record in JSONL, its place among the others in anything else."""
        return self.lines[index] if self.lines else index + 1

    def where(self, index: int) -> str:
        """Name the place of a record: `line 3` in JSONL, `row 3` in anything else."""
        return f"{'line' if self.lines else 'row'} {self.number(index)}"


class ObjectWithRepeatedKey(dict[str, Any]):
    """A JSON object in which a key stands twice with different values."""

    key = ""


def read_records(path: Path, kind: str = "") -> RecordList:
    """Read every record of a file.

    Args:
        kind: what the file is for, named in the message if it cannot be opened.

    Returns:
        Whatever the records are; `Unreadable` for those that are broken. May be empty.

    Raises:
        InputError: the file cannot be opened, or is in no format that is read here.
    """
    try:
        data = _unpacked(path, path.read_bytes())
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        reason = getattr(error, "strerror", None) or error_message(error)
        raise InputError(f"cannot read {kind + ' ' if kind else ''}{path}: {reason}") from None
    if data.startswith(b"PAR1"):
        return _parquet(path, data)
    for magic, what in UNSUPPORTED_FORMATS.items():
        if data.startswith(magic):
            raise InputError(f"{path} is {what}")
    if data[257:262] == b"ustar":
        raise InputError(f"{path} is a tar archive; unpack it and give the file in it")
    text = _decoded(path, data)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED_SUFFIXES:
        suffixes.pop()
    if suffixes and suffixes[-1] in DELIMITED_SUFFIXES:
        return _delimited(path, text)
    return _json(path, text)


def _unpacked(path: Path, data: bytes) -> bytes:
    for magic, opener in OPENERS.items():
        if data.startswith(magic):
            with opener(io.BytesIO(data)) as stream:
                data = stream.read(MAX_UNPACKED_BYTES + 1)
            if len(data) > MAX_UNPACKED_BYTES:
                raise InputError(
                    f"{path} unpacks to more than {MAX_UNPACKED_BYTES >> 30} GiB; split it"
                )
    return data


def _decoded(path: Path, data: bytes) -> str:
    """Decode UTF-8, or UTF-16 and UTF-32 where the first bytes show it; never guess."""
    encoding = json.detect_encoding(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        name = encoding.removesuffix("-sig").upper()
        raise InputError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not {name}; convert the file "
            "first, e.g. iconv -f latin1 -t utf-8"
        ) from None
    return text.removeprefix("\ufeff")


def _parquet(path: Path, data: bytes) -> RecordList:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(data))
        if len(set(table.column_names)) < len(table.column_names):
            raise InputError(f"{path} has two columns of one name; rename one")
        cells = [_column(column) for column in table.columns]
        return RecordList(
            dict(zip(table.column_names, row, strict=True)) for row in zip(*cells, strict=True)
        )
    except (pa.ArrowException, OSError, ValueError, OverflowError, LookupError) as error:
        raise InputError(f"cannot read Parquet file {path}: {error_message(error)}") from None


def _column(column: pa.ChunkedArray) -> list[Any]:
    """The values of a Parquet column; one that Python cannot hold costs only its own row."""
    try:
        return column.to_pylist()
    except (ValueError, OverflowError, LookupError):
        return [_cell(value) for value in column]


def _cell(value: pa.Scalar) -> Any:
    import pyarrow as pa

    try:
        return value.as_py()
    except UnicodeDecodeError:
        return value.cast(pa.binary()).as_py()
    except (OverflowError, ValueError, LookupError):
        return value.value  # of a time that is out of range, or in an unknown zone: its number


def _delimited(path: Path, text: str) -> RecordList:
    """CSV as RFC 4180 has it, with a header; commas, tabs or semicolons between cells."""
    csv.field_size_limit(1 << 31)
    header_line = QUOTED_CELL.sub("", text.split("\n", 1)[0])
    delimiter = max(",\t;", key=header_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    records = RecordList()
    try:
        header = [name.strip() for name in next(reader, [])]
        if repeated := {name for name in header if name and header.count(name) > 1}:
            raise InputError(f"{path} has two columns named {min(repeated)!r}; rename one")
        for cells in reader:
            if not cells:
                continue
            if len(cells) == len(header):
                records.append(dict(zip(header, cells, strict=True)))
            else:
                problem = f"has {len(cells)} cells where the header has {len(header)}"
                records.append(UnreadableRecord(problem))
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: not CSV ({error}); quote cells that hold quotes or "
            "line breaks, or give JSONL"
        ) from None
    return records


def _json(path: Path, text: str) -> RecordList:
    try:
        value = _loads(text)
    except (ValueError, RecursionError):
        if text.lstrip().startswith("["):
            return _checked(_elements(path, text))
        return _checked(_lines(path, text) if text.strip() else RecordList())
    if isinstance(value, dict):
        return _checked(_of_object(path, value))
    if not isinstance(value, list):
        raise InputError(f"{path} holds one {type(value).__name__}; give a list of JSON objects")
    return _checked(RecordList(value))


def _elements(path: Path, text: str) -> RecordList:
    """The elements of a JSON list of which some cannot be read, or that ends in a comma."""
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
        raise _no_json(path, f"it ends inside row {len(records) + 1}; is the file complete?")
    if text[end:].strip():
        raise _no_json(path, "text follows the end of the list")
    return _mostly_read(path, records)


def _lines(path: Path, text: str) -> RecordList:
    """One value a line; else values one after the other, each over several lines."""
    separator = "\n" if "\n" in text or "\r" not in text else "\r"
    records = RecordList()
    for number, line in enumerate(text.split(separator), 1):  # U+2028 may stand inside a string
        # A byte-order mark begins every file of which several were joined.
        if line := line.strip().removeprefix("\ufeff").removesuffix(","):
            records.append(_read_value(line))
            records.lines.append(number)
    if not any(isinstance(record, dict) for record in records):
        try:
            return RecordList(_values(text))
        except (ValueError, RecursionError):
            pass
    return _mostly_read(path, records)


def _values(text: str) -> Iterator[Any]:
    at = 0
    decoder = json.JSONDecoder(object_pairs_hook=_object, strict=False)
    while (at := BETWEEN_VALUES.match(text, at).end()) < len(text):
        value, at = decoder.raw_decode(text, at)
        yield value


def _of_object(path: Path, value: dict[str, Any]) -> RecordList:
    """The records in one JSON object: a list under a key, columns, or the object itself."""
    lists = [key for key, rows in value.items() if _is_list_of_rows(rows)]
    if lists and not any(isinstance(value.get(key), str) for key in ("instruction", "output")):
        if len(lists) > 1:
            raise InputError(
                f"{path} holds several lists of rows ({', '.join(lists)}); give one in a file"
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
            else UnreadableRecord(f"is not a list of {len(names)} cells")
            for cells in value["data"]
        )
    if len(value) > 1 and all(isinstance(cells, list) for cells in value.values()):
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
        and not any(key in value[0] for key in ("role", "from"))  # the turns of one conversation
    )


def _mostly_read(path: Path, records: RecordList) -> RecordList:
    """Refuse a file that is hardly JSON: most of its rows would be lost."""
    bad = [index for index, record in enumerate(records) if isinstance(record, UnreadableRecord)]
    if bad and len(bad) > len(records) - len(bad):
        raise _no_json(path, f"{records.where(bad[0])} {records[bad[0]].problem}")
    return records


def _checked(records: RecordList) -> RecordList:
    for index, record in enumerate(records):
        if key := _repeated_key(record):
            records[index] = UnreadableRecord(f"has the key {key!r} twice, with different values")
    return records


def _repeated_key(value: Any) -> str:
    """The key of a `RepeatedKey` anywhere in a value."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, ObjectWithRepeatedKey):
            return value.key
        if isinstance(value, dict):
            waiting += [item for item in value.values() if isinstance(item, dict | list)]
        elif isinstance(value, list):
            waiting += [item for item in value if isinstance(item, dict | list)]
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
    """`json.loads` that also takes raw tabs in strings and marks repeated keys."""
    return json.loads(text, object_pairs_hook=_object, strict=False)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        for key, item in pairs:
            if value[key] != item:
                marked = ObjectWithRepeatedKey(value)
                marked.key = key
                return marked
    return value


def _no_json(path: Path, reason: str) -> InputError:
    return InputError(
        f"{path} is neither a JSON list nor JSONL ({reason}); CSV and TSV need .csv or .tsv as "
        "the end of their name"
    )
