"""The records of the pipeline: a human seed task in, a dataset example out."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from code_alpaca.core.data_files import RecordList, UnreadableRecord, read_records
from code_alpaca.core.errors import InputError
from code_alpaca.core.row_formats import RowFormat, contains_reasoning, detect_format, is_null
from code_alpaca.core.row_formats import is_unicode as is_unicode

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

    @property
    def texts(self) -> tuple[str, str, str]:
        """The three Alpaca fields."""
        return self.instruction, self.input, self.output

    def as_row(self) -> dict[str, Any]:
        """The columns of the `default` config, in their order."""
        return {name: getattr(self, name) for name in COLUMNS}


COLUMNS = tuple(item.name for item in fields(Example))


def content_id(instruction: str, input: str, output: str) -> str:
    """A row's `id`: 16 hex digits of the SHA-256 of its three Alpaca fields."""
    text = json.dumps([instruction, input, output])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def count_fulfilled(dimension: str, label: str, languages: Sequence[str]) -> int:
    """How many of a request's accepted rows are what was asked; only a row's language tells.

    A row that names no language, as those of numbered text do, is taken at the teacher's word.
    """
    if dimension != "language":
        return len(languages)
    return sum(not said or said.casefold() == label.casefold() for said in languages)


def features(config: str = "default") -> Features:
    """The explicit `datasets.Features` of one dataset config; `rejected` adds two."""
    from datasets import Features, List, Value

    kinds = {"list[str]": List(Value("string")), "float": Value("float64"), "str": Value("string")}
    columns = {item.name: kinds[str(item.type)] for item in fields(Example)}
    if config == "rejected":
        columns["reason"] = columns["evidence"] = Value("string")
    return Features(columns)


def load_seed_tasks(path: Path | None = None) -> list[SeedTask]:
    """The seed tasks of a file, or our own when `path` is None.

    A JSONL file, or any other that `records` reads. Each task needs `instruction` and `output`;
    `input`, `language`, `task_type`, `tests` and `id` may be left out or null. Every other key is
    refused, unless the file is of another known shape (`row_formats`), which is logged.

    Raises:
        InputError: the file is missing or empty, or a task is broken (named by its line).
    """
    if path is None:
        source = "the built-in seed tasks"
        text = resources.files("code_alpaca").joinpath("data/seed_tasks.jsonl").read_text("utf-8")
        lines = text.split("\n")  # not splitlines(): U+2028 may stand inside a JSON string
        records = RecordList(json.loads(line) for line in lines if line.strip())
    else:
        source = str(path)
        records = read_records(path, "seed tasks")
    if not records:
        raise InputError(f"{source} holds no task; write one JSON object a line, see the README")
    form = detect_format(records, None, source)
    if form.note:
        print(f"seeds     {source}: {form.note}", file=sys.stderr)
    tasks = [_seed_task(records, index, form, source) for index in range(len(records))]
    seen: dict[str, int] = {}
    for number, task in enumerate(tasks, 1):
        if task.id in seen:
            raise InputError(
                f"{source}: tasks {seen[task.id]} and {number} share the id {task.id!r}"
            )
        seen[task.id] = number
    return tasks


def _seed_task(records: RecordList, index: int, form: RowFormat, source: str) -> SeedTask:
    where, record = f"{source}, {records.where(index)}", records[index]
    row = form.row(record)
    if isinstance(row, UnreadableRecord):
        raise InputError(f"{where}: {row.problem.removeprefix('is ')}")
    for key in ("instruction", "output"):
        if not (row[key] or "").strip():
            raise InputError(f"{where}: {key!r} must be text that is not empty")
    if contains_reasoning(row["output"]):
        raise InputError(f"{where}: 'output' holds a model's reasoning (<think>); remove it")
    allowed = [item.name for item in fields(SeedTask)]
    if form.plain:
        for key in record:
            if key not in allowed:
                raise InputError(
                    f"{where}: unknown key {key!r}; a task has {', '.join(sorted(allowed))}"
                )
    given = {key: row[key] for key in allowed if not is_null(row.get(key))}
    for key, value in given.items():
        if not isinstance(value, str):
            raise InputError(f"{where}: {key!r} must be text, found {type(value).__name__}")
    return SeedTask(**{"id": f"seed_{records.number(index) - 1:03}", "input": "", **given})
