"""How much memory do accepted rows cost a run of `generate`?

Resident memory of this process as accepted rows pile up, against the embedded teacher.

    python benchmarks/generation_memory.py           # 100,000 rows; takes a while
    python benchmarks/generation_memory.py 20000
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import psutil

from code_alpaca.generation.command import GenerateConfig, generate_dataset
from code_alpaca.generation.engine import GenerationEngine

ROWS = 100_000


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    process = psutil.Process()
    seen: list[float] = []  # MiB, one for each tenth; the first is the warm-up
    checkpoint = GenerationEngine._checkpoint

    async def watching(self: GenerationEngine) -> None:
        if self.totals.accepted >= rows // 10 * (len(seen) + 1):
            seen.append(process.memory_info().rss / 2**20)
            told(f"{self.totals.accepted:,} rows")
        await checkpoint(self)

    def told(when: str) -> None:
        resident = process.memory_info().rss / 2**20
        print(f"{when:>16} {resident:7.0f} MiB, {resident - seen[0]:+.0f}", file=sys.stderr)

    GenerationEngine._checkpoint = watching  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        generate_dataset(
            GenerateConfig(
                run_dir=Path(folder),
                teacher_base_url="offline",
                num_examples=rows,
                tasks_per_request=20,
                novelty_threshold=1.0,  # everything stays
                filters=[],
                decontaminate=[],
                verify=False,
                checkpoint_every=rows // 4,
            )
        )
    told("dataset written")


if __name__ == "__main__":
    main()
