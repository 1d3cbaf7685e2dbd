"""How much memory do accepted rows cost a run of `generate`?

Resident memory of this process while accepted rows accumulate, with the embedded teacher.

    python benchmarks/generation_memory.py           # 100,000 rows; takes a while
    python benchmarks/generation_memory.py 20000
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import psutil

from code_alpaca.generation.command import GenerateConfig, generate_dataset
from code_alpaca.generation.progress import RunTotals

ROWS = 100_000


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    process = psutil.Process()
    samples: list[float] = []  # MiB, one for each tenth; the first is the warm-up
    checkpoint_due = RunTotals.checkpoint_due

    def report(moment: str) -> None:
        resident = process.memory_info().rss / 2**20
        samples.append(resident)
        print(f"{moment:>16} {resident:7.0f} MiB, {resident - samples[0]:+.0f}", file=sys.stderr)

    def measure(self: RunTotals, every: int) -> bool:
        """Called by the engine after every reply."""
        if self.accepted >= rows // 10 * (len(samples) + 1):
            report(f"{self.accepted:,} rows")
        return checkpoint_due(self, every)

    RunTotals.checkpoint_due = measure
    with tempfile.TemporaryDirectory() as folder:
        generate_dataset(
            GenerateConfig(
                run_dir=Path(folder),
                teacher_base_url="offline",
                num_examples=rows,
                tasks_per_request=20,
                novelty_threshold=1.0,  # accepts every row
                filters=[],
                decontaminate=[],
                verify=False,
                checkpoint_every=rows // 4,
            )
        )
    report("dataset written")


if __name__ == "__main__":
    main()
