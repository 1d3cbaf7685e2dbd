"""Measure the time and memory of building, reading and comparing a dataset of up to a million rows.

A ledger of composed tasks is written first, with one rejected row per four accepted ones. Each step
runs in a process of its own, whose peak resident memory is measured. The peer is what a script
would do: collect the accepted rows in a list, `Dataset.from_list`, `to_parquet`.
"""

from __future__ import annotations

import json
import random
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from common import Bench, measure_in_process, run

from code_alpaca.core.ledger import Decision, Ledger
from code_alpaca.core.schema import Example, content_id
from code_alpaca.teacher.offline.tasks import compose_task

ROWS_PER_REPLY = 20
CONFIG = {
    "num_examples": None, "teacher_model": "m", "teacher_base_url": "offline", "seed": 0,
    "strategy": "self_instruct", "dataset_version": "1.0.0", "novelty": "code_aware",
    "novelty_threshold": 0.85, "decontaminate": [],
}  # fmt: skip


def measure(bench: Bench) -> None:
    bench.add_versions("datasets", "pyarrow")
    steps = {
        "build": build,
        "Dataset.from_list and to_parquet": build_as_a_list,
        "read": read,
        "compare with the previous version": compare,
    }
    for size in bench.choose((10_000, 100_000, 1_000_000), (200,)):
        with tempfile.TemporaryDirectory(prefix="dataset-") as folder:
            bench.log(f"writing a ledger of {size:,} rows")
            write_ledger(Path(folder), size)
            contestants = {
                name: partial(measure_in_process, step, Path(folder))
                for name, step in steps.items()
            }
            bench.compare(contestants, repeats=1, size=size)


def write_ledger(run_dir: Path, rows: int) -> None:
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


def build(run_dir: Path) -> None:
    from code_alpaca.dataset.build import build_dataset

    build_dataset(run_dir)


def build_as_a_list(run_dir: Path) -> None:
    """Write only the accepted rows: no rejected or verified rows, no card, no plots, no checks."""
    from datasets import Dataset

    with Ledger(run_dir / "ledger.sqlite", write=False) as ledger:
        rows = [example.as_row() for example in ledger.accepted()]
    Dataset.from_list(rows).to_parquet(run_dir / "list.parquet")


def read(run_dir: Path) -> None:
    from datasets import load_dataset

    folder = run_dir / "dataset"
    rows = load_dataset(str(folder), "default", split="train", cache_dir=str(run_dir / "cache"))
    assert sum(1 for _ in rows.iter(1_000))


def compare(run_dir: Path) -> None:
    from code_alpaca.dataset.difference import diff_versions

    shards = sorted((run_dir / "dataset/data/default").glob("*.parquet"))
    diff_versions(shards, shards)


if __name__ == "__main__":
    run(measure)
