"""Compare sharded deduplication (four datatrove workers) with a single process: kept rows and time.

Whatever the number of workers, exactly the rows are kept that one process keeps.
"""

from __future__ import annotations

import json
import tempfile
import time
from functools import partial
from pathlib import Path

from common import Bench, Values, run
from novelty_rows import row_source

from code_alpaca.core.schema import Example
from code_alpaca.curation.novelty.pool import NoveltyPool
from code_alpaca.curation.novelty.sharded import Folders, make_stages

NUM_FILES, NUM_WORKERS = 16, 4


def measure(bench: Bench) -> None:
    bench.add_versions("datatrove")
    draw = row_source(bench)
    for size in bench.choose((20_000, 60_000, 200_000), (200,)):
        rows = draw(size)
        verdicts = NoveltyPool("rouge_l", nearest=False).check(rows)
        expected = {int(row.id) for row, v in zip(rows, verdicts, strict=True) if v.is_novel}
        contestants = {
            "one process": partial(time_one_process, rows),
            "four workers": partial(time_workers, rows, expected),
        }
        bench.compare(contestants, repeats=1, size=size, kept=len(expected))


def time_one_process(rows: list[Example]) -> Values:
    started = time.monotonic()
    NoveltyPool("rouge_l", nearest=False).check(rows)
    return {"seconds": time.monotonic() - started, "rows_that_differ": 0}


def time_workers(rows: list[Example], expected: set[int]) -> Values:
    """Deduplicate files of rows; their reading and writing is part of the time."""
    from datatrove.executor import LocalPipelineExecutor

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in")
        source.mkdir()
        rows_per_file = -(-len(rows) // NUM_FILES)
        for number in range(NUM_FILES):
            lines = [
                json.dumps({"instruction": row.instruction, "n": int(row.id)}) + "\n"
                for row in rows[number * rows_per_file : (number + 1) * rows_per_file]
            ]
            (source / f"{number:03}.jsonl").write_text("".join(lines), "utf-8")
        started = time.monotonic()
        folders = Folders(str(source), f"{folder}/work", f"{folder}/out")
        stages = make_stages(folders, tasks=NUM_WORKERS, measure="rouge_l")
        for number, (pipeline, count) in enumerate(stages):
            LocalPipelineExecutor(
                pipeline, tasks=count, workers=NUM_WORKERS, logging_dir=f"{folder}/logs/{number}"
            ).run()
        seconds = time.monotonic() - started
        kept = {
            json.loads(line)["n"]
            for path in Path(folder, "out").iterdir()
            for line in path.read_text("utf-8").splitlines()
        }
    return {"seconds": seconds, "rows_that_differ": len(kept ^ expected)}


if __name__ == "__main__":
    run(measure)
