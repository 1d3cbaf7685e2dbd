"""Measure how much memory a block allocates, whatever ran in this process before."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Iterator


class Peak:
    """The most bytes that Python objects of a block held at one time."""

    num_bytes = 0


@contextlib.contextmanager
def measure_peak() -> Iterator[Peak]:
    """Yield a Peak, which is known when the block has ended; its body is traced, thus slower."""
    peak = Peak()
    tracemalloc.start()
    try:
        yield peak
    finally:
        peak.num_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
