"""Keep several workers busy, and replace those that die."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from code_alpaca.core.errors import InputError
from code_alpaca.sandbox.backends import Backend
from code_alpaca.sandbox.supervisor import ResourceLimits, RunResult
from code_alpaca.sandbox.worker import Worker

DEFAULT_LIMITS = ResourceLimits(folder_bytes=16 << 20)
Item = TypeVar("Item")


class WorkerPool:
    """Workers of one backend, started when first needed; safe to use from many threads.

    `size` programs run at a time, by default one per CPU core; `packages` is as for `Worker`.
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
        """End the idle workers: all of them if nothing is running."""
        for _ in range(self._idle.qsize()):
            if (worker := self._idle.get()) is not None:
                worker.close()
            self._idle.put(None)

    def run(self, job: Callable[[Worker], RunResult]) -> RunResult:
        """Run a job on a free worker; if an exception ends it, once more on a fresh worker.

        If that fails too, the result is `failed`: one program must not end the caller's run. Only
        InputError (no sandbox starts) and ValueError (an impossible job) are raised.
        """
        worker = self._idle.get()
        try:
            for _ in range(2):
                worker = worker or Worker(self.backend, packages=self._packages)
                try:
                    return job(worker)
                except (InputError, ValueError):
                    raise
                except Exception as error:
                    reason = f"the sandbox failed twice: {type(error).__name__}: {error}"
                    worker.close()
                    worker = None
            return RunResult("failed", "", reason, 0.0)
        except BaseException:
            if worker is not None:  # it may still be running the job
                worker.close()
                worker = None
            raise
        finally:
            self._idle.put(worker)

    def run_program(self, source: str, limits: ResourceLimits = DEFAULT_LIMITS) -> RunResult:
        """Run a program as `Worker.run_program` does, on a free worker."""
        return self.run(lambda worker: worker.run_program(source, limits))

    def map(
        self, job: Callable[[Worker, Item], RunResult], items: Iterable[Item]
    ) -> Iterator[RunResult]:
        """Run a job for each item, and yield the results in the order of `items`."""
        with ThreadPoolExecutor(self.size) as threads:
            yield from threads.map(lambda item: self.run(lambda worker: job(worker, item)), items)
