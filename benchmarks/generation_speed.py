"""How close does `generate` come to the speed of the teacher itself?

An embedded teacher answers after a fixed latency; with N requests, C at a time, no client can be
faster than N / C x latency. Measured: the span from the first request sent to the last reply
committed, and the CPU time of this process for each request. Beside it, in the same run, a bare
loop over the same HTTP client with a semaphore, which records, checks and decides nothing.

    python benchmarks/generation_speed.py            # 640 requests at 0.2 s, 64 at a time
    python benchmarks/generation_speed.py --large    # 5,120 requests at 1 s, 256 at a time
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import statistics
import tempfile
import time
from pathlib import Path

import httpx2
import openai

from code_alpaca.generation import generate
from code_alpaca.ledger import Ledger
from code_alpaca.teacher import offline
from code_alpaca.teacher.client import Teacher

REPEATS = 5


def ours(url: str, requests: int, at_a_time: int) -> tuple[float, float]:
    """Seconds of the sending span, and CPU milliseconds a request, of one whole run."""
    spans = []
    close = Teacher.close

    async def closing(self: Teacher) -> None:
        spans.append(self.tally.last_answered - self.tally.first_sent)
        await close(self)

    Teacher.close = closing  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        config = generate.Config(
            run_dir=Path(folder),
            teacher_base_url=url,
            num_examples=requests,
            tasks_per_request=1,
            novelty_threshold=1.0,  # every reply brings its row: so many requests, no more
            filters=[],
            decontaminate=[],
            verify=False,
            lookahead=2 * at_a_time,
            max_concurrency=at_a_time,
        )
        began = time.process_time()
        generate.run(config)
        cpu = time.process_time() - began
        with Ledger(Path(folder, "ledger.sqlite"), write=False) as ledger:
            assert ledger.usage()["replies"] == requests, ledger.usage()
    Teacher.close = close  # type: ignore[method-assign]
    return spans[0], cpu / requests * 1e3


def bare(url: str, requests: int, at_a_time: int) -> tuple[float, float]:
    """The same for a loop that only asks."""

    async def go() -> float:
        limits = httpx2.Limits(max_connections=at_a_time)
        client = openai.AsyncOpenAI(
            base_url=url,
            api_key="none",
            max_retries=0,
            http_client=openai.DefaultAioHttpClient(limits=limits),
        )
        slots = asyncio.Semaphore(at_a_time)

        async def ask(number: int) -> None:
            async with slots:
                await client.chat.completions.create(
                    model="offline-teacher",
                    messages=[{"role": "user", "content": f"Write 1 tasks, number {number}"}],
                )

        began = time.monotonic()
        await asyncio.gather(*(ask(number) for number in range(requests)))
        span = time.monotonic() - began
        await client.close()
        return span

    began = time.process_time()
    span = asyncio.run(go())
    return span, (time.process_time() - began) / requests * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="5,120 requests at 1 s, 256 at a time")
    large = parser.parse_args().large
    requests, at_a_time, latency = (5120, 256, 1.0) if large else (640, 64, 0.2)
    ideal = requests / at_a_time * latency
    print(f"{requests} requests, {at_a_time} at a time, {latency} s each: ideal {ideal:.1f} s")
    rows: dict[str, list[tuple[float, float]]] = {"code-alpaca": [], "bare loop": []}
    with offline.serving() as url:
        ours(url, 32, 16)  # imports and first calls are no part of the speed
    with offline.serving(f"offline?latency={latency}") as url:
        for _ in range(1 if large else REPEATS):
            rows["code-alpaca"].append(ours(url, requests, at_a_time))
            rows["bare loop"].append(bare(url, requests, at_a_time))
    for name, measured in rows.items():
        span = statistics.median(row[0] for row in measured)
        cpu = statistics.median(row[1] for row in measured)
        print(f"{name:<12} {span:6.2f} s  {span / ideal:.2f} x ideal  {cpu:.2f} ms CPU a request")


if __name__ == "__main__":
    main()
