"""Measure how much of a rate limit `generate` uses, and how many requests are rejected.

The embedded teacher allows PER_MINUTE requests, with bursts of one second, and returns 429 for
more. Reported: the fraction of the limit used between the first request and the last reply, and the
fraction of requests that got a 429; once with the limit configured, once read from the headers.

    python benchmarks/generation_limits.py
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from unittest import mock

from code_alpaca.generation.command import GenerateConfig, generate_dataset
from code_alpaca.teacher import offline
from code_alpaca.teacher.client import Teacher
from code_alpaca.teacher.http_client import RequestStats

PER_MINUTE = 3000
REQUESTS = 1500  # half a minute at the limit
LATENCY_S = 0.2


def main() -> None:
    print(f"{REQUESTS} requests, limit {PER_MINUTE} per minute, latency {LATENCY_S} s")
    for name, limit in (("configured", PER_MINUTE), ("from headers", None)):
        with offline.start_server(f"offline?latency={LATENCY_S}&rpm={PER_MINUTE}") as url:
            stats = generate(url, limit)
        seconds = stats.last_answered - stats.first_sent - LATENCY_S
        used = stats.answered / seconds * 60 / PER_MINUTE
        sent = stats.answered + stats.retried
        print(f"{name:<12} {used:6.1%} used, {stats.rejected / sent:.2%} of {sent} answered 429")


def generate(url: str, limit: float | None) -> RequestStats:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        config = GenerateConfig(
            run_dir=Path(folder),
            teacher_base_url=url,
            num_examples=REQUESTS,
            tasks_per_request=1,
            novelty_threshold=1.0,
            filters=[],
            decontaminate=[],
            verify=False,
            lookahead=128,
            max_concurrency=64,
            requests_per_minute=limit,
        )
        return record_stats(config)


def record_stats(config: GenerateConfig) -> RequestStats:
    """Run `generate` and return the statistics of its client."""
    recorded: list[RequestStats] = []
    close = Teacher.close

    async def record_and_close(teacher: Teacher) -> None:
        recorded.append(teacher.stats)
        await close(teacher)

    with mock.patch.object(Teacher, "close", record_and_close):
        generate_dataset(config)
    return recorded[0]


if __name__ == "__main__":
    main()
