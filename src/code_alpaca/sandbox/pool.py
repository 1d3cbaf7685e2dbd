"""Many sandboxes at once: all cores busy, and a new worker where one died."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from code_alpaca.core.errors import InputError
from code_alpaca.sandbox.backends import Backend
from code_alpaca.sandbox.relay import ResourceLimits, RunResult
from code_alpaca.sandbox.worker import Worker

USUAL = ResourceLimits(folder_bytes=16 << 20)
Item = TypeVar("Item")


class WorkerPool:
    """Workers of one backend, started when first needed; safe to use from many threads.

    Args:
        size: how many programs run at once; None: one for each core.
        packages: as for `Worker`.
    """

    def __init__(
        self, backend: Backend, *, size: int | None = None, packages: bool = False
    ) -> None:
        self.backend, self.size = backend, size or len(os.sched_getaffinity(0))
        self._packages = packages
        self._idle: queue.SimpleQueue[Worker | None] = queue.SimpleQueue()
        for _ in range(self.size):
            self._idle.put(None)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers that are idle: all of them, once nothing runs."""
        workers = []
        while not self._idle.empty():
            workers.append(self._idle.get())
        for worker in workers:
            if worker is not None:
                worker.close()
            self._idle.put(None)

    def run(self, job: Callable[[Worker], RunResult]) -> RunResult:
        """Do one job on a free worker, and once more on a fresh one if the first fails under it.

        Whatever goes wrong in a worker is the verdict on its program, not the end of the run.

        Raises:
            InputError: no sandbox starts here.
            ValueError: the job asks for what a worker does not do.
        """
        worker = self._idle.get()
        error: Exception | None = None
        try:
            for _ in range(2):
                worker = worker or Worker(self.backend, packages=self._packages)
                try:
                    return job(worker)
                except (InputError, ValueError):
                    raise
                except Exception as failure:
                    error = failure
                    worker.close()
                    worker = None
            name = type(error).__name__
            return RunResult("failed", "", f"the sandbox failed twice: {name}: {error}", 0.0)
        except BaseException:
            if worker is not None:  # it may still be busy with the job
                worker.close()
                worker = None
            raise
        finally:
            self._idle.put(worker)

    def run_program(self, source: str, limits: ResourceLimits = USUAL) -> RunResult:
        """As `Worker.run_program`, on a free worker."""
        return self.run(lambda worker: worker.run_program(source, limits))

    def map(
        self, job: Callable[[Worker, Item], RunResult], items: Iterable[Item]
    ) -> Iterator[RunResult]:
        """Results in the order of `items`."""
        with ThreadPoolExecutor(self.size) as threads:
            yield from threads.map(lambda item: self.run(lambda worker: job(worker, item)), items)
