"""Detect the format of a dataset's records and read each as instruction, input and output.

Known formats: Alpaca columns (in any case), chat turns (`messages`, ShareGPT `conversations`),
Self-Instruct seed tasks (`instances`), and the columns in COLUMN_PAIRS. Others need a `column_map`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Annotated, Any

from pydantic import BeforeValidator

from code_alpaca.core.data_files import UnreadableRecord
from code_alpaca.core.errors import InputError

Names = Mapping[str, str]  # field -> column
ALPACA = ("instruction", "input", "output")
# Fields that a column_map may set: the Alpaca fields, and a row's provenance.
TARGET_COLUMNS = (
    *ALPACA, "id", "language", "strategy", "teacher", "prompt_version", "request_id", "tests",
)  # fmt: skip
COLUMN_PAIRS = (
    ("problem", "solution"),
    ("prompt", "completion"), ("prompt", "response"),
    ("instruction", "response"), ("instruction", "completion"),
    ("question", "answer"), ("question", "response"),
    ("query", "answer"), ("query", "response"),
)  # fmt: skip
INPUT_COLUMNS = ("input", "context")
CHAT_COLUMNS = ("messages", "conversations", "conversation")
ROLES_BY_SPEAKER = {
    "system": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant",
    "chatgpt": "assistant",
}  # fmt: skip
REASONING = re.compile(
    r"\A\s*<(think|thinking|reasoning)>|^[ \t]*</(think|thinking|reasoning)>", re.MULTILINE
)
SAMPLE_SIZE = 1_000  # records whose columns are read to detect the format


def _parse_column_map(value: Any) -> Any:
    """Read a `column_map` given as `{instruction: problem}` or `instruction=problem,...`."""
    if isinstance(value, str):
        pairs = [part.strip() for part in value.strip().strip("{}").split(",") if part.strip()]
        split = [re.split(r"\s*[:=]\s*", part, maxsplit=1) for part in pairs]
        if any(len(part) != 2 for part in split):
            raise ValueError("not a map of columns like {instruction: problem, output: solution}")
        value = {key.strip("'\""): name.strip("'\"") for key, name in split} or None
    for key in value if isinstance(value, dict) else ():
        if key not in TARGET_COLUMNS:
            raise ValueError(f"no field {key!r}; a column_map may name {', '.join(TARGET_COLUMNS)}")
    return value


ColumnMap = Annotated[dict[str, str] | None, BeforeValidator(_parse_column_map)]


@dataclass(frozen=True, slots=True)
class RowFormat:
    """How the records of a dataset become rows."""

    columns: Names = field(default_factory=dict)
    chat: str = ""  # the column of chat turns, instead of `columns`
    instances: str = ""  # the column of Self-Instruct instances, instead of input and output
    note: str = ""  # a line to log; empty for plain Alpaca columns

    @property
    def plain(self) -> bool:
        """Whether the columns are those of Alpaca."""
        return not (self.chat or self.instances) and all(
            self.columns.get(key) == key for key in ALPACA
        )

    def row(self, record: Any) -> dict[str, Any] | UnreadableRecord:
        """Return a record as a row: the Alpaca fields, and its other keys unchanged.

        Null and NaN become "" in `input` and None in `instruction` and `output`.
        """
        if isinstance(record, UnreadableRecord):
            return record
        if not isinstance(record, dict):
            return UnreadableRecord("is not a JSON object")
        fields: dict[str, Any] | UnreadableRecord = {
            key: record[name] for key, name in self.columns.items() if name in record
        }
        if self.chat:
            fields = _read_turns(record.get(self.chat))
        elif self.instances:
            instance = _read_instances(record.get(self.instances))
            fields = instance if isinstance(instance, UnreadableRecord) else fields | instance
        if isinstance(fields, UnreadableRecord):
            return fields
        row = {**record, "input": "", **fields}
        for key in TARGET_COLUMNS:
            name = self.columns.get(key, key)
            if key in ALPACA:
                if key not in fields and key != "input":
                    return UnreadableRecord(f"{name!r} is missing")
                if is_null(row[key]):
                    row[key] = "" if key == "input" else None
                elif not isinstance(row[key], str):
                    return UnreadableRecord(f"{name!r} is {_type_name(row[key])}, not text")
            if isinstance(text := row.get(key), str) and not is_unicode(text):
                return UnreadableRecord(f"{name!r} contains half a surrogate pair")
        return row


def detect_format(records: Iterable[Any], column_map: Names | None, source: str) -> RowFormat:
    """Return the format of a dataset, from the columns of its first records.

    A `column_map` overrides every known format. `source` is the name of the dataset in messages.

    Raises:
        InputError: the columns match no known format or several, or lack one of `column_map`.
    """
    sample = [record for record in islice(records, SAMPLE_SIZE) if isinstance(record, dict)]
    columns = dict.fromkeys(str(key) for record in sample for key in record)
    return detect_columns(list(columns), column_map, source)


def detect_columns(columns: Sequence[str], column_map: Names | None, source: str) -> RowFormat:
    """Return the format of a dataset from its columns; see `detect_format`."""
    if column_map:
        return _apply_column_map(columns, column_map, source)
    if not columns or ("instruction" in columns and "output" in columns):
        return RowFormat({key: key for key in ALPACA})
    lower = {column.strip().lower(): column for column in columns}
    if "instruction" in lower and "output" in lower:
        return _with_note({key: lower[key] for key in ALPACA if key in lower})
    for chat in CHAT_COLUMNS:
        if chat in columns:
            return RowFormat(
                chat=chat,
                note=f"{chat}: the user's turn is the instruction, the assistant's the output; "
                "system prompts are dropped",
            )
    if "instruction" in columns and "instances" in columns:
        return RowFormat(
            {"instruction": "instruction"},
            instances="instances",
            note="instances: the single instance of a task contains its input and output",
        )
    pairs = [pair for pair in COLUMN_PAIRS if set(pair) <= lower.keys()]
    if len(pairs) == 1:
        instruction, output = pairs[0]
        inputs = [name for name in INPUT_COLUMNS if name in lower]
        names = {"instruction": lower[instruction], "output": lower[output]}
        return _with_note(names | ({"input": lower[inputs[0]]} if inputs else {}))
    if not pairs and ("instruction" in columns or "output" in columns):
        return RowFormat({key: key for key in ALPACA})  # each row reports what it lacks
    raise InputError(_describe_unknown(source, columns, lower))


def _apply_column_map(columns: Sequence[str], column_map: Names, source: str) -> RowFormat:
    for key, name in column_map.items():
        if name not in columns and name not in ("", "none", "null"):
            raise InputError(
                f"column_map: {source} has no column {name!r} for {key}; it has "
                f"{', '.join(columns)}"
            )
    names = {key: key for key in ALPACA if key in columns} | dict(column_map)
    if missing := [key for key in ("instruction", "output") if key not in names]:
        raise InputError(
            f"column_map does not set {' and '.join(missing)}; {source} has the columns "
            f"{', '.join(columns)}"
        )
    read = {key: name for key, name in names.items() if name in columns}
    unread = "" if "input" in read or "input" not in columns else "; input is not read"
    form = _with_note(read)
    return replace(form, note=(form.note + unread).removeprefix("; "))


def _with_note(names: dict[str, str]) -> RowFormat:
    note = ", ".join(f"{name} is {key}" for key, name in names.items() if name != key)
    return RowFormat(names, note=note)


def _describe_unknown(source: str, columns: Sequence[str], lower: Names) -> str:
    tasks, responses = (dict.fromkeys(names) for names in zip(*COLUMN_PAIRS, strict=True))
    task = next((lower[name] for name in tasks if name in lower), "COLUMN")
    response = next((lower[name] for name in reversed(responses) if name in lower), "COLUMN")
    return (
        f"{source} has the columns {', '.join(columns[:20])}, and it is not clear which contain "
        f"the task and the response; set --column_map '{{instruction: {task}, output: {response}}}'"
    )


def _read_turns(turns: Any) -> dict[str, Any] | UnreadableRecord:
    """Return the fields of a conversation with one user and one assistant turn."""
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return UnreadableRecord("has no list of turns")
    pairs: list[tuple[str, Any]] = []
    for turn in turns:
        speaker = turn.get("role", turn.get("from"))
        content = turn.get("content", turn.get("value"))
        if isinstance(content, list) and all(
            isinstance(part, dict) and isinstance(part.get("text"), str) for part in content
        ):
            content = "".join(part["text"] for part in content)
        pairs.append((ROLES_BY_SPEAKER.get(str(speaker).lower(), str(speaker)), content))
    if pairs and pairs[0][0] == "system":
        pairs = pairs[1:]
    roles = [role for role, _ in pairs]
    if roles != ["user", "assistant"]:
        return UnreadableRecord(
            f"has the turns {', '.join(roles) or 'none'}; only one question (user) with one "
            "answer (assistant) makes a row"
        )
    return {"instruction": pairs[0][1], "input": "", "output": pairs[1][1]}


def _read_instances(instances: Any) -> dict[str, Any] | UnreadableRecord:
    if not isinstance(instances, list) or len(instances) != 1 or not isinstance(instances[0], dict):
        count = len(instances) if isinstance(instances, list) else "no"
        return UnreadableRecord(f"has {count} instances; write one record for each")
    return {"input": instances[0].get("input"), "output": instances[0].get("output")}


def is_null(value: Any) -> bool:
    """Return whether a value is None, or NaN as in tables."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def contains_reasoning(text: str) -> bool:
    """Return whether a response contains reasoning between `<think>` tags."""
    return bool(REASONING.search(text))


def is_unicode(text: str) -> bool:
    """Return whether a text is valid Unicode: JSON escapes can encode lone surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _type_name(value: Any) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", list: "a list",
             dict: "an object", bytes: "bytes"}  # fmt: skip
    return names.get(type(value), f"a {type(value).__name__}")
