"""Compare the speed of `generate` with the limit that the teacher's latency sets, and with peers.

The embedded teacher answers after a fixed latency. With N requests, C of them concurrent, no client
is faster than N / C x latency. Measured: the time from the first request to the last committed
reply, the time of the whole run including the dataset, and the CPU time per request. "Bare loop" is
the same HTTP client with a semaphore, which records and checks nothing; Curator and distilabel
complete the same number of prompts.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial

import httpx2
import openai
from common import Bench, Values, run
from environments import run_peer
from recorded_run import generate, send

from code_alpaca.teacher import offline

WORKLOADS = ((640, 64, 0.2), (1_280, 128, 0.5), (3_072, 256, 1.0))  # requests, concurrent, latency


def measure(bench: Bench) -> None:
    with offline.start_server() as url:
        time_generate(url, 32, 16)  # excludes imports and first calls
    for requests, concurrency, latency in bench.choose(WORKLOADS, ((24, 8, 0.05),)):
        with offline.start_server(f"offline?latency={latency}") as url:
            contestants = {
                "code-alpaca": partial(time_generate, url, requests, concurrency),
                "bare loop": partial(time_bare_loop, url, requests, concurrency),
            }
            for name in ("curator", "distilabel"):
                contestants[name] = partial(time_peer, bench, name, url, requests, concurrency)
            bench.compare(
                contestants, repeats=bench.choose(3, 1), size=requests, concurrency=concurrency,
                latency_s=latency, ideal_s=requests / concurrency * latency,
            )  # fmt: skip


def time_generate(url: str, requests: int, concurrency: int) -> Values:
    """Time a run of `generate`, from the config to the dataset folder."""
    started, cpu_started = time.monotonic(), time.process_time()
    stats = generate(url, requests, lookahead=2 * concurrency, max_concurrency=concurrency)
    total, cpu = time.monotonic() - started, time.process_time() - cpu_started
    assert stats.answered == requests, stats
    return {
        "sending_s": stats.last_answered - stats.first_sent,
        "total_s": total,
        "cpu_ms": cpu / requests * 1e3,
    }


def time_bare_loop(url: str, requests: int, concurrency: int) -> Values:
    """Time a loop that sends the requests and does nothing else."""

    async def send_all() -> float:
        limits = httpx2.Limits(max_connections=concurrency)
        client = openai.AsyncOpenAI(
            base_url=url,
            api_key="none",
            max_retries=0,
            http_client=openai.DefaultAioHttpClient(limits=limits),
        )
        slots = asyncio.Semaphore(concurrency)

        started = time.monotonic()
        await asyncio.gather(*(send(client, slots, number) for number in range(requests)))
        seconds = time.monotonic() - started
        await client.close()
        return seconds

    started, cpu_started = time.monotonic(), time.process_time()
    sending = asyncio.run(send_all())
    cpu = time.process_time() - cpu_started
    total = time.monotonic() - started
    return {"sending_s": sending, "total_s": total, "cpu_ms": cpu / requests * 1e3}


def time_peer(bench: Bench, name: str, url: str, requests: int, concurrency: int) -> Values:
    """Time another tool in its own interpreter, without its imports."""
    reply = run_peer(bench, name, {"url": url, "requests": requests, "concurrency": concurrency})
    return {"total_s": reply["seconds"]}


if __name__ == "__main__":
    run(measure)
