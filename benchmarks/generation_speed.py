"""Compare the speed of `generate` with the limit that the teacher's latency sets, and with peers.

The embedded teacher answers after a fixed latency. With N requests, C of them concurrent, no client
can be faster than N / C x latency. Measured: the time from the first request to the last committed
reply, the time of the whole run including the dataset, and the CPU time per request. In the same
run: a loop over the same HTTP client with a semaphore, which records and checks nothing; and with
--peers other tools, run by an interpreter that has them.

    python benchmarks/generation_speed.py            # 640 requests at 0.2 s, 64 concurrent
    python benchmarks/generation_speed.py --large    # 5,120 requests at 1 s, 256 concurrent
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
from generation_limits import record_stats

from code_alpaca.core.ledger import Ledger
from code_alpaca.generation.command import GenerateConfig
from code_alpaca.teacher import offline

REPEATS = 5


class Timing(NamedTuple):
    """Seconds from the first request to the last reply, and of the run; CPU ms per request."""

    sending_s: float
    total_s: float
    cpu_ms: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--large", action="store_true", help="5,120 requests at 1 s, 256 concurrent"
    )
    parser.add_argument(
        "--peers", metavar="PYTHON", help="an interpreter with the tools of peers.py"
    )
    args = parser.parse_args()
    requests, concurrency, latency = (5120, 256, 1.0) if args.large else (640, 64, 0.2)
    ideal = requests / concurrency * latency
    print(f"{requests} requests, {concurrency} concurrent, {latency} s each: ideal {ideal:.1f} s")
    timings: dict[str, list[Timing]] = defaultdict(list)
    with offline.start_server() as url:
        time_generate(url, 32, 16)  # excludes imports and first calls
    with offline.start_server(f"offline?latency={latency}") as url:
        for _ in range(1 if args.large else REPEATS):
            timings["code-alpaca"].append(time_generate(url, requests, concurrency))
            timings["bare loop"].append(time_bare_loop(url, requests, concurrency))
            for name in ("curator", "distilabel") if args.peers else ():
                timings[name].append(time_peer(args.peers, name, url, requests, concurrency))
    print(f"{'':12}  sending span       whole run          CPU a request")
    for name, runs in timings.items():
        sending, total, cpu = map(statistics.median, zip(*runs, strict=True))
        columns = [
            f"{'-':^17}" if math.isnan(seconds) else f"{seconds:6.2f} s ({seconds / ideal:.2f} x)"
            for seconds in (sending, total)
        ]
        print(f"{name:<12}", *columns, "-" if math.isnan(cpu) else f"{cpu:.2f} ms", sep="  ")


def time_generate(url: str, requests: int, concurrency: int) -> Timing:
    """Time a run of `generate`, from the config to the dataset folder."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        config = GenerateConfig(
            run_dir=Path(folder),
            teacher_base_url=url,
            num_examples=requests,
            tasks_per_request=1,
            novelty_threshold=1.0,  # accepts every row: exactly this number of requests
            filters=[],
            decontaminate=[],
            verify=False,
            lookahead=2 * concurrency,
            max_concurrency=concurrency,
        )
        started, cpu_started = time.monotonic(), time.process_time()
        stats = record_stats(config)
        total, cpu = time.monotonic() - started, time.process_time() - cpu_started
        with Ledger(Path(folder, "ledger.sqlite"), write=False) as ledger:
            assert ledger.usage()["replies"] == requests, ledger.usage()
    return Timing(stats.last_answered - stats.first_sent, total, cpu / requests * 1e3)


def time_bare_loop(url: str, requests: int, concurrency: int) -> Timing:
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

        async def send(number: int) -> None:
            async with slots:
                await client.chat.completions.create(
                    model="offline-teacher",
                    messages=[{"role": "user", "content": f"Write 1 tasks, number {number}"}],
                )

        started = time.monotonic()
        await asyncio.gather(*(send(number) for number in range(requests)))
        seconds = time.monotonic() - started
        await client.close()
        return seconds

    started, cpu_started = time.monotonic(), time.process_time()
    sending = asyncio.run(send_all())
    cpu = time.process_time() - cpu_started
    return Timing(sending, time.monotonic() - started, cpu / requests * 1e3)


def time_peer(python: str, name: str, url: str, requests: int, concurrency: int) -> Timing:
    """Time another tool in its own interpreter, without its imports."""
    script = Path(__file__).with_name("peers.py")
    command = [python, str(script), name, url, str(requests), str(concurrency)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    return Timing(math.nan, float(done.stdout.rsplit("seconds", 1)[1]), math.nan)


if __name__ == "__main__":
    main()
