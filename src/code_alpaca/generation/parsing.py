"""From a teacher's text to candidate rows; what cannot be used leaves with a reason.

Nothing is ever guessed: every field of a candidate stands in the reply as it is, and a record
that is broken loses itself alone, or itself and what follows where its end cannot be known.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from code_alpaca.schema import is_unicode
from code_alpaca.teacher.apis import Answer

# Blanks at the start of a line alone: an answer may be a hundred thousand line breaks.
TASKS = re.compile(
    r'"tasks"\s*:\s*\[|^[ \t]*\[\s*(?=\{)|^(?=[ \t]*\{\s*"instruction")', re.MULTILINE
)
BLANK = re.compile(r"[\s,]*")
# A string, or else a comma with nothing but the end of its object or list behind it.
TRAILING_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])', re.DOTALL)
HEADING = re.compile(r"^[ \t]*(\d+)\.[ \t]+(Instruction|Input|Output):", re.MULTILINE)
SEPARATOR = re.compile(r"#{2,}")
BOM = "\ufeff"
NO_INPUT = ("", "<noinput>")
KEPT_CHARACTERS = 2_000


class Task(BaseModel):
    """One task as a teacher writes it: the schema that it is held to, and what is read back."""

    model_config = ConfigDict(extra="ignore")

    instruction: str
    input: str | None
    output: str
    language: str | None
    tests: str | None


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


def parse_json(answer: Answer) -> list[Candidate]:
    """The candidates in an answer that was asked for as JSON, in order; at least one.

    Reasons: `no_reply` (no text in it), `refusal`, `truncated` (cut at the token limit),
    `malformed` (not the JSON that was asked for). Never raises.
    """
    if (early := unusable(answer)) is not None:
        return [early]
    text, rest = answer.text, "truncated" if answer.cut else "malformed"
    start = TASKS.search(text)
    if start is None:
        if rest == "malformed" and text.strip() and "{" not in text:
            rest = "refusal"  # prose instead of JSON is most often the teacher declining
        return [dropped(text, rest)]
    decoder = json.JSONDecoder(strict=False)  # a raw line break inside a string loses nothing
    candidates: list[Candidate] = []
    at, repaired = start.end(), False
    listed = "[" in start[0]  # else one object after the other, and talk may follow
    while True:
        at = _skip(BLANK, text, at)
        if not text.startswith("{", at):
            if text.startswith("]", at) or (candidates and not listed and not answer.cut):
                return candidates or [dropped(text, "malformed")]
            return [*candidates, dropped(text[at:], rest)]
        try:
            record, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):  # also an integer of thousands of digits
            if repaired:
                return [*candidates, dropped(text[at:], rest)]
            text, at, repaired = TRAILING_COMMA.sub(r"\1", text[at:]), 0, True
            continue
        candidates.append(_from_record(record))


def parse_numbered(answer: Answer, prefix: str = "") -> list[Candidate]:
    """The candidates in numbered text (`1. Instruction:`, `1. Input:`, `1. Output:`).

    A record is three headings of one number in this order; its answer ends at the next
    record's first heading, whose number must be higher. So a `###` line, "20." or a heading of
    another kind inside an answer stays in it, and skipped numbers do no harm.

    Args:
        prefix: the end of the prompt that the answer continues.
    """
    if (early := unusable(answer)) is not None:
        return [early]
    text = prefix + answer.text.removeprefix(BOM).replace("\r\n", "\n")
    headings = [
        (match.start(), match.end(), int(match[1]), match[2]) for match in HEADING.finditer(text)
    ]
    starts: list[int] = []  # places in `headings` where a record begins
    last = -1
    for place, (_, _, number, kind) in enumerate(headings):
        if kind == "Instruction" and number > last:
            starts.append(place)
            last = number
    if not starts:
        return [dropped(answer.text, "truncated" if answer.cut else "malformed")]
    candidates = []
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        end = len(text) if following is None else headings[following][0]
        within = headings[start:following]
        cut = answer.cut and following is None
        candidates.append(_from_block(text, within, end, cut))
    return candidates


def _from_block(
    text: str, headings: list[tuple[int, int, int, str]], end: int, cut: bool
) -> Candidate:
    number = headings[0][2]
    places = [headings[0]]
    for kind in ("Input", "Output"):
        later = [h for h in headings if h[2] == number and h[3] == kind and h[0] > places[-1][0]]
        if not later:
            body = text[headings[0][0] : end]
            return dropped(body, "truncated" if cut else "malformed")
        places.append(later[0])
    if cut:
        return dropped(text[headings[0][0] : end], "truncated")
    ends = [places[1][0], places[2][0], end]
    instruction, given, output = (
        text[place[1] : stop] for place, stop in zip(places, ends, strict=True)
    )
    output = output.rstrip()
    before, _, last = output.rpartition("\n")
    output = (before if SEPARATOR.fullmatch(last) else output).rstrip().lstrip("\n")
    return _clean(
        Task(
            instruction=instruction,
            input=given.strip(),
            output=output.lstrip(" "),
            language="",
            tests="",
        )
    )


def unusable(answer: Answer) -> Candidate | None:
    if not answer.readable:
        return Candidate(reason="no_reply")
    return dropped(answer.refusal, "refusal") if answer.refusal else None


def _from_record(record: Any) -> Candidate:
    """All keys must be there: broken JSON can close an object early, inside its "output"."""
    try:
        return _clean(Task.model_validate(record))
    except ValidationError:
        return dropped(json.dumps(record), "malformed")


def _clean(task: Task) -> Candidate:
    given = task.input or ""
    values = {
        "instruction": task.instruction.strip(),
        "input": "" if given.strip().lower() in NO_INPUT else given,
        "output": task.output,
        "language": (task.language or "").strip().lower(),
        "tests": task.tests or "",
    }
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
