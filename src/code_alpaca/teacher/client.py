"""Ask a teacher: send, pay, record. Patient with faults, and never past a limit.

A 429 or 503 makes every new request to that server wait for its Retry-After and narrows the
window; other transient faults are tried again alone, with exponential back-off and full jitter
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
A prompt that is refused, or never answered while others are, costs its own request; what neither
waiting nor another prompt changes (a refused key, an unknown model, an empty account) stops the
run.
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

from code_alpaca.core.errors import Refused, Stopped
from code_alpaca.core.ledger import Ledger
from code_alpaca.core.redact import redact
from code_alpaca.teacher import apis
from code_alpaca.teacher.blame import Blame
from code_alpaca.teacher.budget import Budget
from code_alpaca.teacher.connection import Tally, new_client, object_of
from code_alpaca.teacher.dialect import Dialect
from code_alpaca.teacher.limits import Pace, Window, learned
from code_alpaca.teacher.refusals import Meaning, NoReply, Trouble, refusal, trouble_of

TRIES = 8
FIRST_TRIES = 3  # before the teacher has ever answered: a wrong URL should not take minutes
REPLY_TRIES = 3  # where the server rejects what its own model wrote: each may be billed
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
        self._closing = asyncio.Event()
        self._blame = Blame(ledger, self.tally, self._closing)
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
        with self._blame.asking():
            return await self._ask(number, payload, asked, seed_ids)

    async def _ask(
        self, number: int, payload: dict[str, Any], asked: dict[str, Any], seed_ids: Sequence[str]
    ) -> tuple[str, dict[str, Any]]:
        tries = turned_away = replies = 0
        answered_before: int | None = None  # by the teacher, when this request first failed
        while True:
            sent = self._dialect.weaken(payload)
            key = self._ledger.request(
                number, self._path, sent, seed_ids=seed_ids, asked=asked, same=apis.question
            )
            if (reply := self._ledger.reply(key)) is not None:
                return key, reply
            try:
                return key, await self._try(key, sent)
            except Failed as failed:
                trouble = failed.trouble
            if self._dialect.learn(trouble, sent):
                continue
            if trouble.meaning is Meaning.FATAL:
                raise Refused(refusal(trouble.status, trouble.message))
            if await self._blame.is_this_prompt(number, trouble):
                return key, self._pass_over(key, trouble.message, trouble.code)
            replies += trouble.meaning is Meaning.REPLY
            if replies >= REPLY_TRIES:
                return key, self._pass_over(key, trouble.message, apis.UNANSWERED)
            busy = trouble.meaning is Meaning.BUSY
            turned_away += busy
            tries += not busy
            if answered_before is None and not busy:
                answered_before = self.tally.answered
            most = TRIES if self.tally.answered else FIRST_TRIES
            if self._closing.is_set() or tries >= most or turned_away >= TURNED_AWAY:
                if self._blame.is_this_request(number, trouble, answered_before):
                    return key, self._pass_over(key, trouble.message, apis.UNANSWERED)
                raise Refused(self._unreachable(trouble.message))
            self.tally.retried += 1
            self.tally.turned_away += busy
            if (trouble.asked_s or 0.0) < SHORTEST_WAIT_S:
                longest = min(LONGEST_WAIT_S, 0.5 * 2 ** (tries + turned_away))
                with contextlib.suppress(TimeoutError):  # or until the run ends
                    await asyncio.wait_for(self._closing.wait(), random.uniform(0, longest))

    def stop_sending(self) -> None:
        """Let requests in flight finish, and send or try again no other."""
        self._closing.set()
        self._freed.set()

    async def close(self) -> None:
        for server in self._servers:
            await server.client.close()

    def _pass_over(self, key: str, message: str, code: str | None) -> dict[str, Any]:
        """Record an error as the reply to a request: it brings no row, and is not asked again."""
        reply = {"error": {"message": message, "code": code}}
        with self._ledger.durable():
            self._ledger.save_reply(key, reply)
        return reply

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
            usage = apis.usage(reply)
            used = sum(usage) if usage else estimate
            self._learn(response.headers, usage)
            with self._ledger.durable():
                self._ledger.save_reply(key, reply, usage=usage)
                if self._budget:
                    self._budget.settle(key, reply)
        except (openai.APIError, json.JSONDecodeError, NoReply) as error:
            trouble = trouble_of(error)
            if self._budget:
                self._budget.give_up(key, trouble.outcome, free=trouble.free, usage=trouble.usage)
            self._failed(server, trouble, sent_at)
            raise Failed(trouble) from None
        except BaseException:
            if self._budget:
                self._budget.give_up(key, "broken off", free=False)
            raise
        finally:
            if self._tokens:
                self._tokens.give_back(estimate - used)
            server.in_flight -= 1
            self.in_flight -= 1
            self._freed.set()
        server.failures = 0
        server.window.grow()
        self._blame.answered()
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
            if self._closing.is_set():
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
        if self._budget is None:
            return True
        if self._budget.fits(payload):
            # Before the first reply nobody knows whether the server keeps to the limit.
            return self.in_flight == 0 or not self._budget.unproven
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

    def _learn(self, headers: Any, usage: tuple[int, int] | None) -> None:
        if usage:
            before = self._mean_answer or usage[1]
            self._mean_answer = before + (usage[1] - before) / 20
        if self._requests is None and (limit := learned(headers, "requests")):
            self._requests = Pace(limit)
        # An allowance below what it has just given is none.
        if self._tokens is None and (limit := learned(headers, "tokens", sum(usage or ()))):
            self._tokens = Pace(limit)

    def _failed(self, server: Server, trouble: Trouble, sent_at: float) -> None:
        """Let a busy server alone for as long as it asks, a broken one while others are there."""
        now = time.monotonic()
        if trouble.meaning is Meaning.BUSY:
            server.window.shrink(sent_at)
            if trouble.asked_s is not None:
                until = now + min(LONGEST_REST_S, trouble.asked_s)
                server.quiet_until = max(server.quiet_until, until)
            return
        if trouble.meaning is not Meaning.FAULT:
            return
        server.failures += 1
        if len(self._servers) > 1:
            rest = random.uniform(0, min(LONGEST_WAIT_S, 0.5 * 2**server.failures))
            server.quiet_until = max(server.quiet_until, now + rest)

    def _unreachable(self, why: str) -> str:
        where = " and ".join(
            redact(server.url or "https://api.openai.com/v1") for server in self._servers
        )
        return (
            f"the teacher at {where} does not answer ({why}); everything so far is kept: "
            "check teacher_base_url and that the server runs, then rerun the same command"
        )


class Failed(Exception):
    """One attempt that brought no reply."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.message)
        self.trouble = trouble
