"""Measure the time and memory of building, reading and comparing a dataset of a million rows.

    python benchmarks/dataset_build.py                  # 1,000,000 accepted rows, 20% rejected
    python benchmarks/dataset_build.py --rows 100000

A ledger of composed tasks is written first. Each step runs in its own process; its peak resident
memory is printed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.queues import Queue
from pathlib import Path

from code_alpaca.core.ledger import Decision, Ledger
from code_alpaca.core.schema import Example, content_id
from code_alpaca.teacher.offline.tasks import compose_task

ROWS_PER_REPLY = 20
CONFIG = {
    "num_examples": None, "teacher_model": "m", "teacher_base_url": "offline", "seed": 0,
    "strategy": "self_instruct", "dataset_version": "1.0.0", "novelty": "code_aware",
    "novelty_threshold": 0.85, "decontaminate": [],
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="dataset-") as folder:
        write_ledger(Path(folder), options.rows)
        for name, step in (("build", build), ("read", read), ("compare", compare)):
            results = spawn.Queue()
            process = spawn.Process(target=measure, args=(step, Path(folder), results))
            process.start()
            result, seconds, peak_mb = results.get()
            process.join()
            print(f"{name:8} {seconds:7.1f} s, {peak_mb:6,.0f} MB at most: {result}", flush=True)


def write_ledger(run_dir: Path, rows: int) -> None:
    """Write a ledger with this number of accepted rows, and one rejected row per four of them."""
    tasks = [compose_task(random.Random(n)) for n in range(2_000)]
    with Ledger(run_dir / "ledger.sqlite") as ledger:
        ledger.set_meta("config", json.dumps(CONFIG))
        ledger.set_meta("prompt_version", "p")
        ledger.set_meta("seed_tasks_sha256", "s")
        for request in range(rows // ROWS_PER_REPLY):
            key = ledger.request(request, "/chat", {"n": request})
            ledger.save_reply(key, {"usage": {"prompt_tokens": 900, "completion_tokens": 1500}})
            decisions = []
            for position in range(ROWS_PER_REPLY):
                number = request * ROWS_PER_REPLY + position
                task = tasks[number % len(tasks)]
                instruction = f"{task.instruction} ({number})"
                row = Example(
                    instruction, task.input, task.output,
                    content_id(instruction, task.input, task.output), task.language,
                    "self_instruct", "m", "p", ["seed_001"], key, "", 0.3, task.tests,
                    "passed" if task.tests else "no_tests",
                )  # fmt: skip
                decisions.append(Decision(row, ""))
                if not number % 4:
                    decisions.append(Decision(replace(row, id="r"), "too_similar"))
            ledger.decide(request, decisions)


def build(run_dir: Path) -> str:
    from code_alpaca.dataset.build import build_dataset

    folder = build_dataset(run_dir)
    size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    return f"{size / 1e6:,.0f} MB in {len(list(folder.rglob('*.parquet')))} shards"


def read(run_dir: Path) -> str:
    from datasets import load_dataset

    folder = run_dir / "dataset"
    rows = load_dataset(str(folder), "default", split="train", cache_dir=str(run_dir / "cache"))
    return f"{sum(1 for _ in rows.iter(1_000)) * 1_000:,} rows"


def compare(run_dir: Path) -> str:
    from code_alpaca.dataset.difference import diff_versions

    shards = sorted((run_dir / "dataset/data/default").glob("*.parquet"))
    return str(diff_versions(shards, shards))


def measure(step: Callable[[Path], str], run_dir: Path, results: Queue) -> None:
    """Run a step and send its result, seconds and peak memory in MB."""
    started = time.monotonic()
    result = step(run_dir)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    results.put((result, time.monotonic() - started, peak_mb))


if __name__ == "__main__":
    main()
