"""From a teacher's text to candidate rows; what cannot be used leaves with a reason.

Nothing is ever guessed: every field of a candidate stands in the reply as it is, and a record
that is broken loses itself alone, or itself and what follows where its end cannot be known.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from code_alpaca.core.reasoning import strip_reasoning
from code_alpaca.core.schema import Example, is_unicode
from code_alpaca.curation.guard import INTERNAL_ERROR, describe_failure
from code_alpaca.curation.language_detection import detect_language
from code_alpaca.generation.headings import split_records
from code_alpaca.teacher.reply_parsing import ParsedReply

# Blanks at the start of a line alone: an answer may be a hundred thousand line breaks.
KEY = r'"(?:instruction|input|output|language|tests)"\s*:'
TASKS = re.compile(
    rf'"tasks"\s*:\s*\[|"\w{{1,40}}"\s*:\s*\[\s*(?=\{{\s*{KEY})|'
    rf"^[ \t]*\[\s*(?=\{{)|^(?=[ \t]*\{{\s*{KEY})",
    re.MULTILINE | re.IGNORECASE,
)
LATER_TASKS = re.compile(r'"tasks"\s*:\s*\[\s*(?=\{)', re.IGNORECASE)
JOINED = re.compile(r"\s*\]\s*\}[\s,]*\{\s*")  # between two lists: nothing but new objects
JSON_VALUE = re.compile(r'^[ \t]*(?=[\[{"])', re.MULTILINE)
BLANK = re.compile(r"[\s,]*")
# What may follow a record that names only some of its keys: within a list, and without one.
NEXT_IN_LIST = re.compile(r"\s*(?:[,\]{]|\Z)")
NEXT_ALONE = re.compile(r"[ \t]*(?:[,\]{`\n]|\Z)")
OTHER_VALUE = re.compile(r'"|null|true|false|-?\d')  # in a list of records: malformed alone
# A string, or else a comma with nothing but the end of its object or list behind it.
TRAILING_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])', re.DOTALL)
BOM = "\ufeff"
NO_INPUT = ("", "<noinput>")
KEPT_CHARACTERS = 2_000
MOST_TRIES = 20  # places of a reply at which its JSON is read
LONGEST_LANGUAGE = 40  # characters; what is longer names no language


class Task(BaseModel):
    """One task as a teacher writes it: the schema that it is held to, and what is read back.

    Only `instruction` and `output` are needed. Servers that take no JSON schema leave the others
    out, or write null or another type; that loses nothing but the key itself.
    """

    model_config = ConfigDict(extra="ignore")

    instruction: str
    input: str = ""
    output: str
    language: str | None = None  # None: it is inferred
    tests: str = ""

    @field_validator("input", mode="before")
    @classmethod
    def _data_as_text(cls, value: Any) -> str:
        if isinstance(value, str):
            return value
        return "" if value is None else json.dumps(value, ensure_ascii=False)

    @field_validator("language", mode="before")
    @classmethod
    def _language_name(cls, value: Any) -> str | None:
        return value if isinstance(value, str) and len(value) <= LONGEST_LANGUAGE else None

    @field_validator("tests", mode="before")
    @classmethod
    def _lines_of_tests(cls, value: Any) -> str:
        if isinstance(value, list) and all(isinstance(line, str) for line in value):
            return "\n".join(value)
        return value if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One record of a reply. `reason` is "" where it is usable as it stands."""

    instruction: str = ""
    input: str = ""
    output: str = ""
    language: str = ""
    tests: str = ""
    reason: str = ""


def schema(count: int) -> dict[str, Any]:
    """The strict JSON schema of `count` tasks.

    OpenAI's strict mode wants every key required and no others
    (https://platform.openai.com/docs/guides/structured-outputs).
    """
    keys = list(Task.model_fields)
    task = {
        "type": "object",
        "properties": {key: {"type": "string"} for key in keys},
        "required": keys,
        "additionalProperties": False,
    }
    tasks = {"type": "array", "items": task, "minItems": count, "maxItems": count}
    return {
        "type": "object",
        "properties": {"tasks": tasks},
        "required": ["tasks"],
        "additionalProperties": False,
    }


def parse_json(answer: ParsedReply) -> list[Candidate]:
    """The candidates in an answer that was asked for as JSON, in order; at least one.

    Every complete record is kept, also beyond the number that was asked for: it was paid for, and
    the same rules decide it. Reasoning before the answer is not part of it. Where a reply holds
    several lists of tasks, the last one is the answer and those before it are drafts, unless
    nothing stands between them.

    Reasons: `no_reply` (no text in it), `refusal`, `truncated` (cut at the token limit),
    `malformed` (not the JSON that was asked for), `not_text` (half a surrogate pair).
    Never raises.
    """
    if (early := unusable(answer)) is not None:
        return [early]
    text, rest = strip_reasoning(answer.text), "truncated" if answer.truncated else "malformed"
    if answer.text.strip() and not text.strip():
        return [dropped(answer.text, "truncated" if answer.truncated else "no_reply")]
    candidates: list[Candidate] = []
    start, remaining, at = TASKS.search(text), text, 0
    for _ in range(MOST_TRIES):  # an answer may be a megabyte of brackets
        if start is None:
            break
        joined = bool(candidates) and JOINED.fullmatch(remaining, at, start.start())
        found, remaining, at = _read_list(
            remaining, start, cut=answer.truncated, repaired=remaining is not text
        )
        if joined:
            candidates += found
        elif not candidates or not all(each.reason == "malformed" for each in found):
            candidates = found
        start = LATER_TASKS.search(remaining, at)
    if all(each.reason == "malformed" for each in candidates):
        candidates = _records_within(text) or candidates
    if candidates:
        return candidates
    if rest == "malformed" and text.strip() and "{" not in text:
        rest = "refusal"  # prose instead of JSON is most often the teacher declining
    return [dropped(text, rest)]


def _read_list(
    text: str, start: re.Match[str], *, cut: bool, repaired: bool
) -> tuple[list[Candidate], str, int]:
    """The candidates of the list that begins at `start`, and the text and place behind them.

    Args:
        repaired: trailing commas are removed already.
    """
    rest = "truncated" if cut else "malformed"
    decoder = json.JSONDecoder(strict=False)  # a raw line break inside a string loses nothing
    candidates: list[Candidate] = []
    at = start.end()
    listed = "[" in start[0]  # else one object after the other, and talk may follow
    while True:
        at = _skip(BLANK, text, at)
        if not text.startswith("{", at) and not (listed and OTHER_VALUE.match(text, at)):
            if text.startswith("]", at) or (candidates and not listed and not cut):
                return candidates or [dropped(text, "malformed")], text, at
            return [*candidates, dropped(text[at:], rest)], text, at
        try:
            record, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):  # also an integer of thousands of digits
            if repaired:
                return [*candidates, dropped(text[at:], rest)], text, at
            text, at, repaired = TRAILING_COMMA.sub(r"\1", text[at:]), 0, True
            continue
        ends = (NEXT_IN_LIST if listed else NEXT_ALONE).match(text, end) is not None
        candidates.append(_from_record(record, text[at:end], ends))
        at = end


def _records_within(text: str) -> list[Candidate]:
    """The records anywhere inside the JSON values that open a line of the text, in order.

    Some models key the tasks by number, wrap each in an object, put other keys first, or write
    the JSON into a JSON string.
    """
    decoder = json.JSONDecoder(strict=False)
    candidates: list[Candidate] = []
    end = 0
    for opening in islice(JSON_VALUE.finditer(text), MOST_TRIES):
        if opening.start() < end:
            continue
        try:
            value, end = decoder.raw_decode(text, opening.end())
        except (ValueError, RecursionError):
            continue
        waiting = [value] if NEXT_ALONE.match(text, end) else []  # else it was closed early
        while waiting:
            value = waiting.pop()
            if isinstance(value, str) and LATER_TASKS.search(value):
                with contextlib.suppress(ValueError, RecursionError):
                    waiting.append(decoder.decode(value))
            elif isinstance(value, list):
                waiting += reversed(value)
            elif isinstance(value, dict):
                if {"instruction", "output"} <= {str(key).strip().lower() for key in value}:
                    candidates.append(_from_record(value, str(value), ends=True))
                else:
                    waiting += reversed(value.values())
    return candidates


def parse_numbered(answer: ParsedReply, prefix: str = "") -> list[Candidate]:
    """The candidates in numbered text (`1. Instruction:`, `1. Input:`, `1. Output:`).

    How records are found, whatever their numbers, is written in `headings`. Every complete record
    is kept, also beyond the number that was asked for, and the language of each is inferred. The
    last record of a reply that was cut is dropped: nobody knows what its answer lacks.

    Args:
        prefix: the end of the prompt that the answer continues.
    """
    if (early := unusable(answer)) is not None:
        return [early]
    text = strip_reasoning(answer.text.removeprefix(BOM).replace("\r\n", "\n"))
    blocks = split_records(text, prefix)
    if not blocks:
        return [dropped(answer.text, "truncated" if answer.truncated else "malformed")]
    candidates = []
    for block in blocks:
        if answer.truncated and block is blocks[-1]:
            candidates.append(dropped(block.text, "truncated"))
        elif block.fields is None:
            candidates.append(dropped(block.text, "malformed"))
        else:
            instruction, given, output = block.fields
            candidates.append(_clean(Task(instruction=instruction, input=given, output=output)))
    return candidates


def unusable(answer: ParsedReply) -> Candidate | None:
    if not answer.readable:
        return Candidate(reason="no_reply")
    return dropped(answer.refusal, "refusal") if answer.refusal else None


def _from_record(record: Any, text: str, ends: bool) -> Candidate:
    """The candidate of one JSON object.

    Args:
        ends: whether something follows that can stand behind a record. Broken JSON can close an
            object early, inside its "output"; both this and the missing keys show it.
    """
    try:
        named = {str(key).strip().lower(): value for key, value in record.items()} | record
        task = Task.model_validate(named)
        if not (ends or set(Task.model_fields) <= named.keys()):
            return dropped(text, "malformed")
        return _clean(task)
    except (ValidationError, ValueError, RecursionError, AttributeError):
        return dropped(text, "malformed")


def _clean(task: Task) -> Candidate:
    values = {
        "instruction": task.instruction.strip(),
        "input": "" if task.input.strip().lower() in NO_INPUT else task.input,
        "output": task.output,
        "tests": task.tests,
    }
    if task.language is None:
        values["language"] = detect_language(
            Example(values["instruction"], values["input"], values["output"])
        )
    else:
        values["language"] = task.language.strip().lower()
    if all(is_unicode(value) for value in values.values()):
        return Candidate(**values)
    return Candidate(**{key: _printable(value) for key, value in values.items()}, reason="not_text")


def _skip(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def dropped(text: str, reason: str) -> Candidate:
    return Candidate(output=_printable(text[:KEPT_CHARACTERS]), reason=reason)


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def guarded_parse(
    parse: Callable[[ParsedReply], list[Candidate]],
) -> Callable[[ParsedReply], list[Candidate]]:
    """Wrap a parser so that a reply it fails on becomes one rejected candidate."""

    def parsed(answer: ParsedReply) -> list[Candidate]:
        try:
            return parse(answer)
        except Exception as error:
            failure = describe_failure(error)
            return [dropped(f"this reply could not be read: {failure}", INTERNAL_ERROR)]

    return parsed
