"""The OpenAI-compatible client: one request in, the raw JSON reply out, patient with faults.

A 429 or 503 makes every new request wait for its Retry-After; other transient faults are
tried again alone, with exponential back-off and full jitter
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
What waiting cannot mend (a refused key, an unknown model, an empty account) stops the run.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from typing import Any
from urllib.parse import urlsplit

import openai
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    RetryError,
    retry_if_exception,
    stop_after_attempt,
)

from code_alpaca.errors import InputError, Stopped

ENDPOINT = "/chat/completions"
TRIES = 8
FIRST_TRIES = 3  # before the teacher has ever answered: a wrong URL should not take minutes
LONGEST_WAIT_S = 60.0
FATAL_STATUS = {400, 401, 403, 404, 422}
FATAL_CODES = {"insufficient_quota", "billing_hard_limit_reached", "model_not_found"}


class Teacher:
    """A chat endpoint with at most `max_concurrency` requests in flight.

    Args:
        base_url: e.g. `http://127.0.0.1:8000/v1`; None takes OPENAI_BASE_URL or OpenAI itself.
        timeout_s: seconds without an answer after which a request is tried again.

    Raises:
        InputError: no OPENAI_API_KEY, and the teacher is not on this machine.
    """

    def __init__(self, base_url: str | None, *, max_concurrency: int, timeout_s: float) -> None:
        self.base_url = base_url or os.environ.get("OPENAI_BASE_URL")
        self._client = openai.AsyncOpenAI(
            base_url=self.base_url,
            api_key=_api_key(self.base_url),
            max_retries=0,  # ours, so that one 429 quiets all and every try is counted
            timeout=timeout_s,
        )
        self._slots = asyncio.Semaphore(max_concurrency)
        self._quiet_until = 0.0  # time.monotonic(): no new request is sent before
        self._closing = False
        self.answered = 0
        self.retried = 0

    async def ask(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Send one chat request and return the reply's JSON, unread.

        Raises:
            Stopped: the teacher refused for good, or did not answer after several tries.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception(_transient),
            stop=self._give_up,
            wait=self._pause,
            before_sleep=self._count_retry,
        )
        async with self._slots:
            if self._closing:
                raise Stopped("the run is ending; this request was not sent")
            try:
                async for attempt in retrying:
                    with attempt:
                        await self._wait_for_quiet()
                        reply = await self._client.post(ENDPOINT, body=payload, cast_to=object)
            except RetryError as error:
                raise Stopped(self._unreachable(error.last_attempt.exception())) from None
            except openai.APIStatusError as error:
                raise Stopped(_refused(error)) from None
        self.answered += 1
        return reply if isinstance(reply, dict) else {"unreadable": str(reply)}

    def stop_sending(self) -> None:
        """Let requests in flight finish, and send or try again no other."""
        self._closing = True

    async def close(self) -> None:
        await self._client.close()

    async def _wait_for_quiet(self) -> None:
        while (left := self._quiet_until - time.monotonic()) > 0:
            await asyncio.sleep(left)

    def _give_up(self, state: RetryCallState) -> bool:
        tries = TRIES if self.answered else FIRST_TRIES
        return self._closing or stop_after_attempt(tries)(state)

    def _pause(self, state: RetryCallState) -> float:
        """Seconds before the next try; a server that names its own moment quiets everyone."""
        error = state.outcome.exception() if state.outcome else None
        asked = _retry_after(error)
        if asked is not None:
            self._quiet_until = max(self._quiet_until, time.monotonic() + asked)
            return asked
        return random.uniform(0, min(LONGEST_WAIT_S, 0.5 * 2**state.attempt_number))

    def _count_retry(self, _: RetryCallState) -> None:
        self.retried += 1

    def _unreachable(self, error: BaseException | None) -> str:
        where = self.base_url or "https://api.openai.com/v1"
        return (
            f"the teacher at {where} does not answer ({_short(error)}); everything so far is kept: "
            "check teacher_base_url and that the server runs, then give the same command again"
        )


def _api_key(base_url: str | None) -> str:
    key = os.environ.get("OPENAI_API_KEY")
    if key:
        return key
    host = urlsplit(base_url).hostname if base_url else None
    if host in ("127.0.0.1", "localhost", "::1"):
        return "none"  # a server of one's own asks for no key, but the client insists on one
    raise InputError(
        "OPENAI_API_KEY is not set; set it (any text if your server asks for none), or set "
        "teacher_base_url: offline to use the embedded teacher"
    )


def _transient(error: BaseException) -> bool:
    if isinstance(error, openai.APIStatusError):
        return error.status_code not in FATAL_STATUS and error.code not in FATAL_CODES
    # Timeouts are connection errors; a cut-off body is not JSON.
    return isinstance(error, openai.APIConnectionError | json.JSONDecodeError)


def _retry_after(error: BaseException | None) -> float | None:
    if not isinstance(error, openai.APIStatusError) or error.status_code not in (429, 503):
        return None
    try:
        return min(LONGEST_WAIT_S, max(0.0, float(error.response.headers["retry-after"])))
    except (KeyError, ValueError):
        return None


def _refused(error: openai.APIStatusError) -> str:
    advice = {
        401: "check OPENAI_API_KEY",
        403: "check what this key may use",
        404: "check teacher_model and teacher_base_url",
        429: "top up the account",
    }.get(error.status_code, "change the request's settings")
    return (
        f"the teacher refused (HTTP {error.status_code}: {_short(error)}); {advice}, then give the "
        "same command again: everything so far is kept"
    )


def _short(error: BaseException | None) -> str:
    """An error on one line, without request details."""
    if isinstance(error, openai.APIStatusError) and isinstance(error.body, dict):
        return str(error.body.get("message") or error.body)[:200]
    cause = error.__cause__ if error and error.__cause__ else error
    return (str(cause) or type(cause).__name__)[:200]
