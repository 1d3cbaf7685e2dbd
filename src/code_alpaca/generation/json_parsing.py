"""Parse the tasks in a reply that was requested as JSON.

Models and servers deviate from the schema: prose and fences around the JSON, several lists, other
key names, trailing commas, truncation. No paid record is lost to that.
"""

from __future__ import annotations

import contextlib
import json
import re
from itertools import islice
from typing import Any

from pydantic import ValidationError

from code_alpaca.core.reasoning import strip_reasoning
from code_alpaca.generation.candidates import (
    Candidate,
    GeneratedTask,
    build_candidate,
    reject_reply,
    reject_text,
)
from code_alpaca.teacher.reply_parsing import ParsedReply

# Only blanks at the start of a line: a reply may be a hundred thousand line breaks.
KEY = r'"(?:instruction|input|output|language|tests)"\s*:'
LIST_START = re.compile(
    rf'"tasks"\s*:\s*\[|"\w{{1,40}}"\s*:\s*\[\s*(?=\{{\s*{KEY})|'
    rf"^[ \t]*\[\s*(?=\{{)|^(?=[ \t]*\{{\s*{KEY})",
    re.MULTILINE | re.IGNORECASE,
)
LATER_LIST_START = re.compile(r'"tasks"\s*:\s*\[\s*(?=\{)', re.IGNORECASE)
BETWEEN_JOINED_LISTS = re.compile(r"\s*\]\s*\}[\s,]*\{\s*")
JSON_VALUE = re.compile(r'^[ \t]*(?=[\[{"])', re.MULTILINE)
SEPARATOR = re.compile(r"[\s,]*")
# What may follow a record that names only some of its keys: in a list, and outside of one.
NEXT_IN_LIST = re.compile(r"\s*(?:[,\]{]|\Z)")
NEXT_ALONE = re.compile(r"[ \t]*(?:[,\]{`\n]|\Z)")
OTHER_VALUE = re.compile(r'"|null|true|false|-?\d')  # in a list of records: malformed alone
# A string, or else a comma followed only by the end of its object or list.
TRAILING_COMMA = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])', re.DOTALL)
MAX_ATTEMPTS = 20  # places of a reply at which JSON is parsed: it may be a megabyte of brackets


def parse_json(reply: ParsedReply) -> list[Candidate]:
    """Return the candidates in a reply, in order and at least one. Never raises.

    Every complete record is kept, also beyond the requested number, since it was paid for. Of
    several lists of tasks the last one is the result, unless nothing separates them.

    Rejected with a reason: `no_reply` (no text), `refusal`, `truncated` (at the token limit),
    `malformed` (other than the requested JSON), `not_text` (half a surrogate pair).
    """
    if (rejected := reject_reply(reply)) is not None:
        return [rejected]
    text = strip_reasoning(reply.text)
    if reply.text.strip() and not text.strip():
        return [reject_text(reply.text, "truncated" if reply.truncated else "no_reply")]
    candidates = _parse_lists(text, truncated=reply.truncated)
    if _all_malformed(candidates):
        candidates = _find_records(text) or candidates
    if candidates:
        return candidates
    # Prose instead of JSON is most often a refusal.
    reason = "refusal" if text.strip() and "{" not in text else "malformed"
    return [reject_text(text, "truncated" if reply.truncated else reason)]


def _parse_lists(text: str, *, truncated: bool) -> list[Candidate]:
    """Return the candidates of the last list of tasks that has any."""
    candidates: list[Candidate] = []
    start, position, repaired = LIST_START.search(text), 0, False
    for _ in range(MAX_ATTEMPTS):
        if start is None:
            break
        joined = bool(candidates) and BETWEEN_JOINED_LISTS.fullmatch(text, position, start.start())
        before = text
        parsed, text, position = _parse_list(text, start, truncated=truncated, repaired=repaired)
        repaired = repaired or text is not before
        if joined:
            candidates += parsed
        elif not candidates or not _all_malformed(parsed):
            candidates = parsed
        start = LATER_LIST_START.search(text, position)
    return candidates


def _parse_list(
    text: str, start: re.Match[str], *, truncated: bool, repaired: bool
) -> tuple[list[Candidate], str, int]:
    """Parse the list that begins at a match of LIST_START.

    Args:
        repaired: trailing commas are already removed.

    Returns:
        The candidates, the text that was parsed (perhaps repaired), and the end of the list in it.
    """
    reason = "truncated" if truncated else "malformed"
    decoder = json.JSONDecoder(strict=False)  # a raw line break inside a string is no error
    candidates: list[Candidate] = []
    position = start.end()
    in_list = "[" in start[0]  # otherwise objects one after the other, and prose may follow
    while True:
        position = SEPARATOR.match(text, position).end()  # matches everywhere
        is_value = in_list and OTHER_VALUE.match(text, position)
        if not text.startswith("{", position) and not is_value:
            ended = text.startswith("]", position) or (candidates and not in_list and not truncated)
            if ended:
                candidates = candidates or [reject_text(text, "malformed")]
            else:
                candidates.append(reject_text(text[position:], reason))
            return candidates, text, position
        try:
            record, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):  # also an integer with thousands of digits
            if repaired:
                candidates.append(reject_text(text[position:], reason))
                return candidates, text, position
            text, position, repaired = TRAILING_COMMA.sub(r"\1", text[position:]), 0, True
            continue
        following = NEXT_IN_LIST if in_list else NEXT_ALONE
        complete = following.match(text, end) is not None
        candidates.append(_parse_record(record, text[position:end], complete=complete))
        position = end


def _find_records(text: str) -> list[Candidate]:
    """Return the records anywhere inside the JSON values that open a line, in order.

    Some models key the tasks by number, wrap each in an object, put other keys first, or write
    the JSON into a JSON string.
    """
    decoder = json.JSONDecoder(strict=False)
    candidates: list[Candidate] = []
    end = 0
    for opening in islice(JSON_VALUE.finditer(text), MAX_ATTEMPTS):
        if opening.start() < end:
            continue
        try:
            value, end = decoder.raw_decode(text, opening.end())
        except (ValueError, RecursionError):
            continue
        stack = [value] if NEXT_ALONE.match(text, end) else []  # otherwise it was closed early
        while stack:
            value = stack.pop()
            if isinstance(value, str) and LATER_LIST_START.search(value):
                with contextlib.suppress(ValueError, RecursionError):
                    stack.append(decoder.decode(value))
            elif isinstance(value, list):
                stack += reversed(value)
            elif isinstance(value, dict):
                if {"instruction", "output"} <= {str(key).strip().lower() for key in value}:
                    candidates.append(_parse_record(value, str(value), complete=True))
                else:
                    stack += reversed(value.values())
    return candidates


def _parse_record(record: Any, text: str, *, complete: bool) -> Candidate:
    """Return the candidate in one JSON object.

    Args:
        complete: what follows may follow a record. Otherwise an object without all keys was closed
            early, inside its "output".
    """
    try:
        fields = {str(key).strip().lower(): value for key, value in record.items()} | record
        task = GeneratedTask.model_validate(fields)
        if not (complete or set(GeneratedTask.model_fields) <= fields.keys()):
            return reject_text(text, "malformed")
        return build_candidate(task)
    except (ValidationError, ValueError, RecursionError, AttributeError):
        return reject_text(text, "malformed")


def _all_malformed(candidates: list[Candidate]) -> bool:
    return all(candidate.reason == "malformed" for candidate in candidates)
