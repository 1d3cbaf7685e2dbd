"""Classify errors of the Hub: retry those that may pass, and explain the others in one line."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType
from typing import Any

from code_alpaca.core.errors import InputError, Stopped, error_message

MAX_REASON_CHARACTERS = 400  # of the Hub's message
MAX_DELAY_S = 60.0  # between two attempts, even if the server asks for more
WRITE_TOKEN_ADVICE = "create one with write access (https://huggingface.co/settings/tokens)"
# What the Hub's reason for a 403 mentions -> what to do about it.
FORBIDDEN_ADVICE = {
    r"storage|quota|billing|payment|upgrade": "free storage there or upgrade its owner's plan",
    r"pull request|create_pr|PRs?": "ask an owner, or set a branch that accepts direct commits",
}


def explain_hub_error(error: Exception, repo_id: str, url: str) -> Exception:
    """Return an error in one line with what to do; return an unknown error unchanged."""
    from huggingface_hub import errors

    status, reason = http_status(error), _server_reason(error)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return InputError("HF_HUB_OFFLINE is set; unset it to publish")
    if isinstance(error, errors.HFValidationError):
        return InputError(f"{repo_id!r} is not a name on the Hub ({reason}); use ORG/NAME")
    if status == 401:
        return InputError(f"the Hub rejects the token ({reason}); run `hf auth login` again")
    if status == 403:
        return _explain_forbidden(reason, url)
    if isinstance(error, errors.RepositoryNotFoundError | errors.RevisionNotFoundError):
        return repo_gone(url)
    if is_transient(error):
        return Stopped(
            f"{url} does not respond ({reason}); everything here is kept, and the same command "
            "resumes"
        )
    if status or isinstance(error, ValueError):
        return InputError(f"the Hub refuses the request: {reason}")
    return error


def repo_gone(url: str) -> Stopped:
    """Return the error of a repository, or revision, that disappeared during a release."""
    return Stopped(
        f"{url} no longer exists, or this token no longer has access to it; everything here is "
        "kept: restore it, or set another name, and rerun the command"
    )


def http_library() -> ModuleType:
    """Return the library whose errors huggingface_hub raises: httpx before its 2.0, else httpx2."""
    import huggingface_hub

    return import_module("httpx" if huggingface_hub.__version__.startswith("1.") else "httpx2")


def http_status(error: BaseException) -> int | None:
    """Return the HTTP status of an error or of the errors that caused it."""
    response = _response(error)
    return None if response is None else response.status_code


def is_transient(error: BaseException) -> bool:
    """Return whether a retry may succeed: the server is busy, failing or unreachable."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    status = http_status(error)
    if isinstance(error, OfflineModeIsEnabled):
        return False
    if status is not None:
        return status in (408, 425, 429) or status >= 500
    transient = (http_library().TransportError, ConnectionError)
    return any(isinstance(cause, transient) for cause in _causes(error))


def is_unreachable(error: BaseException) -> bool:
    """Return whether there was no connection: no network, unknown host, or a closed port."""
    http = http_library()
    unreachable = (http.ConnectError, http.ConnectTimeout)
    return any(isinstance(cause, unreachable) for cause in _causes(error))


def wait_before_retry(attempt: int, error: BaseException) -> None:
    """Sleep with exponential backoff, at least for as long as the server's Retry-After."""
    seconds = min(2.0**attempt, MAX_DELAY_S) * random.uniform(0.5, 1.0)
    response = _response(error)
    retry_after = "" if response is None else response.headers.get("Retry-After", "")
    if retry_after.isdigit():
        seconds = max(seconds, float(retry_after))
    time.sleep(min(seconds, MAX_DELAY_S))


def _explain_forbidden(reason: str, url: str) -> InputError:
    matching = (do for words, do in FORBIDDEN_ADVICE.items() if re.search(words, reason, re.I))
    advice = next(matching, f"if the token is the reason, {WRITE_TOKEN_ADVICE}")
    return InputError(
        f"the Hub refuses to write to {url} (403: {reason}); {advice}, then rerun the command"
    )


def _server_reason(error: Exception) -> str:
    """Return the Hub's message in one line; for an invalid card it is JSON."""
    try:
        return "; ".join(item["message"] for item in json.loads(str(error))["errors"])
    except (ValueError, LookupError, TypeError):
        pass
    for cause in _causes(error):
        if message := getattr(cause, "server_message", None):
            lines = dict.fromkeys(message.splitlines())  # header and body repeat each other
            return " ".join(" ".join(lines).split())[:MAX_REASON_CHARACTERS]
    return error_message(error)


def _response(error: BaseException) -> Any:
    """Return the Hub's HTTP response to the request that failed, or None."""
    from huggingface_hub.errors import HfHubHTTPError

    responses = (c.response for c in _causes(error) if isinstance(c, HfHubHTTPError))
    return next((response for response in responses if response is not None), None)


def _causes(error: BaseException | None) -> Iterable[BaseException]:
    """Yield an error and the errors that caused it: uploads wrap them."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
