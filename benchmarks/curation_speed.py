"""Measure the speed of curation: filters, decontamination, deduplication and verification.

    python benchmarks/curation_speed.py                                       # composed rows
    python benchmarks/curation_speed.py --decontaminate HumanEval.jsonl.gz,mbpp.jsonl

20,000 rows pass the filters, decontamination and deduplication; then 2,000 of them are executed,
with and without the cache of verification results.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from code_alpaca import sandbox
from code_alpaca.cli import main as run_command
from code_alpaca.core.schema import Example
from code_alpaca.curation.decontamination.detect import ContaminationDetector
from code_alpaca.curation.filters import DEFAULT_FILTERS
from code_alpaca.curation.novelty.pool import NoveltyPool
from code_alpaca.curation.pipeline import Curator
from code_alpaca.curation.verification import Verifier
from code_alpaca.teacher.offline.tasks import compose_task

NUM_ROWS, NUM_EXECUTED = 20_000, 2_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decontaminate", default="mini")
    benchmarks = parser.parse_args().decontaminate.split(",")
    rows = compose_rows()
    curator = Curator(
        filters=DEFAULT_FILTERS,
        contamination=ContaminationDetector(benchmarks),
        novelty=NoveltyPool(),
    )
    curator.check_pool(curator.check_row(rows[0]))  # compiles the kernels
    decisions = []
    print_speed(
        "filters and contamination",
        NUM_ROWS,
        lambda: decisions.extend(map(curator.check_row, rows)),
    )
    print_speed(
        "duplicates and novelty, nearest row and all",
        NUM_ROWS,
        lambda: list(map(curator.check_pool, decisions)),
    )
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        source = Path(folder, "rows.jsonl")
        source.write_text("".join(json.dumps(row.as_row()) + "\n" for row in rows), "utf-8")
        args = ["curate", "--source", str(source), "--run_dir", f"{folder}/run", "--verify",
                "false", "--decontaminate", ",".join(benchmarks)]  # fmt: skip
        print_speed("the whole command, dataset written", NUM_ROWS, lambda: run_command(args))
        for label in ("verification", "verification, from the cache"):
            time_verification(label, rows)


def compose_rows() -> list[Example]:
    tasks = [compose_task(random.Random(number)) for number in range(NUM_ROWS)]
    return [
        Example(t.instruction, t.input, t.output, id=str(n), language=t.language, tests=t.tests)
        for n, t in enumerate(tasks)
    ]


def time_verification(label: str, rows: list[Example]) -> None:
    verifier = Verifier(sandbox.WorkerPool(sandbox.choose_backend().backend))
    executed = [row for row in rows if verifier.has_program(row)][:NUM_EXECUTED]
    with ThreadPoolExecutor(verifier.pool.size) as threads:
        print_speed(label, len(executed), lambda: list(threads.map(verifier.verify, executed)))
    verifier.close()


def print_speed(label: str, count: int, work: Callable[[], object]) -> None:
    started = time.monotonic()
    work()
    seconds = time.monotonic() - started
    print(f"{label:<44}{seconds:8.1f} s  {count / seconds:10,.0f} rows/s")


if __name__ == "__main__":
    main()
