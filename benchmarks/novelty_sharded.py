"""Compare sharded deduplication with a single process: kept rows and time.

python benchmarks/novelty_sharded.py                # 200,000 rows, four local workers
python benchmarks/novelty_sharded.py --ray          # the same on a local Ray (pip install ray)
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from novelty_speed import task_source

from code_alpaca.curation.novelty.pool import NoveltyPool
from code_alpaca.curation.novelty.sharded import Folders, make_stages

NUM_FILES, NUM_WORKERS = 16, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", help="an Alpaca JSON file to splice instructions from")
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--ray", action="store_true")
    options = parser.parse_args()
    tasks = task_source(options.rows)(options.count)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in")
        source.mkdir()
        rows_per_file = -(-len(tasks) // NUM_FILES)
        for number in range(NUM_FILES):
            lines = [
                json.dumps({"instruction": task.instruction, "n": int(task.id)}) + "\n"
                for task in tasks[number * rows_per_file : (number + 1) * rows_per_file]
            ]
            (source / f"{number:03}.jsonl").write_text("".join(lines), encoding="utf-8")

        started = time.monotonic()
        verdicts = NoveltyPool("rouge_l", nearest=False).check(tasks)
        expected = {int(t.id) for t, v in zip(tasks, verdicts, strict=True) if v.is_novel}
        seconds = time.monotonic() - started
        print(f"one process: {len(expected):,} of {len(tasks):,} kept, {seconds:.1f} s")

        started = time.monotonic()
        folders = Folders(str(source), f"{folder}/work", f"{folder}/out")
        stages = make_stages(folders, tasks=NUM_WORKERS, measure="rouge_l")
        for number, (pipeline, count) in enumerate(stages):
            run_pipeline(pipeline, count, f"{folder}/logs/{number}", ray=options.ray)
        kept = {
            json.loads(line)["n"]
            for path in Path(folder, "out").iterdir()
            for line in path.read_text("utf-8").splitlines()
        }
        print(
            f"{NUM_WORKERS} workers, {'Ray' if options.ray else 'local'}: {len(kept):,} kept, "
            f"{time.monotonic() - started:.1f} s, {len(kept ^ expected)} rows differ"
        )


def run_pipeline(pipeline: list, num_tasks: int, logs: str, *, ray: bool) -> None:
    if ray:
        from datatrove.executor import RayPipelineExecutor

        RayPipelineExecutor(
            pipeline, tasks=num_tasks, workers=NUM_WORKERS, cpus_per_task=0.5, mem_per_cpu_gb=1,
            logging_dir=logs,
        ).run()  # fmt: skip
    else:
        from datatrove.executor import LocalPipelineExecutor

        LocalPipelineExecutor(
            pipeline, tasks=num_tasks, workers=NUM_WORKERS, logging_dir=logs
        ).run()


if __name__ == "__main__":
    main()
