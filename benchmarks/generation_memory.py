"""Measure the memory of a `generate` run as the number of accepted rows grows.

Prints the resident memory of this process for every tenth of the rows; the first is the warmup.

    python benchmarks/generation_memory.py           # 100,000 rows
    python benchmarks/generation_memory.py 20000
"""

from __future__ import annotations

import sys
import tempfile
import threading
from pathlib import Path

import psutil

from code_alpaca.core.ledger import Ledger
from code_alpaca.generation.command import GenerateConfig, generate_dataset

ROWS = 100_000
POLL_S = 1.0


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    with tempfile.TemporaryDirectory() as folder:
        config = GenerateConfig(
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
        with MemoryLog(config.run_dir, rows // 10) as log:
            generate_dataset(config)
        log.print("dataset written")


class MemoryLog:
    """Print the resident memory whenever a run has accepted `step` more rows."""

    def __init__(self, run_dir: Path, step: int) -> None:
        self._path, self._step = run_dir / "ledger.sqlite", step
        self._process = psutil.Process()
        self._first_mib: float | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> MemoryLog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        next_count = self._step
        while not self._stopped.wait(POLL_S):
            if not self._path.exists():
                continue
            with Ledger(self._path, write=False) as ledger:
                accepted = ledger.accepted_count()
            if accepted >= next_count:
                next_count = (accepted // self._step + 1) * self._step
                self.print(f"{accepted:,} rows")

    def print(self, label: str) -> None:
        mib = self._process.memory_info().rss / 2**20
        self._first_mib = self._first_mib or mib
        print(f"{label:>16} {mib:7.0f} MiB, {mib - self._first_mib:+.0f}", file=sys.stderr)


if __name__ == "__main__":
    main()
