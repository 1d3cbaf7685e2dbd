"""Measure the memory of a `generate` run by the number of accepted rows, in a process for each.

A run keeps the signatures of its rows in memory and the rows in its ledger. The peer keeps the rows
in a list, as a script would, and nothing else: no client, no deduplication, no checkpoints.
"""

from __future__ import annotations

import contextlib
import io
import random
import tempfile
from functools import partial
from pathlib import Path

from common import Bench, measure_in_process, run
from recorded_run import ACCEPT_ALL

from code_alpaca.teacher.offline.tasks import compose_task


def measure(bench: Bench) -> None:
    for size in bench.choose((4_000, 12_000, 40_000), (40,)):
        contestants = {
            "code-alpaca": partial(measure_in_process, generate_rows, size),
            "rows in a list": partial(measure_in_process, keep_rows, size),
        }
        bench.compare(contestants, repeats=1, size=size)


def generate_rows(size: int) -> None:
    from code_alpaca.generation.command import GenerateConfig, generate_dataset

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        config = GenerateConfig(
            run_dir=Path(folder), teacher_base_url="offline", num_examples=size,
            tasks_per_request=20, checkpoint_every=max(1, size // 4), **ACCEPT_ALL,
        )  # fmt: skip
        generate_dataset(config)


def keep_rows(size: int) -> None:
    rows = [compose_task(random.Random(number)) for number in range(size)]
    assert len(rows) == size


if __name__ == "__main__":
    run(measure)
