"""Decide when each request is sent, and to which server: rate limits, concurrency, pauses, budget.

A 429 or 503 halves the number of requests in flight at that server and pauses all new requests to
it for its Retry-After.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai

from code_alpaca.core.errors import Stopped
from code_alpaca.teacher.budget import Budget
from code_alpaca.teacher.error_classification import ErrorKind, RequestFailure
from code_alpaca.teacher.rate_limits import ConcurrencyWindow, RateLimiter, parse_rate_limit
from code_alpaca.teacher.request_body import ENDPOINT_PATHS, Api, get_token_limit

MAX_BACKOFF_S = 60.0  # between two attempts
MAX_PAUSE_S = 600.0  # of a server with a longer Retry-After
# Requests are sent one by one: replies to simultaneous requests arrive together, and the teacher
# is idle while the event loop processes all of them (benchmarks/generation_speed.py).
SEND_INTERVAL_S = 0.001
BYTES_PER_TOKEN = 4
AVERAGED_REPLIES = 20  # time constant of the moving average of completion lengths


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """How to send requests to a teacher."""

    api: Api
    max_concurrency: int  # requests in flight over all servers
    timeout_s: float  # without a response, after which an attempt fails
    requests_per_minute: float | None = None  # None: use the rate-limit headers of the servers
    tokens_per_minute: float | None = None
    batch_poll_s: float = 60.0  # between two polls of a batch
    extra_headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # may be secret
    transport: httpx2.AsyncBaseTransport | None = None  # replaces the network connection

    @property
    def endpoint(self) -> str:
        """The path of the requests, with the names of extra headers: part of their keys."""
        return " ".join([ENDPOINT_PATHS[self.api], *sorted(self.extra_headers)])


class Scheduler:
    """Grant requests their slots, one at a time, until the budget ends or `stopping` is set."""

    def __init__(
        self,
        servers: Sequence[Server],
        settings: ConnectionSettings,
        budget: Budget | None,
        stopping: asyncio.Event,
    ) -> None:
        self.in_flight = 0
        self._servers, self._max_concurrency = servers, settings.max_concurrency
        self._budget, self._stopping = budget, stopping
        limits = {"requests": settings.requests_per_minute, "tokens": settings.tokens_per_minute}
        self._limiters = {unit: RateLimiter(limit) for unit, limit in limits.items() if limit}
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._last_sent_at = 0.0
        self._mean_completion = 0.0  # tokens

    async def acquire(self, key: str, payload: dict[str, Any]) -> Slot:
        """Wait until a request may be sent, and reserve its worst-case cost."""
        estimate = 0.0
        if "tokens" in self._limiters:
            prompt = len(json.dumps(payload)) / BYTES_PER_TOKEN
            estimate = prompt + (self._mean_completion or get_token_limit(payload))
        async with self._turn:
            await asyncio.sleep(self._last_sent_at + SEND_INTERVAL_S - _now())
            server = await self._wait_for_server(payload)
            if self._budget:
                self._budget.reserve(key, payload)
            self._last_sent_at = _now()
            server.in_flight += 1
            self.in_flight += 1
            for unit, limiter in self._limiters.items():
                limiter.consume(1 if unit == "requests" else estimate, self._last_sent_at)
            return Slot(server, self._last_sent_at, estimate)

    def release(self, slot: Slot, used_tokens: float) -> None:
        """Free a slot after its request succeeded or failed."""
        if limiter := self._limiters.get("tokens"):
            limiter.refund(slot.estimated_tokens - used_tokens)
        slot.server.in_flight -= 1
        self.in_flight -= 1
        self.notify()

    def notify(self) -> None:
        """Let the waiting request check the conditions again."""
        self._changed.set()

    def record_response(self, headers: Mapping[str, str], usage: tuple[int, int] | None) -> None:
        """Update the token estimate, and adopt the server's rate limits if none are configured."""
        if usage:
            mean = self._mean_completion or usage[1]
            self._mean_completion = mean + (usage[1] - mean) / AVERAGED_REPLIES
        for unit, used in (("requests", 0), ("tokens", sum(usage or ()))):
            if unit not in self._limiters and (limit := parse_rate_limit(headers, unit, used)):
                self._limiters[unit] = RateLimiter(limit)

    async def _wait_for_server(self, payload: dict[str, Any]) -> Server:
        """Wait for an available server; return the one with the fewest requests in flight."""
        while True:
            if self._stopping.is_set():
                raise Stopped("the run is stopping; this request was not sent")
            self._changed.clear()
            now = _now()
            wait_s: float | None = None  # until the next reply
            awake = [server for server in self._servers if server.paused_until <= now]
            available = [server for server in awake if server.in_flight < server.window.size]
            if self.in_flight < self._max_concurrency and available:
                delays = [limiter.get_delay(now) for limiter in self._limiters.values()]
                wait_s = max(delays, default=0.0) or None
                if wait_s is None and self._can_afford(payload):
                    return min(available, key=lambda server: server.in_flight)
            elif self.in_flight < self._max_concurrency:
                pauses = [server.paused_until - now for server in self._servers]
                wait_s = min((pause for pause in pauses if pause > 0), default=None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()

    def _can_afford(self, payload: dict[str, Any]) -> bool:
        if self._budget is None:
            return True
        if self._budget.can_afford(payload):
            # Until one reply shows that the server respects the token limit, send one at a time.
            return self.in_flight == 0 or not self._budget.is_limit_unverified
        if self.in_flight == 0:
            raise Stopped(self._budget.format_exhausted(payload))
        return False


@dataclass(frozen=True, slots=True)
class Slot:
    """Permission to send one request to `server`."""

    server: Server
    sent_at: float
    estimated_tokens: float  # consumed from the rate limit


@dataclass(slots=True)
class Server:
    """One base URL: its client, its requests in flight, and when it may be used again."""

    url: str | None
    client: openai.AsyncOpenAI
    window: ConcurrencyWindow
    has_alternatives: bool = False
    in_flight: int = 0
    paused_until: float = 0.0
    consecutive_failures: int = 0

    def record_success(self) -> None:
        self.consecutive_failures = 0
        self.window.grow()

    def record_failure(self, failure: RequestFailure, sent_at: float) -> None:
        """Pause an overloaded server for its Retry-After, and a failing one if there are others."""
        pause_s = 0.0
        if failure.kind is ErrorKind.OVERLOADED:
            self.window.shrink(sent_at, _now())
            pause_s = min(MAX_PAUSE_S, failure.retry_after_s or 0.0)
        elif failure.kind is ErrorKind.TRANSIENT:
            self.consecutive_failures += 1
            pause_s = draw_backoff(self.consecutive_failures) if self.has_alternatives else 0.0
        self.paused_until = max(self.paused_until, _now() + pause_s)


def draw_backoff(num_failures: int) -> float:
    """Return a random delay in seconds: exponential backoff with full jitter.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return random.uniform(0, min(MAX_BACKOFF_S, 0.5 * 2**num_failures))


def _now() -> float:
    """Return the time of the event loop, which tests simulate."""
    return asyncio.get_running_loop().time()
