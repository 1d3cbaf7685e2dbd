"""Read the records of a dataset file of unknown origin: JSON, JSONL, CSV, TSV or Parquet.

Compressed files are read as well. A record that cannot be read becomes an `UnreadableRecord`, so
that one bad row does not lose the others.
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
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from code_alpaca.core.console import plural
from code_alpaca.core.errors import InputError, error_message
from code_alpaca.core.json_records import RecordList, UnreadableRecord, parse_json

if TYPE_CHECKING:
    import pyarrow as pa


def _open_zstd(stream: io.BytesIO) -> pa.NativeFile:
    import pyarrow as pa

    return pa.CompressedInputStream(stream, "zstd")


MAX_UNPACKED_BYTES = 4 << 30
CHUNK_BYTES = 16 << 20
OPENERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
    b"\x28\xb5\x2f\xfd": _open_zstd,
}
CSV_NAME = re.compile(r".+\.(csv|tsv)(\.(gz|bz2|xz|zst))?", re.IGNORECASE | re.DOTALL)
DATA_NAME = re.compile(
    r".+\.(json|jsonl|ndjson|csv|tsv|parquet)(\.(gz|bz2|xz|zst))?", re.IGNORECASE | re.DOTALL
)
UNSUPPORTED_FORMATS = {  # first bytes of a file -> what it is, and what to do
    b"PK\x03\x04": "a zip archive; unpack it and set the file in it",
    b"ARROW1": "an Arrow file; save it as Parquet (datasets: to_parquet)",
    b"\xff\xff\xff\xff": "an Arrow stream; save it as Parquet (datasets: to_parquet)",
    b"SQLite format 3": "an SQLite database; export the table as CSV or JSONL",
    b"version https://git-lfs": "a Git LFS pointer, not the data; fetch it (git lfs pull)",
}
QUOTED_CELL = re.compile(r'"[^"\n]*"')


def read_records(path: Path, kind: str = "") -> RecordList:
    """Return the records of a file; `kind` is its purpose, for error messages."""
    try:
        data = _decompress(path, path.read_bytes())
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        reason = getattr(error, "strerror", None)
        reason = f"{reason}; check the path" if reason else error_message(error)
        raise InputError(f"cannot read {kind + ' ' if kind else ''}{path}: {reason}") from None
    if data.startswith(b"PAR1"):
        return _read_parquet(path, data)
    for magic, description in UNSUPPORTED_FORMATS.items():
        if data.startswith(magic):
            raise InputError(f"{path} is {description}")
    if data[257:262] == b"ustar":
        raise InputError(f"{path} is a tar archive; unpack it and set the file in it")
    text = _decode(path, data)
    return _read_csv(path, text) if CSV_NAME.fullmatch(path.name) else parse_json(path, text)


def _decompress(path: Path, data: bytes) -> bytes:
    for magic, opener in OPENERS.items():
        if data.startswith(magic):
            unpacked = bytearray()
            with opener(io.BytesIO(data)) as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    unpacked += chunk
                    if len(unpacked) > MAX_UNPACKED_BYTES:
                        raise InputError(
                            f"{path} unpacks to more than {MAX_UNPACKED_BYTES >> 30} GiB; split it"
                        )
            return bytes(unpacked)
    return data


def _decode(path: Path, data: bytes) -> str:
    """Decode UTF-8, or UTF-16 and UTF-32 if the first bytes show it; never guess."""
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


def _read_parquet(path: Path, data: bytes) -> RecordList:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(data))
        if len(set(table.column_names)) < len(table.column_names):
            raise InputError(f"{path} has two columns of the same name; rename one")
        return table_records(table)
    except (pa.ArrowException, OSError, ValueError, OverflowError, LookupError) as error:
        raise InputError(f"cannot read Parquet file {path}: {error_message(error)}") from None


def table_records(table: pa.Table) -> RecordList:
    """Return the rows of a table; a value that Python cannot represent becomes what is stored."""
    cells = [_column_values(column) for column in table.columns]
    return RecordList(
        dict(zip(table.column_names, row, strict=True)) for row in zip(*cells, strict=True)
    )


def _column_values(column: pa.ChunkedArray) -> list[Any]:
    try:
        return column.to_pylist()
    except (ValueError, OverflowError, LookupError):
        return [_cell_value(value) for value in column]


def _cell_value(value: pa.Scalar) -> Any:
    """Return a value as Python's type, or what is stored if it has none."""
    import pyarrow as pa

    try:
        return value.as_py()
    except UnicodeDecodeError:
        return value.cast(pa.binary()).as_py()
    except (OverflowError, ValueError, LookupError):
        return value.value  # the number of a time that is out of range or in an unknown zone


def _read_csv(path: Path, text: str) -> RecordList:
    """Return the records of CSV with a header (RFC 4180), separated by comma, tab or semicolon."""
    csv.field_size_limit(1 << 31)
    header_line = QUOTED_CELL.sub("", text.split("\n", 1)[0])
    delimiter = max(",\t;", key=header_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    records = RecordList()
    try:
        header = [name.strip() for name in next(reader, [])]
        if repeated := {name for name in header if name and header.count(name) > 1}:
            raise InputError(f"{path} has two columns named {min(repeated)!r}; rename one")
        for cells in filter(None, reader):
            if len(cells) == len(header):
                records.append(dict(zip(header, cells, strict=True)))
            else:
                problem = f"has {plural(len(cells), 'cell')} where the header has {len(header)}"
                records.append(UnreadableRecord(problem))
    except csv.Error as error:
        raise InputError(
            f"{path}, line {reader.line_num}: not CSV ({error}); quote cells that contain quotes "
            "or line breaks, or use JSONL"
        ) from None
    return records
