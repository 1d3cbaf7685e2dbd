"""Detect the form of a dataset's records and read each as instruction, input and output.

Known forms: Alpaca columns (in any case), conversations (`messages`, ShareGPT's `conversations`,
prompts and completions that are messages), Self-Instruct seed tasks (`instances`), and the columns
in COLUMN_PAIRS. Others need a `column_map`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Annotated, Any

from pydantic import BeforeValidator

from code_alpaca.core.conversations import (
    Turn,
    alternate,
    join_prompt_and_completion,
    parse_history,
    parse_turns,
    question_and_answer,
)
from code_alpaca.core.errors import InputError
from code_alpaca.core.json_records import UnreadableRecord
from code_alpaca.core.prompts import user_message

Names = Mapping[str, str]  # field -> column
Record = Mapping[str, Any]
ALPACA = ("instruction", "input", "output")
# Fields that a column_map may set: the Alpaca fields, and a row's provenance.
TARGET_COLUMNS = (
    *ALPACA, "id", "language", "strategy", "teacher", "prompt_version", "request_id", "tests",
)  # fmt: skip
MESSAGES = "messages"  # what a column_map may set instead of the Alpaca fields
COLUMN_PAIRS = (
    ("problem", "solution"),
    ("prompt", "completion"), ("prompt", "response"),
    ("instruction", "response"), ("instruction", "completion"),
    ("question", "answer"), ("question", "response"),
    ("query", "answer"), ("query", "response"),
)  # fmt: skip
FALLBACK_PAIR = ("input", "output")  # only without one above: a problem may have a sample of both
INPUT_COLUMNS = ("input", "context")
CHAT_FORMS = {"messages": "chat", "conversations": "ShareGPT", "conversation": "ShareGPT"}
SYSTEM_COLUMNS = ("system", "system_prompt")
HISTORY_COLUMN = "history"
# Words in the names of columns, for the column_map that an error message proposes.
TASK_WORDS = ("instruction", "prompt", "problem", "question", "query", "task", "input", "request",
              "description", "text")  # fmt: skip
RESPONSE_WORDS = ("output", "completion", "response", "solution", "answer", "code", "chosen",
                  "reply", "target")  # fmt: skip
MAX_LISTED_COLUMNS = 20
REASONING = re.compile(
    r"\A\s*<(think|thinking|reasoning)>|^[ \t]*</(think|thinking|reasoning)>", re.MULTILINE
)
SAMPLE_SIZE = 1_000  # records that are read to detect the form


def _parse_column_map(value: Any) -> Any:
    """Read a `column_map` given as `{instruction: problem}` or `instruction=problem,...`."""
    if isinstance(value, str):
        pairs = [part.strip() for part in value.strip().strip("{}").split(",") if part.strip()]
        split = [re.split(r"\s*[:=]\s*", part, maxsplit=1) for part in pairs]
        if any(len(part) != 2 for part in split):
            raise ValueError("not a map of columns like {instruction: problem, output: solution}")
        value = {key.strip("'\""): name.strip("'\"") for key, name in split} or None
    for key in value if isinstance(value, dict) else ():
        if key not in (*TARGET_COLUMNS, MESSAGES):
            raise ValueError(
                f"no field {key!r}; a column_map may name {', '.join(TARGET_COLUMNS)}, or "
                f"{MESSAGES} for a column of conversations"
            )
    return value


ColumnMap = Annotated[dict[str, str] | None, BeforeValidator(_parse_column_map)]


@dataclass(frozen=True, slots=True)
class RowFormat:
    """How the records of a dataset become rows."""

    name: str = "Alpaca"
    columns: Names = field(default_factory=dict)
    chat: str = ""  # the column of conversations, instead of `columns`
    instances: str = ""  # the column of Self-Instruct instances, instead of input and output
    system: str = ""  # the column of system prompts, which are not read
    history: str = ""  # the column of earlier turns
    has_messages: bool = False  # whether prompts or completions are lists of messages
    first_turn: bool = False  # keep the first question and answer of a longer conversation
    note: str = ""  # what the columns are; empty for plain Alpaca columns

    @property
    def plain(self) -> bool:
        """Whether all of a row is in the columns of Alpaca."""
        return not (self.chat or self.instances or self.has_turns) and all(
            self.columns.get(key) == key for key in ALPACA
        )

    @property
    def has_turns(self) -> bool:
        """Whether a record can have several turns or a system prompt."""
        return bool(self.chat or self.history or self.system or self.has_messages)

    @property
    def read_columns(self) -> set[str]:
        """The columns of a record that its row comes from, besides those with a field's name."""
        return {*self.columns.values(), self.chat, self.instances, self.history} - {""}

    def describe(self) -> str:
        """Return the name of the form, and which columns it reads."""
        return f"{self.name} form" + (f" ({self.note})" if self.note else "")

    def row(self, record: Any) -> dict[str, Any] | UnreadableRecord:
        """Return a record as a row: the Alpaca fields, and its other keys unchanged.

        Null and NaN become "" in `input` and None in `instruction` and `output`.
        """
        if isinstance(record, UnreadableRecord):
            return record
        if not isinstance(record, dict):
            return UnreadableRecord("is not a JSON object")
        fields = self._fields(record)
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

    def system_prompt(self, record: Any) -> str:
        """Return the system prompt of a record, which its row does not contain; "" for none."""
        if not isinstance(record, dict):
            return ""
        text = record.get(self.system) if self.system else ""
        turns = self._turns(record)
        if not text and turns and turns[0].role == "system":
            text = turns[0].content
        return text if isinstance(text, str) and text.strip() else ""

    def conversation(self, record: Any) -> list[dict[str, str]] | UnreadableRecord:
        """Return all turns of a record as messages, with its system prompt."""
        row = replace(self, first_turn=True).row(record)
        if isinstance(row, UnreadableRecord):
            return row
        turns = self._turns(record)
        if turns is None or self.first_turn:
            turns = [
                Turn("user", user_message(row["instruction"] or "", row["input"])),
                Turn("assistant", row["output"] or ""),
            ]
        if (system := self.system_prompt(record)) and turns[0].role != "system":
            turns = [Turn("system", system), *turns]
        return alternate(turns)

    def _fields(self, record: Record) -> dict[str, Any] | UnreadableRecord:
        fields = {key: record[name] for key, name in self.columns.items() if name in record}
        if self.instances:
            instance = _read_instances(record.get(self.instances))
            return instance if isinstance(instance, UnreadableRecord) else fields | instance
        turns = self._turns(record)
        if turns is None:
            return UnreadableRecord("has no list of turns") if self.chat else fields
        turn = question_and_answer(turns, first_turn=self.first_turn)
        return turn if isinstance(turn, UnreadableRecord) else fields | turn

    def _turns(self, record: Record) -> list[Turn] | None:
        """Return the conversation in a record; None if it has none."""
        if self.chat:
            return parse_turns(record.get(self.chat))
        task, response = (
            record.get(self.columns.get(key, key)) for key in ("instruction", "output")
        )
        if self.history and (earlier := parse_history(record.get(self.history))):
            input = record.get(self.columns.get("input", "input"))
            if isinstance(task, str) and isinstance(input, str):
                task = user_message(task, input)
            return [*earlier, Turn("user", task), Turn("assistant", response)]
        return join_prompt_and_completion(task, response)


def detect_format(records: Iterable[Any], column_map: Names | None, source: str) -> RowFormat:
    """Return the form of a dataset, from its first records.

    A `column_map` overrides every known form. `source` is the name of the dataset in messages.

    Raises:
        InputError: the columns match no known form or several, or lack one of `column_map`.
    """
    sample = [record for record in islice(records, SAMPLE_SIZE) if isinstance(record, dict)]
    columns = list(dict.fromkeys(str(key) for record in sample for key in record))
    if column_map:
        form = _apply_column_map(columns, column_map, source)
    else:
        form = _detect_columns(columns)
    if form is None:
        raise InputError(_describe_unknown(source, columns, sample))
    return _detect_turns(form, columns, sample)


def _detect_columns(columns: Sequence[str]) -> RowFormat | None:
    """Return the form that has these columns; None if there is none, or several."""
    if not columns or ("instruction" in columns and "output" in columns):
        return RowFormat(columns={key: key for key in ALPACA})
    lower = {column.strip().lower(): column for column in columns}
    if "instruction" in lower and "output" in lower:
        return _with_note("Alpaca", {key: lower[key] for key in ALPACA if key in lower})
    for chat, name in CHAT_FORMS.items():
        if chat in columns:
            return RowFormat(name, chat=chat, note=chat)
    if "instruction" in columns and "instances" in columns:
        names = {"instruction": "instruction"}
        return RowFormat("Self-Instruct", names, instances="instances", note="instances")
    pairs = [pair for pair in COLUMN_PAIRS if set(pair) <= lower.keys()]
    # Beside an instruction, `prompt` is often the text that the teacher was sent.
    pairs = [pair for pair in pairs if pair[0] == "instruction"] or pairs
    if not pairs and set(FALLBACK_PAIR) <= lower.keys() and "instruction" not in lower:
        pairs = [FALLBACK_PAIR]
    if len(pairs) == 1:
        instruction, output = pairs[0]
        names = {"instruction": lower[instruction], "output": lower[output]}
        inputs = [lower[name] for name in INPUT_COLUMNS if name in lower and name != instruction]
        return _with_note("/".join(pairs[0]), names | ({"input": inputs[0]} if inputs else {}))
    if not pairs and ("instruction" in columns or "output" in columns):
        return RowFormat(columns={key: key for key in ALPACA})  # each row reports what it lacks
    return None


def _detect_turns(form: RowFormat, columns: Sequence[str], sample: Sequence[Record]) -> RowFormat:
    """Return a form with the columns of system prompts and earlier turns, if there are any."""
    unread = [column for column in columns if column not in form.read_columns]
    system = next((name for name in SYSTEM_COLUMNS if name in unread), "")
    has_history = any(isinstance(record.get(HISTORY_COLUMN), list) for record in sample)
    history = HISTORY_COLUMN if HISTORY_COLUMN in unread and has_history else ""
    task, response = (form.columns.get(key, "") for key in ("instruction", "output"))
    has_messages = any(
        join_prompt_and_completion(record.get(task), record.get(response)) for record in sample
    )
    return replace(form, system=system, history=history, has_messages=has_messages)


def _apply_column_map(columns: Sequence[str], column_map: Names, source: str) -> RowFormat:
    for key, name in column_map.items():
        if name not in columns and name not in ("", "none", "null"):
            raise InputError(
                f"column_map: {source} has no column {name!r} for {key}; it has "
                f"{', '.join(columns)}"
            )
    if MESSAGES in column_map:
        return _apply_message_map(column_map)
    names = {key: key for key in ALPACA if key in columns} | dict(column_map)
    if missing := [key for key in ("instruction", "output") if key not in names]:
        raise InputError(
            f"column_map does not set {' and '.join(missing)}; {source} has the columns "
            f"{', '.join(columns)}"
        )
    read = {key: name for key, name in names.items() if name in columns}
    unread = "" if "input" in read or "input" not in columns else "; input is not read"
    form = _with_note("mapped", read)
    return replace(form, note=(form.note + unread).removeprefix("; "))


def _apply_message_map(column_map: Names) -> RowFormat:
    names = dict(column_map)
    chat = names.pop(MESSAGES)
    if both := [key for key in ALPACA if key in names]:
        raise InputError(
            f"column_map sets {MESSAGES} and {both[0]}, which is a part of them; remove one"
        )
    return RowFormat("chat", names, chat=chat, note=chat)


def _with_note(name: str, columns: dict[str, str]) -> RowFormat:
    note = ", ".join(f"{column} is {key}" for key, column in columns.items() if column != key)
    return RowFormat(name, columns, note=note)


def _describe_unknown(source: str, columns: Sequence[str], sample: Sequence[Record]) -> str:
    more = ", ..." if len(columns) > MAX_LISTED_COLUMNS else ""
    found = f"{source} has the columns {', '.join(columns[:MAX_LISTED_COLUMNS])}{more}"
    for column in columns:
        if any(parse_turns(record.get(column)) for record in sample):
            return (
                f"{found}; to read {column} as conversations, set "
                f"--column_map '{{messages: {column}}}'"
            )
    task = _guess_column(columns, TASK_WORDS)
    response = _guess_column([name for name in columns if name != task], RESPONSE_WORDS)
    return (
        f"{found}, and it is not clear which contain the task and the response; set --column_map "
        f"'{{instruction: {task}, output: {response}}}'"
    )


def _guess_column(columns: Sequence[str], words: Sequence[str]) -> str:
    """Return the column whose name is, or else contains, the first word; COLUMN if none does."""
    for matches in (str.__eq__, str.__contains__):
        for word in words:
            for column in columns:
                if matches(column.lower(), word):
                    return column
    return "COLUMN"


def _read_instances(instances: Any) -> dict[str, Any] | UnreadableRecord:
    if not isinstance(instances, list) or len(instances) != 1 or not isinstance(instances[0], dict):
        count = len(instances) if isinstance(instances, list) else "no"
        return UnreadableRecord(f"has {count} instances; write one record for each")
    return {"input": instances[0].get("input"), "output": instances[0].get("output")}


def join_statements(value: Any) -> Any:
    """Return tests that are a list of statements, as in MBPP, as text; others unchanged."""
    if isinstance(value, list) and all(isinstance(i, str) and is_unicode(i) for i in value):
        return "\n".join(value)
    return value


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
