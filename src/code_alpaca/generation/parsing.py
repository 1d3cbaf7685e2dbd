"""From a raw reply to candidate rows; what cannot be used leaves with a reason.

A cut reply keeps its complete records: each object of the "tasks" list is decoded on its
own, so a broken one loses itself alone and nothing is ever guessed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

# All of them must be there: broken JSON can close an object early, inside its "output".
KEYS = ("instruction", "input", "output", "language", "tests")
NULLABLE = ("input", "language", "tests")
TASKS = re.compile(r'"tasks"\s*:\s*\[|^\s*\[')
BLANK = re.compile(r"[\s,]*")
KEPT_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """One record of a reply. `reason` is "" where it is usable as it stands."""

    instruction: str = ""
    input: str = ""
    output: str = ""
    language: str = ""
    tests: str = ""
    reason: str = ""


def parse_reply(body: dict[str, Any]) -> list[Candidate]:
    """The candidates in a chat reply, in order; at least one, if only to hold the reason.

    Reasons: `no_reply` (not the API's shape), `refusal`, `truncated` (cut at the token limit),
    `malformed` (not the JSON that was asked for). Never raises.
    """
    try:
        choice = body["choices"][0]
        message = choice["message"]
        content = message.get("content") or ""
        refused = message.get("refusal")
        cut = choice.get("finish_reason") == "length"
    except (KeyError, IndexError, TypeError, AttributeError):
        return [Candidate(output=json.dumps(body)[:KEPT_CHARACTERS], reason="no_reply")]
    if refused:
        return [_dropped(str(refused), "refusal")]
    if not isinstance(content, str):
        return [_dropped(json.dumps(content), "malformed")]
    return parse_tasks(content, "truncated" if cut else "malformed")


def parse_tasks(content: str, rest: str) -> list[Candidate]:
    """The records of a `{"tasks": [...]}` text; what follows the last whole one becomes `rest`."""
    start = TASKS.search(content)
    if start is None:
        return [_dropped(content, rest if rest == "truncated" else _no_json(content))]
    decoder = json.JSONDecoder()
    candidates = []
    at = start.end()
    while True:
        at = BLANK.match(content, at).end()  # type: ignore[union-attr] - matches always
        if content.startswith("]", at):
            return candidates or [_dropped(content, "malformed")]
        try:
            record, at = decoder.raw_decode(content, at)
        except (json.JSONDecodeError, RecursionError):
            return [*candidates, _dropped(content[at:], rest)]
        candidates.append(_candidate(record))


def _candidate(record: Any) -> Candidate:
    if not isinstance(record, dict):
        return _dropped(json.dumps(record), "malformed")
    if not all(key in record for key in KEYS):
        return _dropped(json.dumps(record), "malformed")
    values = {key: record[key] for key in KEYS}
    values.update({key: "" for key in NULLABLE if values[key] is None})
    if not all(isinstance(value, str) for value in values.values()):
        return _dropped(json.dumps(record), "malformed")
    values["instruction"] = values["instruction"].strip()
    values["language"] = values["language"].strip().lower()
    if not values["input"].strip() or values["input"].strip().lower() == "<noinput>":
        values["input"] = ""
    reason = "" if all(_encodable(value) for value in values.values()) else "not_text"
    if reason:
        values = {key: _printable(value) for key, value in values.items()}
    return Candidate(**values, reason=reason)


def _no_json(content: str) -> str:
    """Prose instead of JSON is most often the teacher declining."""
    return "refusal" if content.strip() and "{" not in content else "malformed"


def _dropped(text: str, reason: str) -> Candidate:
    return Candidate(output=_printable(text[:KEPT_CHARACTERS]), reason=reason)


def _encodable(text: str) -> bool:
    """Lone surrogates are legal in JSON and in no file."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
