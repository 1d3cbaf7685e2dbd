"""Read and write JSONL: one JSON object a line.

Lines end at a newline only: `splitlines` would also split at U+2028 and other Unicode line breaks,
which JSON allows inside a string. `data_files` reads datasets of unknown origin.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from code_alpaca.core import fs
from code_alpaca.core.errors import InputError, error_message

GZIP_MAGIC = b"\x1f\x8b"


class Line(NamedTuple):
    """A record and its line number, counted from 1."""

    number: int
    record: dict[str, Any]


class Writer:
    """Writes records to an open file."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, record: Mapping[str, Any]) -> None:
        """Write a record and flush it, so that a kill does not lose it."""
        self._file.write(dumps(record))
        self._file.flush()


def read(path: Path, *, kind: str = "", skip_broken: bool = False) -> Iterator[Line]:
    """Yield the records of a file, which may be compressed by gzip, without blank lines.

    Args:
        kind: the purpose of the file, for error messages.
        skip_broken: skip lines that are not a JSON object, such as one cut short by a kill.

    Raises:
        InputError: the file cannot be read, or a line is not a JSON object.
    """
    name = f"{kind} {path}".strip()
    try:
        with path.open("rb") as file:
            magic = file.peek(len(GZIP_MAGIC))[: len(GZIP_MAGIC)]
            lines = gzip.GzipFile(fileobj=file) if magic == GZIP_MAGIC else file
            yield from _parse(lines, name, skip_broken)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error_message(error)
        advice = "check the path" if getattr(error, "errno", None) else "restore the file"
        raise InputError(f"cannot read {name}: {reason}; {advice}") from None


def write(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write records to a file atomically, replacing what it contained."""
    with fs.atomic_writer(path) as file:
        file.writelines(map(dumps, records))


@contextmanager
def appending(path: Path) -> Iterator[Writer]:
    """Open a file to append records to; an incomplete last line is ended first."""
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, io.SEEK_END)
            if file.read() != b"\n":
                file.write(b"\n")
        yield Writer(io.TextIOWrapper(file, encoding="utf-8", write_through=True))


def dumps(record: Mapping[str, Any]) -> str:
    """Return the line of a record, its newline included."""
    return json.dumps(record) + "\n"


def _parse(lines: Iterable[bytes], name: str, skip_broken: bool) -> Iterator[Line]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        problem = ""
        try:
            record = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            if not isinstance(record, dict):
                problem = "not a JSON object"
        except UnicodeDecodeError:
            problem = "not UTF-8"
        except (ValueError, RecursionError) as error:
            problem = f"not JSON ({error_message(error)})"
        if not problem:
            yield Line(number, record)
        elif not skip_broken:
            raise InputError(f"{name}, line {number}: {problem}; correct or delete this line")
