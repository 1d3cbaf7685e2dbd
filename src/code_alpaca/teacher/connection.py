"""The connection to one server: its client and key, and what its replies and refusals mean."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai

from code_alpaca.errors import InputError

BUSY_STATUS = {429, 503, 529}  # 529 is how some servers say "overloaded"
FATAL_STATUS = {301, 302, 307, 308, 400, 401, 402, 403, 404, 405, 413, 422, 451}
FATAL_CODES = {"insufficient_quota", "billing_hard_limit_reached", "model_not_found"}
# Of one prompt alone: its request is answered by the refusal, and the run goes on.
PROMPT_CODES = {
    "content_filter",
    "content_policy_violation",
    "context_length_exceeded",
    "invalid_prompt",
    "string_above_max_length",
}


@dataclass(slots=True)
class Tally:
    """What happened on the wire since this start."""

    answered: int = 0
    retried: int = 0
    turned_away: int = 0
    first_sent: float = 0.0
    last_answered: float = 0.0


def new_client(url: str | None, timeout_s: float, most: int) -> openai.AsyncOpenAI:
    """A client of one server, with at most so many connections.

    Raises:
        InputError: no OPENAI_API_KEY that can be sent, and the server is not on this machine.
    """
    return openai.AsyncOpenAI(
        base_url=url,
        api_key=_api_key(url),
        max_retries=0,  # ours, so that one 429 quiets all and every try is counted
        timeout=timeout_s,
        # Half the CPU time a request of the default transport (benchmarks/generation_speed.py);
        # "no limit" would mean aiohttp's own, a hundred connections.
        http_client=openai.DefaultAioHttpClient(
            limits=httpx2.Limits(max_connections=most, max_keepalive_connections=most),
            follow_redirects=False,  # one reservation pays for one sending
        ),
    )


def _api_key(base_url: str | None) -> str:
    key = os.environ.get("OPENAI_API_KEY")
    if key:
        if not (key.isascii() and key.isprintable()):
            raise InputError(
                "OPENAI_API_KEY holds characters that no HTTP header can; copy it once more"
            )
        return key
    host = urlsplit(base_url).hostname if base_url else None
    if host in ("127.0.0.1", "localhost", "::1"):
        return "none"  # a server of one's own asks for no key, but the client insists on one
    raise InputError(
        "OPENAI_API_KEY is not set; set it (any text if your server asks for none), or set "
        "teacher_base_url: offline to use the embedded teacher"
    )


class NoReply(Exception):
    """A success by its status, and an error by what it says."""


def object_of(response: httpx2.Response) -> dict[str, Any]:
    """The reply's object; a body that is cut off is a fault of the line, to be tried again."""
    try:
        reply = json.loads(response.content)
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError):  # an integer of thousands of digits, or endless brackets
        reply = response.text
    if not isinstance(reply, dict):
        return {"unreadable": reply}
    if reply.get("error") and not ("choices" in reply or "output" in reply):
        raise NoReply(f"HTTP 200 with an error: {str(reply['error'])[:200]}")
    return reply


def refusal(status: int, told: str) -> str:
    """The line for a refusal that waiting cannot mend: what it was, and what to do."""
    advice = {
        401: "check OPENAI_API_KEY",
        402: "top up the account",
        403: "check what this key may use",
        404: "check teacher_model, teacher_api and teacher_base_url",
        429: "top up the account",
    }.get(status, "check teacher_base_url" if status < 400 else "change the request's settings")
    return (
        f"the teacher refused (HTTP {status}: {told}); {advice}, then give the same command again: "
        "everything so far is kept"
    )


def short(error: BaseException) -> str:
    """An error on one line, without request details."""
    if isinstance(error, openai.APIStatusError) and isinstance(error.body, dict):
        return str(error.body.get("message") or error.body)[:200]
    if isinstance(error, json.JSONDecodeError):
        return f"its replies are not JSON: {error}"
    cause = error.__cause__ or error
    return (str(cause) or type(cause).__name__)[:200]
