"""How much of an allowance does `generate` use, and how often is it turned away?

An embedded teacher allows so many requests a minute, a second's worth at once, and answers 429
to more. Measured against it: the share of the allowance that was used between the first request
and the last reply, and the share of requests that were turned away; once with the allowance
given to the run, once left to be learned from the server's headers.

    python benchmarks/generation_limits.py
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path

from code_alpaca.generation.command import GenerateConfig, generate_dataset
from code_alpaca.teacher import offline
from code_alpaca.teacher.client import Teacher
from code_alpaca.teacher.http_client import RequestStats

PER_MINUTE = 3000
REQUESTS = 1500  # half a minute of it
LATENCY_S = 0.2


def run(url: str, told: float | None) -> RequestStats:
    """One run of generate; what happened on the wire."""
    tallies = []
    close = Teacher.close

    async def closing(self: Teacher) -> None:
        tallies.append(self.stats)
        await close(self)

    Teacher.close = closing  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            generate_dataset(
                GenerateConfig(
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
                    requests_per_minute=told,
                )
            )
    finally:
        Teacher.close = close  # type: ignore[method-assign]
    return tallies[0]


def main() -> None:
    print(f"{REQUESTS} requests, {PER_MINUTE} a minute allowed, {LATENCY_S} s each")
    for name, told in (("given", PER_MINUTE), ("learned", None)):
        with offline.start_server(f"offline?latency={LATENCY_S}&rpm={PER_MINUTE}") as url:
            tally = run(url, told)
        span = tally.last_answered - tally.first_sent - LATENCY_S
        used = tally.answered / span * 60 / PER_MINUTE
        sent = tally.answered + tally.retried
        print(f"{name:<8} {used:6.1%} used, {tally.rejected / sent:.2%} of {sent} answered 429")


if __name__ == "__main__":
    main()
