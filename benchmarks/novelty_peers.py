"""Compare the speed, recall and precision of deduplication with MinHash.

Duplicates are rows whose ROUGE-L F1 with an earlier kept row is above 0.7, as in 2023, which
code-alpaca finds exactly. MinHash estimates Jaccard similarity, a different measure; the thresholds
and shingles shown found the most. Times are CPU microseconds per row of one process.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path

from common import Bench, Values, run
from environments import run_peer
from novelty_rows import row_source

from code_alpaca.core.schema import Example
from code_alpaca.curation.novelty.measures import MEASURES
from code_alpaca.curation.novelty.pool import NoveltyPool

SKETCHES = ("datasketch, 3-grams, 0.7", "datasketch, words, 0.5", "rensa, words, 0.5")


def measure(bench: Bench) -> None:
    draw = row_source(bench)
    NoveltyPool("rouge_l", nearest=False).check(draw(2))  # compiles the kernels
    for size in bench.choose((5_000, 15_000, 50_000), (200,)):
        rows = draw(size)
        verdicts = NoveltyPool("rouge_l", nearest=False).check(rows)
        expected = [not verdict.is_novel for verdict in verdicts]
        contestants = {"code-alpaca": partial(measure_ours, rows)}
        for sketch in SKETCHES:
            contestants[sketch] = partial(measure_sketch, bench, sketch, rows, expected)
        bench.compare(contestants, repeats=bench.choose(3, 1), size=size, duplicates=sum(expected))


def measure_ours(rows: list[Example]) -> Values:
    pool = NoveltyPool("rouge_l", nearest=False)
    started = time.process_time()
    pool.check(rows)
    seconds = time.process_time() - started
    return {"microseconds": seconds / len(rows) * 1e6, "recall": 1.0, "precision": 1.0}


def measure_sketch(bench: Bench, sketch: str, rows: list[Example], expected: list[bool]) -> Values:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.txt")
        lines = (" ".join(MEASURES["rouge_l"](row).words) + "\n" for row in rows)
        path.write_text("".join(lines), "utf-8")
        reply = run_peer(bench, "minhash", {"rows": str(path), "sketch": sketch})
    hits = reply["hits"]
    correct = sum(a and b for a, b in zip(expected, hits, strict=True))
    return {
        "microseconds": reply["seconds"] / len(rows) * 1e6,
        "recall": correct / max(1, sum(expected)),
        "precision": correct / max(1, sum(hits)),
    }


if __name__ == "__main__":
    run(measure)
