"""Files and folders that are there whole or not at all, whatever stops us while we write them.

Each is written beside its place and put there by one rename, which the file system does at once.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def writing(path: Path) -> Iterator[IO[str]]:
    """A text file to write; several processes may do so at a time, and the last one stays."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            yield file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """A text file in the place of what was there."""
    with writing(path) as file:
        file.write(text)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """JSON that people can read as well."""
    write_text(path, json.dumps(values, indent=2) + "\n")


@contextmanager
def folder(path: Path) -> Iterator[Path]:
    """A new folder to fill, in the place of what was there if all goes well, and else deleted."""
    part, old = (path.with_name(f".{path.name}.{end}") for end in ("part", "old"))

    def tidy() -> None:
        if old.exists() and not path.exists():
            os.rename(old, path)  # a kill came between the two renames below
        for left in (part, old):
            shutil.rmtree(left, ignore_errors=True)

    tidy()
    part.mkdir(parents=True)
    try:
        yield part
        if path.exists():
            os.rename(path, old)
        os.rename(part, path)
    finally:
        tidy()
