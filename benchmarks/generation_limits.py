"""Measure how much of a rate limit `generate` uses, and how many responses are 429.

The embedded teacher allows PER_MINUTE requests, with bursts of one second, and answers 429 to more.
Reported: the fraction of the limit used between the first request and the last reply, the fraction
of responses that were 429, and the requests that failed for good; with the limit configured, with
the limit read from the headers, and for the SDK's own retries.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial

import httpx2
import openai
from common import Bench, Values, run
from recorded_run import generate, send

from code_alpaca.teacher import offline

PER_MINUTE, LATENCY_S, CONCURRENCY = 3_000, 0.2, 64


def measure(bench: Bench) -> None:
    bench.add_versions("openai")
    requests = bench.choose(1_500, 60)  # half a minute at the limit
    bench.facts = {"requests": requests, "per_minute": PER_MINUTE, "latency_s": LATENCY_S}
    contestants = {
        "code-alpaca, limit configured": partial(measure_run, requests, PER_MINUTE),
        "code-alpaca, limit from headers": partial(measure_run, requests, None),
        "OpenAI SDK, 64 at a time, 10 retries": partial(measure_sdk, requests),
    }
    bench.compare(contestants, repeats=1)


def measure_run(requests: int, limit: float | None) -> Values:
    with offline.start_server(f"offline?latency={LATENCY_S}&rpm={PER_MINUTE}") as url:
        stats = generate(
            url, requests, lookahead=2 * CONCURRENCY, max_concurrency=CONCURRENCY,
            requests_per_minute=limit,
        )  # fmt: skip
    seconds = stats.last_answered - stats.first_sent
    return summarize(stats.answered, stats.answered + stats.retried, stats.rejected, seconds)


def measure_sdk(requests: int) -> Values:
    """Send the requests through the OpenAI SDK, which waits as long as Retry-After asks."""
    sent = rejected = 0

    async def count(response: httpx2.Response) -> None:
        nonlocal sent, rejected
        sent += 1
        rejected += response.status_code == 429

    async def send_all(url: str) -> list[object]:
        client = openai.AsyncOpenAI(
            base_url=url, api_key="none", max_retries=10,
            http_client=openai.DefaultAsyncHttpxClient(event_hooks={"response": [count]}),
        )  # fmt: skip
        slots = asyncio.Semaphore(CONCURRENCY)

        sending = (send(client, slots, number) for number in range(requests))
        results = await asyncio.gather(*sending, return_exceptions=True)
        await client.close()
        return results

    with offline.start_server(f"offline?latency={LATENCY_S}&rpm={PER_MINUTE}") as url:
        started = time.monotonic()
        results = asyncio.run(send_all(url))
        seconds = time.monotonic() - started
    answered = sum(result is None for result in results)
    return summarize(answered, sent, rejected, seconds)


def summarize(answered: int, sent: int, rejected: int, seconds: float) -> Values:
    return {
        "answered": answered,
        "sent": sent,
        "rejected": rejected,
        "limit_used": answered / (seconds - LATENCY_S) * 60 / PER_MINUTE,
    }


if __name__ == "__main__":
    run(measure)
