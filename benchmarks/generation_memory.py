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

from code_alpaca.generation import generate
from code_alpaca.generation.engine import Engine
from code_alpaca.generation.screen import Totals

ROWS = 100_000


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    process = psutil.Process()
    seen: dict[int, float] = {}
    checkpoint = Engine._checkpoint

    async def watching(self: Engine) -> None:
        totals: Totals = self.totals
        step = totals.accepted * 10 // rows  # the first tenth is the warm-up
        seen.setdefault(step, process.memory_info().rss / 2**20)
        await checkpoint(self)

    Engine._checkpoint = watching  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        generate.run(
            generate.Config(
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
    first = seen[0]
    for step, resident in sorted(seen.items()):
        print(f"{step * rows // 10:>8} rows {resident:7.0f} MiB, {resident - first:+.0f}")
    resident = process.memory_info().rss / 2**20
    print(f"dataset written {resident:5.0f} MiB, {resident - first:+.0f}")


if __name__ == "__main__":
    main()
