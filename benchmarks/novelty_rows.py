"""Rows for the deduplication benchmarks: most are new, a quarter is too similar to an earlier one.

Instructions are spliced from given ones, with some words replaced.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable

from common import Bench

from code_alpaca.core.schema import Example
from code_alpaca.teacher.offline.tasks import compose_task

DrawRows = Callable[[int], list[Example]]


def row_source(bench: Bench, seed: int = 0) -> DrawRows:
    """Return a function that draws the next N rows."""
    rng = random.Random(seed)
    if path := bench.find_file("code_alpaca.json"):
        rows = json.loads(path.read_text("utf-8"))
        instructions = [row["instruction"].split() for row in rows]
    else:
        instructions = [compose_task(random.Random(n)).instruction.split() for n in range(2_000)]
    words = [word for instruction in instructions for word in instruction]
    ids = itertools.count()

    def draw(count: int) -> list[Example]:
        rows = []
        for _ in range(count):
            first, second = rng.choice(instructions), rng.choice(instructions)
            text = first[: rng.randint(1, len(first))] + second[rng.randrange(len(second)) :]
            for _ in range(rng.randint(0, 4)):
                rare = f"w{int(rng.paretovariate(0.7))}"
                text[rng.randrange(len(text))] = rng.choice(words) if rng.random() < 0.7 else rare
            rows.append(Example(" ".join(text), "", "", id=str(next(ids))))
        return rows

    return draw
