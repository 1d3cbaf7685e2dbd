"""Compare sharded deduplication with one process: rows that are kept, and time.

python benchmarks/novelty_sharded.py                # 200,000 rows, four local workers
python benchmarks/novelty_sharded.py --ray          # the same on a local Ray (pip install ray)
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from novelty_speed import maker

from code_alpaca.curation.novelty.pool import NoveltyPool
from code_alpaca.curation.novelty.sharded import make_stages

FILES, TASKS = 16, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", help="an Alpaca JSON file to splice instructions from")
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--ray", action="store_true")
    options = parser.parse_args()
    tasks = maker(options.rows)(options.count)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "in")
        source.mkdir()
        each = -(-len(tasks) // FILES)
        for number in range(FILES):
            lines = [
                json.dumps({"instruction": task.instruction, "n": int(task.id)}) + "\n"
                for task in tasks[number * each : (number + 1) * each]
            ]
            (source / f"{number:03}.jsonl").write_text("".join(lines), encoding="utf-8")

        began = time.monotonic()
        verdicts = NoveltyPool("rouge_l", nearest=False).check(tasks)
        alone = {int(t.id) for t, v in zip(tasks, verdicts, strict=True) if v.is_novel}
        print(
            f"one process: {len(alone):,} of {len(tasks):,} kept, {time.monotonic() - began:.1f} s"
        )

        began = time.monotonic()
        shared = make_stages(
            str(source), f"{folder}/work", f"{folder}/out", tasks=TASKS, measure="rouge_l"
        )
        for number, (pipeline, count) in enumerate(shared):
            run(pipeline, count, f"{folder}/logs/{number}", ray=options.ray)
        kept = {
            json.loads(line)["n"]
            for path in Path(folder, "out").iterdir()
            for line in path.read_text("utf-8").splitlines()
        }
        print(
            f"{TASKS} workers, {'Ray' if options.ray else 'local'}: {len(kept):,} kept, "
            f"{time.monotonic() - began:.1f} s, {len(kept ^ alone)} rows differ"
        )


def run(pipeline: list, count: int, logs: str, *, ray: bool) -> None:
    if ray:
        from datatrove.executor import RayPipelineExecutor

        RayPipelineExecutor(
            pipeline, tasks=count, workers=TASKS, cpus_per_task=0.5, mem_per_cpu_gb=1,
            logging_dir=logs,
        ).run()  # fmt: skip
    else:
        from datatrove.executor import LocalPipelineExecutor

        LocalPipelineExecutor(pipeline, tasks=count, workers=TASKS, logging_dir=logs).run()


if __name__ == "__main__":
    main()
