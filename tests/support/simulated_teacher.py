"""Run the teacher client against simulated servers in simulated time: waits take no real time."""

from __future__ import annotations

import asyncio
import json
import selectors
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2

from code_alpaca.core.ledger import Ledger
from code_alpaca.teacher.batch import BatchTeacher
from code_alpaca.teacher.budget import Budget
from code_alpaca.teacher.client import Teacher
from code_alpaca.teacher.http_client import RequestStats
from code_alpaca.teacher.offline.replies import count_tokens, write_chat_reply
from code_alpaca.teacher.offline.server import TeacherConfig
from code_alpaca.teacher.prices import Price
from code_alpaca.teacher.request_body import SamplingParams, build_request_body
from code_alpaca.teacher.scheduling import ConnectionSettings

URL = "http://127.0.0.1/v1"
MAX_TOKENS = 1500
MAX_THREAD_S = 60
SETTINGS = ConnectionSettings("chat", max_concurrency=4, timeout_s=10)


def run_simulated(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end; the loop's clock starts at 0 and skips every wait."""
    with asyncio.Runner(loop_factory=SimulatedTimeLoop) as runner:
        return runner.run(coroutine)


class SimulatedTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer as soon as nothing else can run."""

    def __init__(self) -> None:
        self._skipping = SkippingSelector()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now

    def run_in_executor(self, executor: Any, function: Any, *args: Any) -> asyncio.Future[Any]:
        future = super().run_in_executor(executor, function, *args)
        self._skipping.running_threads += 1
        future.add_done_callback(self._finish_thread)
        return future

    def _finish_thread(self, _: asyncio.Future[Any]) -> None:
        self._skipping.running_threads -= 1


class SkippingSelector(selectors.DefaultSelector):
    """A selector that advances its clock instead of waiting, unless a thread is running."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.running_threads = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:  # waiting for a thread
            events = super().select(MAX_THREAD_S)
            assert events, "the simulated event loop waits forever"
            return events
        if self.running_threads:
            return super().select(timeout)
        events = super().select(0)
        if not events:
            self.now += max(0.0, timeout)
        return events


@dataclass
class Received:
    """A request that a simulated server received."""

    body: dict[str, Any]
    host: str
    time: float


Respond = Callable[[dict[str, Any], int], "httpx2.Response | Exception | None"]


@dataclass
class SimulatedServer(httpx2.AsyncBaseTransport):
    """A chat server without a network.

    Args:
        respond: returns the response to a request body and its index, an exception to raise in
            place of a response, or None for a valid reply.
        latency: seconds before the response to a request.
    """

    respond: Respond = lambda body, index: None
    latency: Callable[[Received], float] = lambda received: 0.5
    received: list[Received] = field(default_factory=list)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [received.body for received in self.received]

    @property
    def times(self) -> list[float]:
        return [received.time for received in self.received]

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(await request.aread())
        now = asyncio.get_running_loop().time()
        received = Received(body, request.url.host, now)
        index = len(self.received)
        self.received.append(received)
        await asyncio.sleep(self.latency(received))
        response = self.respond(body, index)
        if isinstance(response, Exception):
            raise response
        return response or reply(body)


@dataclass(frozen=True)
class Run:
    """The outcome of a scenario; `results` are replies and exceptions in the order of prompts."""

    results: Any
    seconds: float
    stats: RequestStats
    usage: dict[str, int]
    spent: float


def complete_prompts(
    run_dir: Path,
    server: httpx2.AsyncBaseTransport,
    prompts: Sequence[int] = range(12),
    **options: Any,
) -> Run:
    """Request replies to these numbered prompts concurrently; options as `run_with_teacher`."""
    return run_with_teacher(
        run_dir, server, lambda teacher: complete_all(teacher, prompts), **options
    )


async def complete_all(teacher: Teacher | BatchTeacher, prompts: Sequence[int]) -> list[Any]:
    """Request replies to numbered prompts; return replies and exceptions in their order."""
    calls = [teacher.complete(number, build_prompt(number), {}, []) for number in prompts]
    results = await asyncio.gather(*calls, return_exceptions=True)
    return [item if isinstance(item, BaseException) else item[1] for item in results]


def run_with_teacher(
    run_dir: Path,
    server: httpx2.AsyncBaseTransport,
    scenario: Callable[[Teacher], Coroutine[Any, Any, Any]],
    *,
    settings: ConnectionSettings = SETTINGS,
    base_urls: Sequence[str] = (URL,),
    price: Price | None = None,
    cap: float | None = None,
) -> Run:
    """Run a scenario with a new `Teacher` on the ledger of a run folder."""

    async def run(ledger: Ledger) -> tuple[Any, float, RequestStats]:
        budget = Budget(ledger, price, cap) if price else None
        connection = replace(settings, transport=server)
        teacher = Teacher(base_urls, connection, ledger=ledger, budget=budget)
        await teacher.start()
        results = await scenario(teacher)
        seconds = asyncio.get_running_loop().time()
        await teacher.close()
        return results, seconds, teacher.stats

    run_dir.mkdir(parents=True, exist_ok=True)
    with Ledger(run_dir / "ledger.sqlite") as ledger:
        results, seconds, stats = run_simulated(run(ledger))
        return Run(results, seconds, stats, ledger.usage(), ledger.spent())


def build_prompt(number: int) -> dict[str, Any]:
    """Return the request body of a numbered prompt."""
    sampling = SamplingParams("model", 1.0, 1.0, MAX_TOKENS)
    return build_request_body("chat", f"Write {number} tasks.", sampling, {"type": "object"})


def prompt_number(body: dict[str, Any]) -> int:
    """Return the number of the prompt in a body of `build_prompt`."""
    return int(body["messages"][0]["content"].split()[1])


def build_reply(body: dict[str, Any]) -> dict[str, Any]:
    """Return the embedded teacher's reply to a chat request."""
    prompt = body["messages"][0]["content"]
    text, truncated = write_chat_reply(body, prompt, TeacherConfig())
    usage = {"prompt_tokens": count_tokens(prompt), "completion_tokens": count_tokens(text)}
    choice = {"message": {"content": text}, "finish_reason": "length" if truncated else "stop"}
    return {"choices": [choice], "usage": usage}


def reply(body: dict[str, Any], **headers: str) -> httpx2.Response:
    return httpx2.Response(200, json=build_reply(body), headers=headers)


def error(
    status: int, message: str, code: str | int | None = None, **headers: str
) -> httpx2.Response:
    body = {"error": {"message": message, "code": code, "type": "x", "param": None}}
    return httpx2.Response(status, json=body, headers=headers)


async def drip(interval_s: float) -> AsyncIterator[bytes]:
    """Yield a byte at a time, without end."""
    while True:
        await asyncio.sleep(interval_s)
        yield b" "


def is_reply(result: Any) -> bool:
    """Return whether a result is a reply of the server, not an error."""
    return isinstance(result, dict) and "error" not in result
