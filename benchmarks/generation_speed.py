"""How close does `generate` come to the speed of the teacher itself?

An embedded teacher answers after a fixed latency; with N requests, C at a time, no client can be
faster than N / C x latency. Measured: the span from the first request sent to the last reply
committed, the whole run with its dataset, and the CPU time of this process for each request.
Beside it, in the same run, a bare loop over the same HTTP client with a semaphore, which records,
checks and decides nothing; and other tools, where an interpreter is given that has them.

    python benchmarks/generation_speed.py            # 640 requests at 0.2 s, 64 at a time
    python benchmarks/generation_speed.py --large    # 5,120 requests at 1 s, 256 at a time
    python benchmarks/generation_speed.py --peers peers/bin/python       # see peers.py
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import math
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import httpx2
import openai

from code_alpaca.core.ledger import Ledger
from code_alpaca.generation.command import GenerateConfig, generate_dataset
from code_alpaca.teacher import offline
from code_alpaca.teacher.client import Teacher

REPEATS = 5


class Measured(NamedTuple):
    """Seconds from the first request sent to the last answered, and of the whole run; CPU time."""

    span: float
    whole: float
    cpu_ms: float  # a request


def ours(url: str, requests: int, at_a_time: int) -> Measured:
    """One whole run of generate, from the config to the dataset folder."""
    spans = []
    close = Teacher.close

    async def closing(self: Teacher) -> None:
        spans.append(self.stats.last_answered - self.stats.first_sent)
        await close(self)

    Teacher.close = closing  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        config = GenerateConfig(
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
        began, cpu_began = time.monotonic(), time.process_time()
        generate_dataset(config)
        whole, cpu = time.monotonic() - began, time.process_time() - cpu_began
        with Ledger(Path(folder, "ledger.sqlite"), write=False) as ledger:
            assert ledger.usage()["replies"] == requests, ledger.usage()
    Teacher.close = close  # type: ignore[method-assign]
    return Measured(spans[0], whole, cpu / requests * 1e3)


def bare(url: str, requests: int, at_a_time: int) -> Measured:
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

    began, cpu_began = time.monotonic(), time.process_time()
    span = asyncio.run(go())
    cpu = time.process_time() - cpu_began
    return Measured(span, time.monotonic() - began, cpu / requests * 1e3)


def peer(python: str, name: str, url: str, requests: int, at_a_time: int) -> Measured:
    """The same by another tool, in its own interpreter; its imports are not counted."""
    script = Path(__file__).with_name("peers.py")
    words = [python, str(script), name, url, str(requests), str(at_a_time)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=600, check=True)
    seconds = float(done.stdout.rsplit("seconds", 1)[1])
    return Measured(math.nan, seconds, math.nan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="5,120 requests at 1 s, 256 at a time")
    parser.add_argument(
        "--peers", metavar="PYTHON", help="an interpreter with the tools of peers.py"
    )
    args = parser.parse_args()
    requests, at_a_time, latency = (5120, 256, 1.0) if args.large else (640, 64, 0.2)
    ideal = requests / at_a_time * latency
    print(f"{requests} requests, {at_a_time} at a time, {latency} s each: ideal {ideal:.1f} s")
    rows: dict[str, list[Measured]] = defaultdict(list)
    with offline.start_server() as url:
        ours(url, 32, 16)  # imports and first calls are no part of the speed
    with offline.start_server(f"offline?latency={latency}") as url:
        for _ in range(1 if args.large else REPEATS):
            rows["code-alpaca"].append(ours(url, requests, at_a_time))
            rows["bare loop"].append(bare(url, requests, at_a_time))
            for name in ("curator", "distilabel") if args.peers else ():
                rows[name].append(peer(args.peers, name, url, requests, at_a_time))
    print(f"{'':12}  sending span       whole run          CPU a request")
    for name, measured in rows.items():
        span, whole, cpu = map(statistics.median, zip(*measured, strict=True))
        told = [
            f"{t:6.2f} s ({t / ideal:.2f} x)" if t == t else f"{'-':^17}" for t in (span, whole)
        ]
        print(f"{name:<12}", *told, f"{cpu:.2f} ms" if cpu == cpu else "-", sep="  ")


if __name__ == "__main__":
    main()
