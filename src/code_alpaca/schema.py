"""The records of the pipeline: a human seed task in, a dataset example out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from code_alpaca.errors import InputError

if TYPE_CHECKING:
    from datasets import Features

CONFIGS = ("default", "derisk", "verified", "rejected")
DERISK_ROWS = 2_000


@dataclass(frozen=True, slots=True)
class SeedTask:
    """One hand-written task that shows the teacher what we want."""

    id: str
    instruction: str
    input: str
    output: str
    language: str = ""
    task_type: str = ""
    tests: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """One row of the dataset: the three Alpaca fields, then where the row came from."""

    instruction: str
    input: str
    output: str
    id: str = ""
    language: str = ""
    strategy: str = ""
    teacher: str = ""
    prompt_version: str = ""
    seed_ids: list[str] = field(default_factory=list)
    request_id: str = ""
    nearest_id: str = ""
    nearest_score: float = 0.0
    tests: str = ""
    verification: str = ""
    contamination: list[str] = field(default_factory=list)
    created_at: str = ""

    def as_row(self) -> dict[str, Any]:
        """The columns of the `default` config, in their order."""
        return {name: getattr(self, name) for name in COLUMNS}


COLUMNS = tuple(item.name for item in fields(Example))


def content_id(instruction: str, input: str, output: str) -> str:
    """A row's `id`: 16 hex digits of the SHA-256 of its three Alpaca fields."""
    text = json.dumps([instruction, input, output])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fulfilled(dimension: str, label: str, languages: Sequence[str]) -> int:
    """How many of a request's accepted rows are what was asked; only a row's language tells.

    A row that names no language, as those of numbered text do, is taken at the teacher's word.
    """
    if dimension != "language":
        return len(languages)
    return sum(not said or said.casefold() == label.casefold() for said in languages)


def is_unicode(text: str) -> bool:
    """False for lone surrogates, which JSON escapes can hold and UTF-8 cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def features(config: str = "default") -> Features:
    """The explicit `datasets.Features` of one dataset config; `rejected` adds two."""
    from datasets import Features, List, Value

    kinds = {"list[str]": List(Value("string")), "float": Value("float64"), "str": Value("string")}
    columns = {item.name: kinds[str(item.type)] for item in fields(Example)}
    if config == "rejected":
        columns["reason"] = columns["evidence"] = Value("string")
    return Features(columns)


def load_seed_tasks(path: Path | None = None) -> list[SeedTask]:
    """The seed tasks of a JSONL file, or our own when `path` is None.

    Each line needs `instruction` and `output`; `input`, `language`, `task_type`, `tests` and `id`
    may be left out. Every other key is refused.

    Raises:
        InputError: the file is missing or empty, or a line is broken (named by its number).
    """
    if path is None:
        source = "the built-in seed tasks"
        text = resources.files("code_alpaca").joinpath("data/seed_tasks.jsonl").read_text("utf-8")
    else:
        source = str(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read seed tasks {path}: {error}") from None
    lines = text.split("\n")  # not splitlines(): U+2028 may stand inside a JSON string
    tasks = [
        _seed_task(line, number, source) for number, line in enumerate(lines, 1) if line.strip()
    ]
    if not tasks:
        raise InputError(f"{source} holds no task; write one JSON object a line, see the README")
    seen: dict[str, int] = {}
    for number, task in enumerate(tasks, 1):
        if task.id in seen:
            raise InputError(
                f"{source}: tasks {seen[task.id]} and {number} share the id {task.id!r}"
            )
        seen[task.id] = number
    return tasks


def _seed_task(line: str, number: int, source: str) -> SeedTask:
    where = f"{source}, line {number}"
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg} at column {error.colno})") from None
    except (ValueError, RecursionError):
        raise InputError(f"{where}: a number too long or brackets too deep to be read") from None
    if not isinstance(record, dict):
        raise InputError(f"{where}: expected a JSON object, found {type(record).__name__}")
    for key in ("instruction", "output"):
        if not isinstance(record.get(key), str) or not record[key].strip():
            raise InputError(f"{where}: {key!r} must be text that is not empty")
    allowed = {item.name for item in fields(SeedTask)}
    for key, value in record.items():
        if key not in allowed:
            raise InputError(
                f"{where}: unknown key {key!r}; a task has {', '.join(sorted(allowed))}"
            )
        if not isinstance(value, str):
            raise InputError(f"{where}: {key!r} must be text, found {type(value).__name__}")
        if not is_unicode(value):
            raise InputError(f"{where}: {key!r} holds half a surrogate pair, which no file can")
    return SeedTask(**{"id": f"seed_{number - 1:03}", "input": "", **record})
