"""Classify server errors: wait, retry, skip one prompt, or stop the run.

Error codes are used where a server sends them; most servers only send a message. An error with an
unknown message concerns one prompt if other prompts succeed, and the whole run if none does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

import httpx2

from code_alpaca.teacher.rate_limits import parse_retry_after

if TYPE_CHECKING:
    import openai

OVERLOADED_STATUS = {429, 503, 529}  # some servers send 529 when overloaded
FATAL_STATUS = {300, 301, 302, 303, 304, 305, 307, 308, 401, 402, 403, 404, 405}
FATAL_CODES = {"insufficient_quota", "billing_hard_limit_reached", "model_not_found"}
AMBIGUOUS_STATUS = {400, 403, 413, 422, 451}  # servers reject single prompts with them
PROMPT_STATUS = {*AMBIGUOUS_STATUS, 500}  # llama.cpp: 500 for a prompt beyond the context length
PROMPT_CODES = {
    "content_filter", "content_policy_violation", "context_length_exceeded",
    "data_inspection_failed", "invalid_prompt", "moderation_blocked", "string_above_max_length",
}  # fmt: skip
TOO_LONG_PATTERN = re.compile(
    r"context[ _-]?(length|size|window|limit)|exceed_context|maximum context|max_model_len"
    r"|(prompt|inputs?|messages?|request)\b.{0,60}\b(too (long|large)|exceed|longer than)"
    r"|(entity|payload|body)\b.{0,20}\btoo large|reduce the length|`inputs` (tokens|must)",
    re.IGNORECASE | re.DOTALL,
)
PROMPT_PATTERN = re.compile(
    rf"{TOO_LONG_PATTERN.pattern}"
    r"|moderation|flagged|content (policy|filter|management)|management policy|usage polic"
    r"|inappropriate|prohibited[ _]content|safety (system|filter|polic|setting|reason)",
    re.IGNORECASE | re.DOTALL,
)
TOO_LONG_CODES = ("context_length_exceeded", "string_above_max_length")
# "maximum context length is 4096", "32768 maximum context length", "2100 tokens > 2000 maximum",
# "tokens allowed (1048576)", "must be <= 4096"
CONTEXT_LENGTH_PATTERN = re.compile(
    r"(?i)context (?:length|size|window)\D{0,30}(\d{3,8})|(\d{3,8}) maximum context"
    r"|> (\d{3,8}) maximum|allowed \((\d{3,8})\)|<= (\d{3,8})"
)
# The server rejected the model's own output: the next attempt may succeed.
INVALID_OUTPUT_CODES = {"json_validate_failed", "output_parse_failed", "tool_use_failed"}
INVALID_OUTPUT_PATTERN = re.compile(r"(?i)failed to (validate|generate) json|failed_generation")
CREDENTIALS_PATTERN = re.compile(
    r"\bapi[ _-]?key\b.{0,40}\b(not |in)valid|(incorrect|invalid|missing) (api[ _-]?key|authenti)"
    r"|unauthori[sz]ed|insufficient (balance|credit|quota)",
    re.IGNORECASE,
)
FATAL_ADVICE = {
    401: "check OPENAI_API_KEY (or AZURE_OPENAI_API_KEY)",
    402: "top up the account",
    403: "check the permissions of this API key",
    404: "check teacher_model, teacher_api and teacher_base_url",
    429: "top up the account",
}
MAX_MESSAGE_CHARS = 200


class ErrorKind(Enum):
    """What to do about an error."""

    OVERLOADED = auto()  # wait; not a failure of this request
    TRANSIENT = auto()  # retry
    INVALID_OUTPUT = auto()  # retry fewer times: every attempt may be billed
    PROMPT_REJECTED = auto()  # skip this prompt; others may succeed
    AMBIGUOUS = auto()  # this prompt, or every prompt
    FATAL = auto()  # neither waiting nor another prompt helps


@dataclass(eq=False)
class RequestFailure(Exception):
    """An attempt without a reply."""

    kind: ErrorKind
    message: str
    status: int = 0  # HTTP status, or 0 without a response
    code: str | None = None
    not_billed: bool = False  # whether the attempt was certainly not billed
    reached_server: bool = True  # whether a connection was made
    retry_after_s: float | None = None  # that an overloaded server requests
    usage: tuple[int, int] | None = None  # billed prompt and completion tokens, if reported
    details: Any = None  # the error object or text of the response

    @property
    def outcome(self) -> str:
        """A short description for the ledger."""
        return f"HTTP {self.status}" if self.status else "no answer"

    def format_fatal(self) -> str:
        """Return the line for an error that retrying cannot fix, with the action to take."""
        advice = FATAL_ADVICE.get(self.status, "change the sampling parameters")
        if self.status < 400:
            advice = "check teacher_base_url"
        if CREDENTIALS_PATTERN.search(self.message):
            advice = "check OPENAI_API_KEY and the account"
        return (
            f"the teacher refused the request (HTTP {self.status}: {self.message}); {advice}, then "
            "rerun the same command: all replies so far are kept"
        )


def classify_exception(error: openai.APIError | json.JSONDecodeError) -> RequestFailure:
    """Classify an exception of the client, or a body that is not JSON."""
    import openai  # takes half a second, which `--help` does not need

    if isinstance(error, openai.APIStatusError):
        return _classify_response(error)
    if isinstance(error, json.JSONDecodeError):
        return RequestFailure(ErrorKind.TRANSIENT, f"its replies are not JSON: {error}")
    cause = error.__cause__ or error
    message = _shorten(str(cause) or type(cause).__name__)
    sent = not isinstance(cause, httpx2.ConnectError)
    return RequestFailure(ErrorKind.TRANSIENT, message, not_billed=not sent, reached_server=sent)


def classify_error_body(error: Any, usage: tuple[int, int] | None) -> RequestFailure:
    """Classify an error that was sent with status 200, and with `usage` if it was billed."""
    code, message = parse_error(error)
    status = int(code) if code and re.fullmatch("[45][0-9][0-9]", code) else 500
    kind = classify_error(status, code, message)
    certain = kind in (ErrorKind.PROMPT_REJECTED, ErrorKind.OVERLOADED) or code in FATAL_CODES
    if not certain:  # one upstream of a router failed; the next may not
        kind = ErrorKind.TRANSIENT
    message = f"HTTP 200 with an error: {message}"
    not_billed = status < 500 and usage is None
    return RequestFailure(kind, message, 200, code, not_billed, usage=usage)


def classify_batch_error(status: int | None, details: Any) -> RequestFailure:
    """Classify the error in a batch's output file, by its HTTP status if it has one."""
    code, message = parse_error(details or "no answer")
    kind = ErrorKind.TRANSIENT if status == 200 else classify_error(status or 0, code, message)
    not_billed = status is None or (status != 200 and status < 500)
    return RequestFailure(kind, message, status or 0, code, not_billed, details=details)


def _classify_response(error: openai.APIStatusError) -> RequestFailure:
    status, details = error.status_code, error.body or str(error)
    code, message = parse_error(details)
    kind = classify_error(status, code, message)
    not_billed = status < 500 and kind is not ErrorKind.INVALID_OUTPUT
    failure = RequestFailure(kind, message, status, code, not_billed, details=details)
    if kind is ErrorKind.OVERLOADED:
        failure.retry_after_s = parse_retry_after(error.response.headers)
    return failure


def classify_error(status: int, code: str | None, message: str) -> ErrorKind:
    """Classify an error response by its HTTP status, error code and message."""
    if code in FATAL_CODES:
        return ErrorKind.FATAL
    invalid_output = code in INVALID_OUTPUT_CODES or INVALID_OUTPUT_PATTERN.search(message)
    if status in (400, 422, 500) and invalid_output:
        return ErrorKind.INVALID_OUTPUT
    if code in PROMPT_CODES:
        return ErrorKind.PROMPT_REJECTED
    if status in (400, 403) and CREDENTIALS_PATTERN.search(message):
        return ErrorKind.FATAL
    if status in PROMPT_STATUS and PROMPT_PATTERN.search(message):
        return ErrorKind.PROMPT_REJECTED
    if status in AMBIGUOUS_STATUS:
        return ErrorKind.AMBIGUOUS
    if status in OVERLOADED_STATUS:
        return ErrorKind.OVERLOADED
    return ErrorKind.FATAL if status in FATAL_STATUS else ErrorKind.TRANSIENT


def parse_error(details: Any) -> tuple[str | None, str]:
    """Return the code of an error in any of the usual formats, and its message on one line."""
    error = _unwrap_error(details)
    code = error.get("code")
    if not isinstance(code, int | str):
        known_codes = FATAL_CODES | PROMPT_CODES | INVALID_OUTPUT_CODES
        code = next((known for known in known_codes if known == error.get("type")), None)
    code = None if code is None else str(code)
    for key in ("message", "error", "detail", "msg"):
        if isinstance(error.get(key), str) and error[key]:
            return code, _shorten(error[key])
    return code, _shorten(details if isinstance(details, str) else json.dumps(details, default=str))


def read_context_length(error: Any) -> int | None:
    """Return the context length that an error about a prompt's length names, or 0 without one.

    None for any other error.
    """
    code, message = parse_error(error) if error else (None, "")
    if code not in TOO_LONG_CODES and not TOO_LONG_PATTERN.search(message):
        return None
    found = CONTEXT_LENGTH_PATTERN.search(message)
    return int(next(filter(None, found.groups()))) if found else 0


def _unwrap_error(details: Any) -> Mapping[str, Any]:
    if isinstance(details, list) and details:
        details = details[0]
    if not isinstance(details, dict):
        return {}
    return details["error"] if isinstance(details.get("error"), dict) else details


def _shorten(text: str) -> str:
    return " ".join(text.split())[:MAX_MESSAGE_CHARS]
