"""Errors of the Hub: which are passing, and what the others mean in one line."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterable

from code_alpaca.core.errors import InputError, Stopped, error_message

REASON_CHARACTERS = 400  # of what the Hub said, in one line
LONGEST_WAIT_S = 60.0  # between two tries, whatever the server asks for
WRITE_TOKEN = "make one with write access (https://huggingface.co/settings/tokens)"


def explain_hub_error(error: Exception, name: str, url: str) -> Exception:
    """The same in one line, with what to do; an unknown error as it is.

    Args:
        name: of the repository that was asked.
        url: its address.
    """
    from huggingface_hub.errors import (
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    status, said = http_status(error), _said(error)
    if isinstance(error, OfflineModeIsEnabled):
        return InputError("HF_HUB_OFFLINE is set; unset it to publish")
    if isinstance(error, HFValidationError):
        return InputError(f"{name!r} is no name on the Hub ({said}); give ORG/NAME")
    if status == 401:
        return InputError(f"the Hub does not accept the token ({said}); run `hf auth login` again")
    if status == 403:
        return _forbidden(error, url)
    if isinstance(error, RepositoryNotFoundError | RevisionNotFoundError):
        return repo_gone(url)
    if is_transient(error):
        return Stopped(
            f"{url} does not answer ({said}); everything here is kept, and the same command resumes"
        )
    if status or isinstance(error, ValueError):
        return InputError(f"the Hub refuses: {said}")
    return error


def repo_gone(url: str) -> Stopped:
    """Return the error of a repository, or revision, that vanished during a release."""
    return Stopped(
        f"{url} is gone: it was deleted or renamed, or this token no longer sees it; everything "
        "here is kept: restore it, or give another name, and run the command again"
    )


# What the Hub's reason for a 403 mentions -> what to do about it.
FORBIDDEN_ADVICE = {
    r"storage|quota|billing|payment|upgrade": "free storage there or raise its owner's plan",
    r"pull request|create_pr|PRs?": "ask an owner, or give a branch that takes direct commits",
}


def _forbidden(error: Exception, url: str) -> InputError:
    """Return a 403 with the reason that the Hub gave, and what to do about that reason."""
    reason = _said(error)
    advice = next(
        (do for words, do in FORBIDDEN_ADVICE.items() if re.search(words, reason, re.I)), None
    )
    advice = advice or f"if the token is why, {WRITE_TOKEN}"
    return InputError(
        f"the Hub refuses to write to {url} (403: {reason}); {advice}, then run it again"
    )


def _said(error: Exception) -> str:
    """In one line what the Hub said; of a card it answers in JSON."""
    try:
        return "; ".join(each["message"] for each in json.loads(str(error))["errors"])
    except (ValueError, LookupError, TypeError):
        pass
    for each in _chain(error):
        if message := getattr(each, "server_message", None):
            lines = dict.fromkeys(message.splitlines())  # the header and the body say the same
            return " ".join(" ".join(lines).split())[:REASON_CHARACTERS]
    return error_message(error)


def _chain(error: BaseException | None) -> Iterable[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def http_status(error: BaseException) -> int | None:
    """The HTTP status behind an error; uploads wrap theirs."""
    from huggingface_hub.errors import HfHubHTTPError

    for each in _chain(error):
        if isinstance(each, HfHubHTTPError) and each.response is not None:
            return each.response.status_code
    return None


def is_transient(error: BaseException) -> bool:
    """Busy, broken or unreachable: another try may do."""
    import httpx2
    from huggingface_hub.errors import OfflineModeIsEnabled

    status = http_status(error)
    if isinstance(error, OfflineModeIsEnabled):
        return False
    if status is not None:
        return status in (408, 425, 429) or status >= 500
    return any(isinstance(each, (httpx2.TransportError, ConnectionError)) for each in _chain(error))


def is_unreachable(error: BaseException) -> bool:
    """Whether the server was never reached: no network, no such host, nothing listens there."""
    import httpx2

    unreached = (httpx2.ConnectError, httpx2.ConnectTimeout)
    return any(isinstance(each, unreached) for each in _chain(error))


def wait_before_retry(attempt: int, error: BaseException) -> None:
    """Sleep before the next try: longer each time, and at least what the server asks for."""
    from huggingface_hub.errors import HfHubHTTPError

    seconds = min(2.0**attempt, LONGEST_WAIT_S) * random.uniform(0.5, 1.0)
    for each in _chain(error):
        if isinstance(each, HfHubHTTPError) and each.response is not None:
            asked = each.response.headers.get("Retry-After", "")
            if asked.isdigit():
                seconds = max(seconds, float(asked))
            break
    time.sleep(min(seconds, LONGEST_WAIT_S))
