"""Define the records of the pipeline, seed tasks and dataset examples, and load seed tasks."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from code_alpaca.core import console
from code_alpaca.core.data_files import RecordList, UnreadableRecord, read_records
from code_alpaca.core.errors import InputError
from code_alpaca.core.row_formats import RowFormat, contains_reasoning, detect_format, is_null

if TYPE_CHECKING:
    from datasets import Features

    from code_alpaca.core.ledger import Ledger

CONFIGS = ("default", "derisk", "verified", "messages", "rl", "rejected")
CONVERSATIONAL_CONFIGS = ("messages", "rl")  # the rows of `default` and `verified` as messages
DERISK_ROWS = 2_000


@dataclass(frozen=True, slots=True)
class SeedTask:
    """A hand-written task; prompts show it to the teacher as an example."""

    id: str
    instruction: str
    input: str
    output: str
    language: str = ""
    task_type: str = ""
    tests: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """A row of the dataset: the three Alpaca fields, then its provenance."""

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
    test_strength: float | None = None  # share of mutants that the tests detect, if measured
    contamination: list[str] = field(default_factory=list)
    created_at: str = ""
    reasoning: str = ""  # of the teacher, for the whole reply; only if a run keeps it

    @property
    def texts(self) -> tuple[str, str, str]:
        """The three Alpaca fields, in order."""
        return self.instruction, self.input, self.output

    def as_row(self) -> dict[str, Any]:
        """Return the columns of the `default` config, in order; optional ones if they are set."""
        row = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in row.items() if name in COLUMNS or value not in UNSET}


OPTIONAL_COLUMNS = ("test_strength", "reasoning")  # which a run has by its config
UNSET = ("", None)  # values of optional columns
COLUMNS = tuple(item.name for item in fields(Example) if item.name not in OPTIONAL_COLUMNS)


def content_id(instruction: str, input: str, output: str) -> str:
    """Return a row's `id`: 16 hex digits of the SHA-256 of its three Alpaca fields."""
    text = json.dumps([instruction, input, output])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hash_seed_tasks(tasks: Sequence[SeedTask]) -> str:
    """Return the SHA-256 of the Alpaca fields of seed tasks: `seed_tasks_sha256` of a manifest."""
    texts = [[task.instruction, task.input, task.output] for task in tasks]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def count_fulfilled(dimension: str, label: str, languages: Sequence[str]) -> int:
    """Count the accepted rows of a request that match a quota label.

    Only languages can be compared; a row without one, as in numbered text, matches.
    """
    if dimension != "language":
        return len(languages)
    return sum(not name or name.casefold() == label.casefold() for name in languages)


def features(config: str = "default", *, optional: Collection[str] = ()) -> Features:
    """Return the `datasets.Features` of a dataset config with some of `OPTIONAL_COLUMNS`.

    `rejected` has two more columns.
    """
    from datasets import Features, List, Value

    number, text = Value("float64"), Value("string")
    if config in CONVERSATIONAL_CONFIGS:
        return _conversational_features(config, optional)
    kinds = {"list[str]": List(text), "float": number, "float | None": number, "str": text}
    types = {item.name: kinds[str(item.type)] for item in fields(Example)}
    columns = {name: kind for name, kind in types.items() if name in {*COLUMNS, *optional}}
    if config == "rejected":
        columns["reason"] = columns["evidence"] = Value("string")
    return Features(columns)


def _conversational_features(config: str, optional: Collection[str]) -> Features:
    from datasets import Features, List, Value

    number, text = Value("float64"), Value("string")
    message = {"role": text, "content": text}
    if config == "rl":
        kept = {"tests": text, "test_strength": number, "solution": text, "language": text}
        return Features({"id": text, "prompt": List(message), **kept})
    reasoning = {"reasoning_content": text} if "reasoning" in optional else {}
    return Features({"id": text, "messages": List(message | reasoning)})


def load_seed_tasks(path: Path | None = None, *, number_ids: bool = False) -> list[SeedTask]:
    """Load the seed tasks of a file in any format of `row_formats`, or the built-in ones.

    In Alpaca's format a task needs `instruction` and `output`; unknown keys are refused. A task
    without an id gets one that depends on its text, which is not the id of a built-in task.

    Args:
        number_ids: number the tasks without an id, as earlier versions did.

    Raises:
        InputError: the file is missing or empty, or a task is not valid (named by its line).
    """
    source = "the built-in seed tasks" if path is None else str(path)
    built_in = resources.files("code_alpaca").joinpath("data/seed_tasks.jsonl")
    with resources.as_file(built_in) as built_in_path:
        records = read_records(path or built_in_path, "seed tasks")
    if not records:
        raise InputError(
            f"{source} contains no task; write one JSON object per line, see the README"
        )
    form = detect_format(records, None, source)
    if not form.plain:
        tasks = console.plural(len(records), "task")
        console.stage("seeds", stderr=True).print(f"{source}: {tasks} in {form.describe()}")
    tasks = [_seed_task(records, index, form, source) for index in range(len(records))]
    if number_ids:
        tasks = [
            replace(task, id=task.id or f"seed_{records.number(index) - 1:03}")
            for index, task in enumerate(tasks)
        ]
    tasks = _add_content_ids(tasks)
    numbers: dict[str, int] = {}
    for number, task in enumerate(tasks, 1):
        if (first := numbers.setdefault(task.id, number)) != number:
            raise InputError(f"{source}: tasks {first} and {number} have the same id {task.id!r}")
    return tasks


def restore_seed_ids(
    tasks: Sequence[SeedTask], path: Path | None, ledger: Ledger
) -> Sequence[SeedTask]:
    """Return the seed tasks of a run with the ids that its rows name: earlier versions' numbers."""
    if ledger.is_empty():
        ledger.set_meta("seed_ids", "content")
    return tasks if ledger.meta("seed_ids") else load_seed_tasks(path, number_ids=True)


def _add_content_ids(tasks: Sequence[SeedTask]) -> list[SeedTask]:
    """Give each task without an id the hash of its text; a repeated one gets a number as well."""
    seen: Counter[str] = Counter()
    result = []
    for task in tasks:
        if not task.id:
            name = f"seed_{content_id(task.instruction, task.input, task.output)}"
            seen[name] += 1
            task = replace(task, id=name if seen[name] == 1 else f"{name}_{seen[name]}")
        result.append(task)
    return result


def _seed_task(records: RecordList, index: int, form: RowFormat, source: str) -> SeedTask:
    place, record = f"{source}, {records.where(index)}", records[index]
    row = form.row(record)
    if isinstance(row, UnreadableRecord):
        raise InputError(f"{place}: {row.problem.removeprefix('is ')}")
    for key in ("instruction", "output"):
        if not (row[key] or "").strip():
            raise InputError(f"{place}: {key!r} must be text that is not empty")
    if contains_reasoning(row["output"]):
        raise InputError(f"{place}: 'output' contains a model's reasoning (<think>); remove it")
    allowed = [item.name for item in fields(SeedTask)]
    if form.plain and (unknown := [key for key in record if key not in allowed]):
        raise InputError(
            f"{place}: unknown key {unknown[0]!r}; a task has {', '.join(sorted(allowed))}"
        )
    values = {key: row[key] for key in allowed if not is_null(row.get(key))}
    for key, value in values.items():
        if not isinstance(value, str):
            raise InputError(f"{place}: {key!r} must be text, found {type(value).__name__}")
    return SeedTask(**{"id": "", "input": "", **values})
