"""Ask a teacher: send, pay, record. Patient with faults, and never past a limit.

A 429 or 503 makes every new request to that server wait for its Retry-After and narrows the
window; other transient faults are tried again alone, with exponential back-off and full jitter
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
What waiting cannot mend (a refused key, an unknown model, an empty account) stops the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
import openai

from code_alpaca.errors import Refused, Stopped
from code_alpaca.ledger import Ledger
from code_alpaca.teacher import apis
from code_alpaca.teacher.budget import Budget
from code_alpaca.teacher.connection import (
    BUSY_STATUS,
    FATAL_CODES,
    FATAL_STATUS,
    PROMPT_CODES,
    NoReply,
    Tally,
    new_client,
    object_of,
    refusal,
    short,
)
from code_alpaca.teacher.dialect import Dialect
from code_alpaca.teacher.limits import Pace, Window, learned, retry_after

TRIES = 8
FIRST_TRIES = 3  # before the teacher has ever answered: a wrong URL should not take minutes
TURNED_AWAY = 50  # 429s and 503s that one request sits out; they are no failure of its own
LONGEST_WAIT_S = 60.0  # between two tries of one request
LONGEST_REST_S = 600.0  # of a server that asks to be let alone; then it is asked again
SHORTEST_WAIT_S = 0.02  # a server that asks for less gets our own back-off
# Requests leave one by one: those that leave together come back together, and the loop, busy with
# all of them at once, leaves the teacher idle (benchmarks/generation_speed.py).
SPACING_S = 0.001


@dataclass(slots=True)
class Server:
    """One base URL: what is in flight there, how much may be, and until when it is let alone."""

    url: str | None
    client: openai.AsyncOpenAI
    window: Window
    in_flight: int = 0
    quiet_until: float = 0.0  # time.monotonic()
    failures: int = 0  # in a row

    def free(self, now: float) -> bool:
        return self.quiet_until <= now and self.in_flight < self.window.size


class Teacher:
    """One or several servers of the same model, as one.

    Args:
        base_urls: e.g. `http://127.0.0.1:8000/v1`; none takes OPENAI_BASE_URL or OpenAI itself.
        ledger: where requests and replies are recorded.
        budget: what may be spent; None where no price is known.
        timeout_s: seconds without an answer after which a request is tried again.
        requests_per_minute, tokens_per_minute: None learns them from the servers' headers.

    Raises:
        InputError: no OPENAI_API_KEY, and a server is not on this machine.
    """

    def __init__(
        self,
        base_urls: Sequence[str],
        *,
        api: apis.Api,
        ledger: Ledger,
        budget: Budget | None,
        max_concurrency: int,
        timeout_s: float,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
    ) -> None:
        self.tally = Tally()
        self.in_flight = 0
        self._path = apis.PATHS[api]
        self._ledger, self._budget = ledger, budget
        self._most = max_concurrency
        self._servers = [
            Server(url, new_client(url, timeout_s, max_concurrency), Window(max_concurrency))
            for url in base_urls or (os.environ.get("OPENAI_BASE_URL"),)
        ]
        self._requests = Pace(requests_per_minute) if requests_per_minute else None
        self._tokens = Pace(tokens_per_minute) if tokens_per_minute else None
        self._gate = asyncio.Lock()  # one request at a time waits for its turn: no herd
        self._freed = asyncio.Event()
        self._sent_at, self._timeout_s = 0.0, timeout_s
        self._closing = False
        self._dialect = Dialect(ledger)
        self._mean_answer = 0.0  # tokens

    async def start(self) -> None:
        """Settle what earlier starts left open."""
        if self._budget:
            self._budget.give_up_lost()

    async def ask(
        self, number: int, payload: dict[str, Any], asked: dict[str, Any], seed_ids: Sequence[str]
    ) -> tuple[str, dict[str, Any]]:
        """The key and the raw reply of request `number`, from the ledger or from the wire.

        Raises:
            Refused: the teacher refused for good, or does not answer.
            Stopped: the budget is used up, or the run is ending.
        """
        tries = turned_away = 0
        while True:
            sent = self._dialect.weaken(payload)
            key = self._ledger.request(
                number, self._path, sent, seed_ids=seed_ids, asked=asked, same=apis.question
            )
            if (reply := self._ledger.reply(key)) is not None:
                return key, reply
            try:
                return key, await self._try(key, sent)
            except openai.APIStatusError as error:
                if self._dialect.learn(error.status_code, error.body or str(error), sent):
                    continue
                if error.code in PROMPT_CODES:
                    reply = {"error": {"message": short(error), "code": error.code}}
                    with self._ledger.durable():
                        self._ledger.save_reply(key, reply)
                    return key, reply
                if error.status_code in FATAL_STATUS or error.code in FATAL_CODES:
                    raise Refused(refusal(error.status_code, short(error))) from None
                busy, why = error.status_code in BUSY_STATUS, short(error)
                asked_s = retry_after(error.response.headers) if busy else None
            except (openai.APIConnectionError, json.JSONDecodeError, NoReply) as error:
                busy, why, asked_s = False, short(error), None
            turned_away += busy
            tries += not busy
            most = TRIES if self.tally.answered else FIRST_TRIES
            if self._closing or tries >= most or turned_away >= TURNED_AWAY:
                raise Refused(self._unreachable(why)) from None
            self.tally.retried += 1
            self.tally.turned_away += busy
            if (asked_s or 0.0) < SHORTEST_WAIT_S:
                longest = min(LONGEST_WAIT_S, 0.5 * 2 ** (tries + turned_away))
                await asyncio.sleep(random.uniform(0, longest))

    def stop_sending(self) -> None:
        """Let requests in flight finish, and send or try again no other."""
        self._closing = True
        self._freed.set()

    async def close(self) -> None:
        for server in self._servers:
            await server.client.close()

    # -- one attempt -----------------------------------------------------------------------

    async def _try(self, key: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Send once, when it is this request's turn; commit the reply and its cost together."""
        estimate = self._estimate(payload) if self._tokens else 0.0
        async with self._gate:
            server = await self._turn(payload)
            if self._budget:
                self._budget.reserve(key, payload)
            await asyncio.sleep(self._sent_at + SPACING_S - time.monotonic())
            self._sent_at = sent_at = time.monotonic()
            self._take(server, estimate)
        self.tally.first_sent = self.tally.first_sent or sent_at
        used = 0.0
        try:
            response = await self._post(server, payload)
            reply = object_of(response)
            told = apis.usage(reply)
            used = sum(told) if told else estimate
            self._learn(response.headers, told)
            with self._ledger.durable():
                self._ledger.save_reply(key, reply, usage=told)
                if self._budget:
                    self._budget.settle(key, reply)
        except openai.APIStatusError as error:
            self._give_up(key, f"HTTP {error.status_code}", free=error.status_code < 500)
            self._failed(server, error, sent_at)
            raise
        except openai.APIConnectionError as error:
            # What never reached the server was not billed.
            unsent = isinstance(error.__cause__, httpx2.ConnectError)
            self._give_up(key, "no answer", free=unsent)
            self._failed(server, error, sent_at)
            raise
        except BaseException:
            self._give_up(key, "broken off", free=False)
            raise
        finally:
            if self._tokens:
                self._tokens.give_back(estimate - used)
            server.in_flight -= 1
            self.in_flight -= 1
            self._freed.set()
        server.failures = 0
        server.window.grow()
        self.tally.answered += 1
        self.tally.last_answered = time.monotonic()
        return reply

    async def _post(self, server: Server, payload: dict[str, Any]) -> httpx2.Response:
        """One POST; a body that drips in for ever ends, too, not only one that stops."""
        try:
            async with asyncio.timeout(2 * self._timeout_s):
                return await server.client.post(self._path, body=payload, cast_to=httpx2.Response)
        except TimeoutError:
            request = httpx2.Request("POST", server.client.base_url)
            raise openai.APITimeoutError(request=request) from None

    async def _turn(self, payload: dict[str, Any]) -> Server:
        """Wait until a request may go, and say where to.

        Raises:
            Stopped: the run is ending, or the budget has no room and nothing in flight frees any.
        """
        while True:
            if self._closing:
                raise Stopped("the run is ending; this request was not sent")
            self._freed.clear()
            now = time.monotonic()
            wait: float | None = None  # until something comes back
            free = [server for server in self._servers if server.free(now)]
            if self.in_flight < self._most and free:
                wait = max([pace.wait() for pace in (self._requests, self._tokens) if pace] or [0])
                if wait == 0 and self._fits(payload):
                    return min(free, key=lambda server: server.in_flight)
                wait = wait or None
            elif self.in_flight < self._most:
                quiet = [s.quiet_until - now for s in self._servers if s.quiet_until > now]
                wait = min(quiet, default=None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._freed.wait()

    def _fits(self, payload: dict[str, Any]) -> bool:
        if self._budget is None or self._budget.fits(payload):
            return True
        if self.in_flight == 0:
            raise Stopped(self._budget.used_up(payload))
        return False

    def _take(self, server: Server, estimate: float) -> None:
        server.in_flight += 1
        self.in_flight += 1
        if self._requests:
            self._requests.take(1)
        if self._tokens:
            self._tokens.take(estimate)

    def _estimate(self, payload: dict[str, Any]) -> float:
        """Tokens that the request will probably use: four bytes to one, and the usual answer."""
        return len(json.dumps(payload)) / 4 + (self._mean_answer or apis.answer_limit(payload))

    def _learn(self, headers: Any, told: tuple[int, int] | None) -> None:
        if told:
            before = self._mean_answer or told[1]
            self._mean_answer = before + (told[1] - before) / 20
        if self._requests is None and (limit := learned(headers, "requests")):
            self._requests = Pace(limit)
        if self._tokens is None and (limit := learned(headers, "tokens")):
            self._tokens = Pace(limit)

    def _give_up(self, key: str, outcome: str, *, free: bool) -> None:
        if self._budget:
            self._budget.give_up(key, outcome, free=free)

    def _failed(self, server: Server, error: openai.APIError, sent_at: float) -> None:
        """Let a busy server alone for as long as it asks, a broken one while others are there."""
        now = time.monotonic()
        if isinstance(error, openai.APIStatusError):
            if error.status_code < 500 and error.status_code not in BUSY_STATUS:
                return
            if error.status_code in BUSY_STATUS:
                server.window.shrink(sent_at)
                asked = retry_after(error.response.headers)
                if asked is not None:
                    until = now + min(LONGEST_REST_S, asked)
                    server.quiet_until = max(server.quiet_until, until)
                return
        server.failures += 1
        if len(self._servers) > 1:
            rest = random.uniform(0, min(LONGEST_WAIT_S, 0.5 * 2**server.failures))
            server.quiet_until = max(server.quiet_until, now + rest)

    def _unreachable(self, why: str) -> str:
        where = " and ".join(server.url or "https://api.openai.com/v1" for server in self._servers)
        return (
            f"the teacher at {where} does not answer ({why}); everything so far is kept: "
            "check teacher_base_url and that the server runs, then give the same command again"
        )
