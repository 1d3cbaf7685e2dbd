"""The lines of a batch's files: one request each in its input, one reply or error in its output."""

from __future__ import annotations

import json
from typing import Any, Final

from code_alpaca.teacher.refusals import Meaning, Trouble, code_of, meaning_of, message_of

ENDPOINT: Final = "/v1/chat/completions"


def line_of(key: str, payload: dict[str, Any]) -> str:
    """The line of a request; its `custom_id` is the request's key in the ledger."""
    body = {"custom_id": key, "method": "POST", "url": ENDPOINT, "body": payload}
    return json.dumps(body) + "\n"


def parse(line: str) -> tuple[str, dict[str, Any]]:
    """The key and the result in a line of the output; an empty key where there is none."""
    try:
        result = json.loads(line)
        key = result["custom_id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return "", {}
    return (key, result) if isinstance(key, str) and isinstance(result, dict) else ("", {})


def trouble_in(status: int | None, details: Any) -> Trouble:
    """What a line means that holds no answer.

    Args:
        status: of HTTP, where the line has one.
        details: the error in it.
    """
    code, message = code_of(details), message_of(details or "no answer")
    meaning = Meaning.FAULT if status == 200 else meaning_of(status or 0, code, message)
    free = status is None or (status != 200 and status < 500)
    return Trouble(meaning, message, status or 0, code, free, details=details)
