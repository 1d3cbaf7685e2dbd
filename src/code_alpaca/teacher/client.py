"""Send requests to a teacher: retry transient failures, record replies, skip rejected prompts.

A request whose prompt is rejected, or that fails while others succeed, is skipped. An error that
neither waiting nor another prompt can fix (an invalid API key, an unknown model, an empty account)
stops the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import httpx2
import openai

from code_alpaca.core.errors import TeacherRefused
from code_alpaca.core.ledger import Ledger
from code_alpaca.core.redact import redact
from code_alpaca.teacher.budget import Budget
from code_alpaca.teacher.capabilities import (
    ServerCapabilities,
    get_immutable_part,
    get_question,
)
from code_alpaca.teacher.error_classification import ErrorKind, RequestFailure, classify_exception
from code_alpaca.teacher.failure_attribution import FailureAttribution, save_error_reply
from code_alpaca.teacher.http_client import RequestStats, create_client, decode_reply, post
from code_alpaca.teacher.model_info import fetch_context_length
from code_alpaca.teacher.rate_limits import ConcurrencyWindow
from code_alpaca.teacher.reply_parsing import UNANSWERED, count_billed_tokens
from code_alpaca.teacher.request_body import ENDPOINT_PATHS
from code_alpaca.teacher.scheduling import ConnectionSettings, Scheduler, Server, draw_backoff

MAX_ATTEMPTS = 8
MAX_FIRST_ATTEMPTS = 3  # before the first reply of a run: a wrong URL is reported quickly
MAX_INVALID_OUTPUTS = 3  # outputs that the server itself rejects; each may be billed
MAX_OVERLOADS = 50  # 429 and 503 per request; they do not count as attempts
MIN_RETRY_AFTER_S = 0.02  # below it, the client's own backoff is used


class Teacher:
    """One or several servers of the same model.

    Args:
        base_urls: empty for OPENAI_BASE_URL or OpenAI.
        budget: None if the price is unknown.

    Raises:
        InputError: OPENAI_API_KEY is missing, and a server is not on this machine.
    """

    def __init__(
        self,
        base_urls: Sequence[str],
        settings: ConnectionSettings,
        *,
        ledger: Ledger,
        budget: Budget | None,
    ) -> None:
        self.stats = RequestStats()
        self._path, self._timeout_s = ENDPOINT_PATHS[settings.api], settings.timeout_s
        self._endpoint = settings.endpoint
        self._ledger, self._budget = ledger, budget
        self._is_resumed = bool(ledger.usage()["replies"])
        self._stopping = asyncio.Event()
        urls = base_urls or (os.environ.get("OPENAI_BASE_URL"),)
        limit = settings.max_concurrency
        self._servers = [
            Server(
                url,
                create_client(url, settings),
                ConcurrencyWindow(limit),
                has_alternatives=len(urls) > 1,
            )
            for url in urls
        ]
        self._scheduler = Scheduler(self._servers, settings, budget, self._stopping)
        self._attribution = FailureAttribution(ledger, self.stats, self._stopping)
        self._capabilities = ServerCapabilities(ledger, urls)

    @property
    def in_flight(self) -> int:
        """The number of requests sent and not yet answered."""
        return self._scheduler.in_flight

    async def start(self) -> None:
        """Close the attempts that a killed process left open."""
        if self._budget:
            self._budget.close_lost_attempts()

    async def complete(
        self,
        index: int,
        payload: dict[str, Any],
        asked: dict[str, Any],
        seed_ids: Sequence[str],
        *,
        revises: str | None = None,
    ) -> tuple[str, dict[str, Any]]:
        """Return the key and the raw reply of request `index`, from the ledger or the server.

        `asked` (strategy, number of tasks, quota labels) and `seed_ids` are recorded for reports;
        `revises` is the key of an answered request that this one replaces.

        Raises:
            TeacherRefused: the server rejects all requests or does not answer.
            Stopped: the budget is exhausted, or the run is stopping.
        """
        counts: Counter[ErrorKind] = Counter()  # of the failed attempts
        about = {"seed_ids": seed_ids, "asked": asked, "question": get_question(payload)}
        about |= {"immutable_part": get_immutable_part, "revises": revises}
        with self._attribution.track_request(index):
            while True:
                sent = self._capabilities.adapt(payload)
                key = self._ledger.request(index, self._endpoint, sent, **about)
                if (reply := self._ledger.reply(key)) is not None:
                    return key, reply
                try:
                    return key, await self._attempt(key, sent)
                except RequestFailure as failure:
                    if self._capabilities.downgrade(failure, sent):
                        continue
                    if (reply := await self._skip(index, key, failure, counts)) is not None:
                        return key, reply
                    await self._back_off(failure, counts.total())

    async def fetch_context_length(self, model: str) -> int | None:
        """Return the context length that all servers have at least, if they report it."""
        if self._servers[0].url is None:  # OpenAI does not
            return None
        calls = [fetch_context_length(server.client, model) for server in self._servers]
        return min(filter(None, await asyncio.gather(*calls)), default=None)

    def can_afford(self, payload: dict[str, Any]) -> bool:
        """Return whether a request fits under the cap now, besides those in flight."""
        return self._budget is None or self._budget.can_afford(payload)

    def stop_sending(self) -> None:
        """Let requests in flight finish; send and retry no others."""
        self._stopping.set()
        self._scheduler.notify()

    async def close(self) -> None:
        for server in self._servers:
            await server.client.close()

    async def _attempt(self, key: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Send a request once and commit its reply and cost in one transaction."""
        slot = await self._scheduler.acquire(key, payload)
        self.stats.first_sent = self.stats.first_sent or slot.sent_at
        used_tokens = 0.0
        try:
            response = await self._post(slot.server.client, payload)
            reply = decode_reply(response)
            usage = count_billed_tokens(reply)
            used_tokens = sum(usage) if usage else slot.estimated_tokens
            self._scheduler.record_response(response.headers, usage)
            with self._ledger.durable():
                self._ledger.save_reply(key, reply, usage=usage)
                if self._budget:
                    self._budget.settle(key, reply)
        except (openai.APIError, json.JSONDecodeError, RequestFailure) as error:
            failure = error if isinstance(error, RequestFailure) else classify_exception(error)
            if self._budget:
                self._budget.release(key, failure.outcome, failure.not_billed, failure.usage)
            slot.server.record_failure(failure, slot.sent_at)
            raise failure from None
        except BaseException:
            if self._budget:
                self._budget.release(key, "broken off", not_billed=False)
            raise
        finally:
            self._scheduler.release(slot, used_tokens)
        slot.server.record_success()
        self._attribution.record_success()
        self.stats.answered += 1
        self.stats.last_answered = asyncio.get_running_loop().time()
        return reply

    async def _post(self, client: openai.AsyncOpenAI, payload: dict[str, Any]) -> httpx2.Response:
        """Send one POST request; the total timeout also ends a body that never completes."""
        try:
            async with asyncio.timeout(2 * self._timeout_s):
                return await post(client, self._path, payload)
        except TimeoutError:
            request = httpx2.Request("POST", client.base_url)
            raise openai.APITimeoutError(request=request) from None

    async def _skip(
        self, index: int, key: str, failure: RequestFailure, counts: Counter[ErrorKind]
    ) -> dict[str, Any] | None:
        """Record an error as the reply of a request that cannot succeed; None to retry it."""
        if failure.kind is ErrorKind.FATAL:
            raise TeacherRefused(failure.format_fatal())
        if await self._attribution.is_prompt_rejected(index, failure):
            return save_error_reply(self._ledger, key, failure.message, failure.code)
        counts[failure.kind] += 1
        if failure.kind is not ErrorKind.OVERLOADED:
            self._attribution.record_failure(index)
        if counts[ErrorKind.INVALID_OUTPUT] < MAX_INVALID_OUTPUTS:
            overloads = counts[ErrorKind.OVERLOADED]
            works = self.stats.answered or (self._is_resumed and failure.reached_server)
            max_attempts = MAX_ATTEMPTS if works else MAX_FIRST_ATTEMPTS
            exhausted = counts.total() - overloads >= max_attempts or overloads >= MAX_OVERLOADS
            if not exhausted and not self._stopping.is_set():
                return None
            if not self._attribution.is_request_at_fault(index, failure):
                raise TeacherRefused(self._format_unreachable(failure.message))
        return save_error_reply(self._ledger, key, failure.message, UNANSWERED)

    async def _back_off(self, failure: RequestFailure, num_attempts: int) -> None:
        """Wait before the next attempt; after a Retry-After, the scheduler waits instead."""
        self.stats.retried += 1
        self.stats.rejected += failure.kind is ErrorKind.OVERLOADED
        if (failure.retry_after_s or 0.0) < MIN_RETRY_AFTER_S:
            with contextlib.suppress(TimeoutError):  # returns early when the run is stopping
                await asyncio.wait_for(self._stopping.wait(), draw_backoff(num_attempts))

    def _format_unreachable(self, reason: str) -> str:
        urls = (redact(server.url or "https://api.openai.com/v1") for server in self._servers)
        return (
            f"the teacher at {' and '.join(urls)} does not answer ({reason}); all replies so far "
            "are kept: check teacher_base_url and that the server runs, then rerun the same command"
        )
