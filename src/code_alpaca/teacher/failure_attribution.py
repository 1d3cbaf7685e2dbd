"""Attribute a failure to one request or to the server: skip that request, or stop the run."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import Any

from code_alpaca.core.errors import TeacherRefused
from code_alpaca.core.ledger import Ledger
from code_alpaca.teacher.error_classification import ErrorKind, RequestFailure
from code_alpaca.teacher.http_client import RequestStats

MAX_CONSECUTIVE_REJECTIONS = 8  # different requests: then their prompts are not the cause
POLL_INTERVAL_S = 0.05
ENDED_RUN_KEY = "unanswered"  # in the ledger: requests that failed while no other succeeded


class FailureAttribution:
    """Compare a failing request with the other requests of the run."""

    def __init__(self, ledger: Ledger, stats: RequestStats, stopping: asyncio.Event) -> None:
        self._ledger, self._stats, self._stopping = ledger, stats, stopping
        self._open: set[int] = set()  # requests without a reply
        self._num_waiting = 0  # of those, requests whose rejection is not attributed yet
        self._rejected: set[int] = set()  # requests rejected since the last success
        self._answered_before: dict[int, int] = {}  # replies at the first failure of a request
        self._ends_run = False  # whether a request failed that was not at fault

    @contextlib.contextmanager
    def track_request(self, index: int) -> Iterator[None]:
        """Count request `index` as open until it has a reply or has failed."""
        self._open.add(index)
        try:
            yield
        finally:
            self._open.discard(index)

    def record_success(self) -> None:
        """Reset the count of consecutive rejections."""
        self._rejected.clear()

    def record_failure(self, index: int) -> None:
        """Remember how many requests were answered when request `index` first failed."""
        self._answered_before.setdefault(index, self._stats.answered)

    async def is_prompt_rejected(self, index: int, failure: RequestFailure) -> bool:
        """Return whether request `index` was rejected because of its prompt.

        After an error with an unknown message, wait until another request succeeds, or raise
        TeacherRefused if others are rejected as well. A 403 concerns the API key, unless a request
        has succeeded.
        """
        if failure.kind is not ErrorKind.AMBIGUOUS:
            return failure.kind is ErrorKind.PROMPT_REJECTED
        self._rejected.add(index)
        self._num_waiting += 1
        try:
            while self._may_be_prompt(failure):
                if self._stats.answered:  # server and API key work
                    return True
                if len(self._open) == self._num_waiting:  # no other request to wait for
                    if self._ledger.usage()["replies"]:
                        return True
                    break
                await asyncio.sleep(POLL_INTERVAL_S)
        finally:
            self._num_waiting -= 1
        raise TeacherRefused(failure.format_fatal())

    def is_request_at_fault(self, index: int, failure: RequestFailure) -> bool:
        """Return whether request `index` itself causes its failures, after its last attempt.

        It does if others succeeded since its first failure. If none did, the server may be down:
        the run ends, and the ledger records which request ended it. Once every open request has
        ended an earlier start, no other is left that could succeed, and this one is at fault.
        """
        overloaded = failure.kind is ErrorKind.OVERLOADED
        if self._stopping.is_set() or not failure.reached_server or overloaded:
            return False
        if self._stats.answered > self._answered_before.get(index, self._stats.answered):
            return True
        if self._ends_run:
            return False
        ended = set(json.loads(self._ledger.meta(ENDED_RUN_KEY) or "[]"))
        if self._open | {index} <= ended and self._ledger.usage()["replies"]:
            return True
        self._ends_run = True
        self._ledger.set_meta(ENDED_RUN_KEY, json.dumps(sorted(ended | {index})))
        return False

    def _may_be_prompt(self, failure: RequestFailure) -> bool:
        about_key = failure.status == 403 and not self._stats.answered
        too_many = len(self._rejected) >= MAX_CONSECUTIVE_REJECTIONS
        return not (about_key or too_many or self._stopping.is_set())


def save_error_reply(ledger: Ledger, key: str, message: str, code: str | None) -> dict[str, Any]:
    """Record an error as the reply to a request, so that it is skipped and not sent again."""
    reply = {"error": {"message": message, "code": code}}
    with ledger.durable():
        ledger.save_reply(key, reply)
    return reply
