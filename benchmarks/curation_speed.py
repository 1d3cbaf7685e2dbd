"""Measure the speed of curation: filters and decontamination, novelty, verification.

Composed rows pass the default filters and decontamination against HumanEval and MBPP, then
deduplication with the nearest row; a part of them is executed, with and without the cache of
results. Peers: the lookup of 13-grams of words that decontamination usually is, and a plain Python
process for each program and its tests.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from common import Bench, Values, run

from code_alpaca import sandbox
from code_alpaca.cli import main as run_command
from code_alpaca.core.schema import Example
from code_alpaca.curation.decontamination.detect import ContaminationDetector
from code_alpaca.curation.filters import DEFAULT_FILTERS
from code_alpaca.curation.novelty.pool import NoveltyPool
from code_alpaca.curation.pipeline import Curator
from code_alpaca.curation.verification import Verifier
from code_alpaca.problems import load_problems
from code_alpaca.teacher.offline.tasks import compose_task

CORES = len(os.sched_getaffinity(0))
NGRAM = 13


def measure(bench: Bench) -> None:
    files = [bench.find_file("HumanEval.jsonl.gz"), bench.find_file("mbpp.jsonl")]
    benchmarks = [str(path) for path in files if path] or ["mini"]
    bench.facts["benchmarks"] = [Path(name).name.split(".")[0] for name in benchmarks]
    new_curator(benchmarks).check_pool(new_curator(benchmarks).check_row(compose_rows(1)[0]))
    for count in bench.choose((1_000, 3_000, 10_000), (50,)):
        rows = compose_rows(count)
        contestants = {
            "filters and decontamination": partial(check_rows, rows, benchmarks),
            "13-gram lookup": partial(look_up_ngrams, rows, benchmarks),
            "novelty, with the nearest row": partial(check_pool, rows, benchmarks),
            "the whole command, without verification": partial(curate, rows, benchmarks),
        }
        bench.compare(contestants, repeats=bench.choose(3, 1), size=count)
    compare_verification(bench)


def compare_verification(bench: Bench) -> None:
    backend = sandbox.choose_backend().backend
    bench.facts["sandbox"] = backend
    rows = compose_rows(bench.choose(4_000, 60))
    programs = [row for row in rows if row.language == "python"][: bench.choose(1_000, 5)]
    with tempfile.TemporaryDirectory() as caches:
        numbers = itertools.count()
        contestants = {
            "verification": lambda: verify(programs, backend, f"{caches}/{next(numbers)}"),
            "verification, from the cache": lambda: verify(programs, backend, f"{caches}/0"),
            "a process per program, no sandbox": lambda: run_processes(programs),
        }
        bench.compare(contestants, repeats=bench.choose(3, 1), programs=len(programs))


def verify(rows: list[Example], backend: sandbox.Backend, cache: str) -> Values:
    os.environ["XDG_CACHE_HOME"] = cache
    with (
        contextlib.closing(Verifier(sandbox.WorkerPool(backend))) as verifier,
        ThreadPoolExecutor(verifier.pool.size) as threads,
    ):
        return rate(len(rows), lambda: list(threads.map(verifier.verify, rows)))


def compose_rows(count: int) -> list[Example]:
    tasks = [compose_task(random.Random(number)) for number in range(count)]
    return [
        Example(t.instruction, t.input, t.output, id=str(n), language=t.language, tests=t.tests)
        for n, t in enumerate(tasks)
    ]


def rate(count: int, work: Callable[[], object]) -> Values:
    started = time.monotonic()
    work()
    seconds = time.monotonic() - started
    return {"seconds": seconds, "rows_per_s": count / seconds}


def new_curator(benchmarks: list[str]) -> Curator:
    return Curator(
        filters=DEFAULT_FILTERS,
        contamination=ContaminationDetector(benchmarks),
        novelty=NoveltyPool(),
    )


def check_rows(rows: list[Example], benchmarks: list[str]) -> Values:
    curator = new_curator(benchmarks)
    return rate(len(rows), lambda: list(map(curator.check_row, rows)))


def check_pool(rows: list[Example], benchmarks: list[str]) -> Values:
    curator = new_curator(benchmarks)
    decisions = list(map(curator.check_row, rows))
    return rate(len(rows), lambda: list(map(curator.check_pool, decisions)))


def look_up_ngrams(rows: list[Example], benchmarks: list[str]) -> Values:
    """Find rows that share 13 consecutive words with a problem (Brown et al. 2020)."""
    known = set()
    for name in benchmarks:
        for problem in load_problems(name):
            known |= ngrams(f"{problem.instruction} {problem.prompt} {problem.canonical_solution}")

    def look_up() -> list[bool]:
        texts = (f"{row.instruction} {row.input} {row.output}" for row in rows)
        return [not known.isdisjoint(ngrams(text)) for text in texts]

    return rate(len(rows), look_up)


def ngrams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[start : start + NGRAM]) for start in range(len(words) - NGRAM + 1)}


def curate(rows: list[Example], benchmarks: list[str]) -> Values:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        source = Path(folder, "rows.jsonl")
        source.write_text("".join(json.dumps(row.as_row()) + "\n" for row in rows), "utf-8")
        args = ["curate", "--source", str(source), "--run_dir", f"{folder}/run", "--verify",
                "false", "--decontaminate", ",".join(benchmarks)]  # fmt: skip
        return rate(len(rows), lambda: run_command(args))


def run_processes(rows: list[Example]) -> Values:
    """Run every row with its tests in a new interpreter, as if it could be trusted."""

    def execute(row: Example) -> None:
        text = f"{row.input}\n{row.output}\n{row.tests}\n"
        subprocess.run([sys.executable, "-"], input=text, text=True, capture_output=True)

    with ThreadPoolExecutor(CORES) as threads:
        return rate(len(rows), lambda: list(threads.map(execute, rows)))


if __name__ == "__main__":
    run(measure)
