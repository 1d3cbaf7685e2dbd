"""How long does it take to curate a dataset?

    python benchmarks/curation_speed.py                                       # rows of our own
    python benchmarks/curation_speed.py --decontaminate HumanEval.jsonl.gz,mbpp.jsonl

20,000 rows through filters, contamination and novelty; then 2,000 of them run, with and without
the cache of verdicts.
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
from code_alpaca.cli import main as command
from code_alpaca.core.schema import Example
from code_alpaca.curation.decontamination.detect import ContaminationDetector
from code_alpaca.curation.filters import DEFAULT_FILTERS
from code_alpaca.curation.novelty.pool import NoveltyPool
from code_alpaca.curation.pipeline import Curator
from code_alpaca.curation.verification import Verifier
from code_alpaca.teacher.offline.tasks import compose_task

ROWS, RUN = 20_000, 2_000


def timed(what: str, count: int, work: Callable[[], object]) -> None:
    began = time.monotonic()
    work()
    took = time.monotonic() - began
    print(f"{what:<44}{took:8.1f} s  {count / took:10,.0f} rows/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decontaminate", default="mini")
    benchmarks = parser.parse_args().decontaminate.split(",")
    tasks = [compose_task(random.Random(number)) for number in range(ROWS)]
    rows = [Example(t.instruction, t.input, t.output, id=str(n), language=t.language,
                    tests=t.tests) for n, t in enumerate(tasks)]  # fmt: skip
    curator = Curator(
        filters=DEFAULT_FILTERS,
        contamination=ContaminationDetector(benchmarks),
        novelty=NoveltyPool(),
    )
    curator.check_pool(curator.check_row(rows[0]))  # compiles
    decisions = []
    timed("filters and contamination", ROWS, lambda: decisions.extend(map(curator.check_row, rows)))
    timed("duplicates and novelty, nearest row and all", ROWS,
          lambda: list(map(curator.check_pool, decisions)))  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        source = Path(folder, "rows.jsonl")
        source.write_text("".join(json.dumps(row.as_row()) + "\n" for row in rows), "utf-8")
        words = ["curate", "--source", str(source), "--run_dir", f"{folder}/run", "--verify",
                 "false", "--decontaminate", ",".join(benchmarks)]  # fmt: skip
        timed("the whole command, dataset written", ROWS, lambda: command(words))
        for what in ("verification", "verification, from the cache"):
            verifier = Verifier(sandbox.WorkerPool(sandbox.choose_backend().backend))
            wanted = [row for row in rows if verifier.has_program(row)][:RUN]
            with ThreadPoolExecutor(verifier.pool.size) as threads:
                timed(what, len(wanted), lambda: list(threads.map(verifier.verify, wanted)))  # noqa: B023
            verifier.close()


if __name__ == "__main__":
    main()
