"""What an error of a server means: wait, ask again, pass over one prompt, or stop the run.

Codes are honoured where a server sends them; most only send words. A refusal in unknown words
concerns one prompt if the teacher answers others, and the whole run if it does not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import httpx2
import openai

from code_alpaca.teacher.limits import retry_after

BUSY_STATUS = {429, 503, 529}  # 529 is how some servers say "overloaded"
FATAL_STATUS = {300, 301, 302, 303, 304, 305, 307, 308, 401, 402, 403, 404, 405}
FATAL_CODES = {"insufficient_quota", "billing_hard_limit_reached", "model_not_found"}
# Statuses under which servers refuse a single prompt, in words of their own.
DOUBTFUL_STATUS = {400, 403, 413, 422, 451}
PROMPT_STATUS = {*DOUBTFUL_STATUS, 500}  # llama.cpp answers 500 where the context is exceeded
PROMPT_CODES = {
    "content_filter",
    "content_policy_violation",
    "context_length_exceeded",
    "data_inspection_failed",
    "invalid_prompt",
    "moderation_blocked",
    "string_above_max_length",
}
PROMPT_WORDS = re.compile(
    r"context[ _-]?(length|size|window|limit)|exceed_context|maximum context|max_model_len"
    r"|(prompt|inputs?|messages?|request)\b.{0,60}\b(too (long|large)|exceed|longer than)"
    r"|(entity|payload|body)\b.{0,20}\btoo large|reduce the length|`inputs` (tokens|must)"
    r"|moderation|flagged|content (policy|filter|management)|management policy|usage polic"
    r"|inappropriate|prohibited[ _]content|safety (system|filter|polic|setting|reason)",
    re.IGNORECASE | re.DOTALL,
)
# The server rejected what its own model wrote: the next try may be fine.
REPLY_CODES = {"json_validate_failed", "output_parse_failed", "tool_use_failed"}
REPLY_WORDS = re.compile(r"failed to (validate|generate) json|failed_generation", re.IGNORECASE)
KEY_WORDS = re.compile(
    r"\bapi[ _-]?key\b.{0,40}\b(not |in)valid|(incorrect|invalid|missing) (api[ _-]?key|authenti)"
    r"|unauthori[sz]ed|insufficient (balance|credit|quota)",
    re.IGNORECASE,
)
SHOWN_CHARACTERS = 200


class Meaning(Enum):
    """What follows from an error."""

    BUSY = auto()  # wait; not a failure of this request
    FAULT = auto()  # ask again, a limited number of times
    REPLY = auto()  # ask again, fewer times: every reply may be billed
    PROMPT = auto()  # this prompt is refused; others may be answered
    DOUBTFUL = auto()  # this prompt, or every prompt
    FATAL = auto()  # neither waiting nor another prompt helps


@dataclass(frozen=True, slots=True)
class Trouble:
    """One attempt that brought no reply.

    Attributes:
        status: of HTTP, or of an error inside a success; 0 where nothing came back.
        free: certainly not billed.
        reached: the server was there.
        asked_s: seconds that a busy server asks for.
        usage: tokens that the server counted all the same.
    """

    meaning: Meaning
    message: str
    status: int = 0
    code: str | None = None
    free: bool = False
    reached: bool = True
    asked_s: float | None = None
    usage: tuple[int, int] | None = None
    details: Any = None

    @property
    def outcome(self) -> str:
        """A few words for the ledger."""
        return f"HTTP {self.status}" if self.status else "no answer"


class NoReply(Exception):
    """A success by its status, and an error by what it says.

    Args:
        error: the error that the body holds.
        usage: tokens that the body counts.
    """

    def __init__(self, error: Any, usage: tuple[int, int] | None = None) -> None:
        super().__init__(f"HTTP 200 with an error: {message_of(error)}")
        self.error, self.usage = error, usage


def trouble_of(error: Exception) -> Trouble:
    """The meaning of an error of the client, or of a reply that is none."""
    if isinstance(error, openai.APIStatusError):
        return _of_status(error)
    if isinstance(error, NoReply):
        code, told = code_of(error.error), message_of(error.error)
        status = int(code) if code and re.fullmatch("[45][0-9][0-9]", code) else 500
        meaning = meaning_of(status, code, told)
        if meaning not in (Meaning.PROMPT, Meaning.BUSY) and code not in FATAL_CODES:
            meaning = Meaning.FAULT  # an upstream of the server failed, and the next may not
        free = status < 500 and error.usage is None
        return Trouble(meaning, str(error), 200, code, free, usage=error.usage)
    if isinstance(error, json.JSONDecodeError):
        return Trouble(Meaning.FAULT, f"its replies are not JSON: {error}")
    cause = error.__cause__ or error
    # What never reached the server was not billed.
    unsent = isinstance(cause, httpx2.ConnectError)
    return Trouble(
        Meaning.FAULT, _shown(str(cause) or type(cause).__name__), free=unsent, reached=not unsent
    )


def _of_status(error: openai.APIStatusError) -> Trouble:
    status, details = error.status_code, error.body or str(error)
    code, told = code_of(details), message_of(details)
    meaning = meaning_of(status, code, told)
    return Trouble(
        meaning,
        told,
        status,
        code,
        free=status < 500 and meaning is not Meaning.REPLY,
        asked_s=retry_after(error.response.headers) if meaning is Meaning.BUSY else None,
        details=details,
    )


def meaning_of(status: int, code: str | None, message: str) -> Meaning:
    """What a refusal with this HTTP status, code and message means."""
    if code in FATAL_CODES:
        return Meaning.FATAL
    if status in (400, 422, 500) and (code in REPLY_CODES or REPLY_WORDS.search(message)):
        return Meaning.REPLY
    if code in PROMPT_CODES:
        return Meaning.PROMPT
    if status in (400, 403) and KEY_WORDS.search(message):
        return Meaning.FATAL
    if status in PROMPT_STATUS and PROMPT_WORDS.search(message):
        return Meaning.PROMPT
    if status in DOUBTFUL_STATUS:
        return Meaning.DOUBTFUL
    if status in BUSY_STATUS:
        return Meaning.BUSY
    return Meaning.FATAL if status in FATAL_STATUS else Meaning.FAULT


def code_of(details: Any) -> str | None:
    """The code of an error object in any of the usual forms, as text."""
    found = _error_object(details)
    if isinstance(found.get("code"), int | str):
        return str(found["code"])
    known = FATAL_CODES | PROMPT_CODES | REPLY_CODES
    return found["type"] if found.get("type") in known else None


def message_of(details: Any) -> str:
    """What an error object says, on one short line."""
    found = _error_object(details)
    for key in ("message", "error", "detail", "msg"):
        if isinstance(found.get(key), str) and found[key]:
            return _shown(found[key])
    return _shown(details if isinstance(details, str) else json.dumps(details, default=str))


def _error_object(details: Any) -> Mapping[str, Any]:
    if isinstance(details, list) and details:
        details = details[0]
    if not isinstance(details, dict):
        return {}
    return details["error"] if isinstance(details.get("error"), dict) else details


def _shown(text: str) -> str:
    return " ".join(text.split())[:SHOWN_CHARACTERS]


def refusal(status: int, told: str) -> str:
    """The line for a refusal that waiting cannot change: what it was, and what to do."""
    advice = {
        401: "check OPENAI_API_KEY",
        402: "top up the account",
        403: "check what this key may use",
        404: "check teacher_model, teacher_api and teacher_base_url",
        429: "top up the account",
    }.get(status, "check teacher_base_url" if status < 400 else "change the request's settings")
    if KEY_WORDS.search(told):
        advice = "check OPENAI_API_KEY and the account"
    return (
        f"the teacher refused (HTTP {status}: {told}); {advice}, then rerun the same command: "
        "everything so far is kept"
    )
