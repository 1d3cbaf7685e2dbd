"""Measure the time to decide whether a row is new, and how it grows with the pool.

The peer is the implementation of 2023: ROUGE-L against every kept row with rouge_score, in sixteen
new processes for each candidate. Candidates arrive 20 at a time, the tasks of one reply. Times are
CPU microseconds per candidate of one process; those of 2023 are wall time on all cores.
"""

from __future__ import annotations

import resource
import time
from functools import partial
from multiprocessing import Pool

from common import Bench, Values, run
from novelty_rows import DrawRows, row_source
from rouge_score import rouge_scorer

from code_alpaca.core.schema import Example
from code_alpaca.curation.novelty.pool import NoveltyPool, find_neighbours

BATCH_SIZE = 20


def measure(bench: Bench) -> None:
    bench.add_versions("rouge-score")
    draw = row_source(bench)
    measure_growth(bench, draw)
    for size in bench.choose((5_000, 10_000, 20_000), (200,)):
        compare(bench, draw, size)


def compare(bench: Bench, draw: DrawRows, size: int) -> None:
    """Compare everything that can be computed for a candidate with the code of 2023."""
    decisions, with_nearest = NoveltyPool("rouge_l", nearest=False), NoveltyPool("rouge_l")
    accepted = fill(decisions, draw, size)
    with_nearest.check(accepted)
    count = bench.choose(2_000, 40)
    contestants = {
        "as in 2023": lambda: measure_2023(accepted, draw(bench.choose(10, 1))),
        "code-alpaca, decisions only": lambda: measure_pool(decisions, draw(count)),
        "code-alpaca, with the exact nearest row": lambda: measure_pool(with_nearest, draw(count)),
        "code-alpaca, exact mean and ten nearest": lambda: measure_neighbours(accepted, draw),
    }
    bench.compare(contestants, repeats=bench.choose(3, 1), size=size)


def fill(pool: NoveltyPool, draw: DrawRows, size: int) -> list[Example]:
    """Add rows until a pool has this size; return the rows that it accepted."""
    accepted: list[Example] = []
    while len(pool) < size:
        rows = draw(min(2_000, size))
        accepted += [row for row, v in zip(rows, pool.check(rows), strict=True) if v.is_novel]
    return accepted


def measure_pool(pool: NoveltyPool, rows: list[Example]) -> Values:
    """Measure CPU time from strings to decisions."""
    started = time.process_time()
    for start in range(0, len(rows), BATCH_SIZE):
        pool.check(rows[start : start + BATCH_SIZE])
    return {"microseconds": (time.process_time() - started) / len(rows) * 1e6}


def measure_neighbours(accepted: list[Example], draw: DrawRows) -> Values:
    """Measure what the 2023 code recorded: the mean similarity and the ten nearest rows."""
    rows = [*accepted, *draw(1_000)]
    started = time.monotonic()
    list(find_neighbours(rows, "rouge_l"))
    # A row is compared with the rows before it: on average, with half of them.
    return {"microseconds": (time.monotonic() - started) / len(rows) * 2 * 1e6}


def measure_2023(accepted: list[Example], rows: list[Example]) -> Values:
    """Measure the 2023 code, which uses these private functions of rouge_score."""
    tokenize = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)._tokenizer.tokenize
    pool_tokens = [tokenize(row.instruction) for row in accepted]
    started = time.monotonic()
    for row in rows:
        with Pool(16) as processes:
            score = partial(rouge_scorer._score_lcs, tokenize(row.instruction))
            scores = [rouge.fmeasure for rouge in processes.map(score, pool_tokens)]
        sorted(range(len(scores)), key=scores.__getitem__)[-10:]
    return {"microseconds": (time.monotonic() - started) / len(rows) * 1e6}


def measure_growth(bench: Bench, draw: DrawRows) -> None:
    """Fill one pool, and measure at each size: up to a million kept rows."""
    pool = NoveltyPool("rouge_l", nearest=False)
    for size in bench.choose((20_000, 100_000, 300_000, 1_000_000), (200, 400, 800)):
        fill(pool, draw, size)
        bench.log(f"pool of {size:,}")
        values = [measure_pool(pool, draw(bench.choose(10_000, 100))) for _ in range(3)]
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        bench.record(
            "code-alpaca, one growing pool", [{**v, "peak_mb": peak_mb} for v in values], size=size
        )


if __name__ == "__main__":
    run(measure)
