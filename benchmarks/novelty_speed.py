"""Measure the time to decide whether a task is new, and how it grows with the pool.

    python benchmarks/novelty_speed.py                            # composed instructions
    python benchmarks/novelty_speed.py --rows code_alpaca.json    # real instructions
    ... --largest 1000000    largest pool (takes minutes, and 0.8 GB)
    ... --peers PYTHON       an interpreter that has datasketch and rensa

Instructions are spliced from given ones, with some words replaced: most are new, a quarter is too
similar to an earlier one. Times are CPU seconds of one process, except for the 2023 implementation,
which uses sixteen processes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from unittest import mock

from rouge_score import rouge_scorer

from code_alpaca.core.schema import Example
from code_alpaca.curation.novelty import index
from code_alpaca.curation.novelty.measures import MEASURES
from code_alpaca.curation.novelty.pool import NoveltyPool, find_neighbours
from code_alpaca.teacher.offline.tasks import compose_task

BATCH_SIZE = 20  # candidates per call: the tasks of one reply
POOL_SIZES = (20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000)
PEERS = """
import json, sys, time
from datasketch import MinHash, MinHashLSH
from rensa import RMinHash, RMinHashLSH
rows = [line.split() for line in open(sys.argv[1], encoding="utf-8")]
results = {}
def run(name, make, lsh, find):
    started, index, hits = time.process_time(), lsh(), []
    for number, words in enumerate(rows):
        sketch = make(words)
        hit = bool(find(index, sketch, number))
        hits.append(hit)
        if not hit:
            index.insert(number, sketch)
    results[name] = [time.process_time() - started, hits]
def datasketch(perms, n):
    def make(words):
        sketch = MinHash(num_perm=perms)
        grams = {" ".join(words[i:i + n]) for i in range(max(1, len(words) - n + 1))}
        sketch.update_batch([gram.encode() for gram in grams])
        return sketch
    return make
def rensa(words):
    sketch = RMinHash(num_perm=128, seed=42)
    sketch.update(words)
    return sketch
query = lambda index, sketch, number: index.query(sketch)
run("datasketch, 3-grams, 0.7", datasketch(128, 3), lambda: MinHashLSH(0.7, 128), query)
run("datasketch, words, 0.5", datasketch(128, 1), lambda: MinHashLSH(0.5, 128), query)
sketches = {}
def verify(index, sketch, number):
    sketches[number] = sketch
    return any(sketch.jaccard(sketches[i]) >= 0.5 for i in index.query(sketch))
run("rensa, words, 0.5", rensa, lambda: RMinHashLSH(0.5, 128, 32), verify)
json.dump(results, sys.stdout)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", help="an Alpaca JSON file to splice instructions from")
    parser.add_argument("--largest", type=int, default=200_000)
    parser.add_argument("--peers", metavar="PYTHON")
    options = parser.parse_args()
    draw = task_source(options.rows)
    compare_with_2023(draw, pool_size=20_000)
    compare_with_scan(draw)
    measure_growth(draw, options.largest)
    if options.peers:
        compare_with_peers(options.peers, draw(20_000))


DrawTasks = Callable[[int], list[Example]]


def task_source(path: str | None, seed: int = 0) -> DrawTasks:
    """Return a function that draws the next N tasks."""
    rng = random.Random(seed)
    if path:
        rows = json.loads(Path(path).read_text("utf-8"))
        instructions = [row["instruction"].split() for row in rows]
    else:
        instructions = [compose_task(random.Random(n)).instruction.split() for n in range(2_000)]
    words = [word for instruction in instructions for word in instruction]
    ids = itertools.count()

    def draw(count: int) -> list[Example]:
        tasks = []
        for _ in range(count):
            first, second = rng.choice(instructions), rng.choice(instructions)
            text = first[: rng.randint(1, len(first))] + second[rng.randrange(len(second)) :]
            for _ in range(rng.randint(0, 4)):
                rare = f"w{int(rng.paretovariate(0.7))}"
                text[rng.randrange(len(text))] = rng.choice(words) if rng.random() < 0.7 else rare
            tasks.append(Example(" ".join(text), "", "", id=str(next(ids))))
        return tasks

    return draw


def compare_with_2023(draw: DrawTasks, pool_size: int) -> None:
    novelty, accepted = fill_pool(draw, pool_size, nearest=False)
    decision_us = measure_us(novelty, draw(4_000))
    with_nearest, _ = fill_pool(draw, pool_size)
    nearest_us = measure_us(with_nearest, draw(2_000))
    us_2023 = measure_2023_us(accepted, draw(BATCH_SIZE))
    tasks = [*accepted, *draw(1_000)]
    started = time.monotonic()
    list(find_neighbours(tasks, "rouge_l"))
    # A task is compared with the tasks before it: on average, with half of them.
    neighbours_us = (time.monotonic() - started) / len(tasks) * 2 * 1e6
    print(f"pool of {pool_size:,}, {BATCH_SIZE} candidates a call, microseconds a candidate:")
    print(f"  as in 2023              {us_2023:12,.0f}")
    for label, us in (
        ("decisions only        ", decision_us),
        ("with the exact nearest", nearest_us),
        ("exact mean and top ten", neighbours_us),
    ):
        wall = " (wall, all cores)" if us == neighbours_us else ""
        print(f"  {label}  {us:12,.1f}   {us_2023 / us:,.0f} x{wall}")


def fill_pool(
    draw: DrawTasks, pool_size: int, **options: bool
) -> tuple[NoveltyPool, list[Example]]:
    """Return a pool of at least this size and its tasks."""
    novelty, accepted = NoveltyPool("rouge_l", **options), []
    while len(novelty) < pool_size:
        tasks = draw(2_000)
        accepted += [t for t, v in zip(tasks, novelty.check(tasks), strict=True) if v.is_novel]
    return novelty, accepted


def measure_us(novelty: NoveltyPool, tasks: list[Example]) -> float:
    """Return CPU microseconds per candidate, from strings to decisions."""
    started = time.process_time()
    for start in range(0, len(tasks), BATCH_SIZE):
        novelty.check(tasks[start : start + BATCH_SIZE])
    return (time.process_time() - started) / len(tasks) * 1e6


def measure_2023_us(accepted: list[Example], tasks: list[Example]) -> float:
    """Return wall microseconds per candidate of the 2023 code: 16 new processes per candidate."""
    tokenize = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)._tokenizer.tokenize
    pool_tokens = [tokenize(task.instruction) for task in accepted]
    started = time.monotonic()
    for task in tasks:
        with Pool(16) as processes:
            score = partial(rouge_scorer._score_lcs, tokenize(task.instruction))
            scores = [rouge.fmeasure for rouge in processes.map(score, pool_tokens)]
        sorted(range(len(scores)), key=scores.__getitem__)[-10:]
    return (time.monotonic() - started) / len(tasks) * 1e6


def compare_with_scan(draw: DrawTasks) -> None:
    """Compare prefix indices with a scan of the whole pool."""
    for size in (5_000, 20_000, 50_000):
        with mock.patch.object(index, "SCANNED_ROWS", 1 << 40):  # no row is ever indexed
            scan, _ = fill_pool(draw, size, nearest=False)
            tasks = draw(4_000)
            scan_us = measure_us(scan, tasks)
        indexed, _ = fill_pool(draw, size, nearest=False)
        index_us = measure_us(indexed, tasks)
        print(f"pool of {size:,}: plain scan {scan_us:.1f}, with indices {index_us:.1f}")


def measure_growth(draw: DrawTasks, largest: int) -> None:
    novelty, costs = NoveltyPool("rouge_l", nearest=False), {}
    for size in (size for size in POOL_SIZES if size <= largest):
        while len(novelty) < size:
            novelty.check(draw(2_000))
        costs[size] = measure_us(novelty, draw(20_000))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"pool of {size:,}: {costs[size]:.1f} microseconds, {memory:,.0f} MB resident")
    first, last = min(costs), max(costs)
    exponent = math.log(costs[last] / costs[first]) / math.log(last / first)
    print(f"growth exponent from {first:,} to {last:,}: {exponent:.2f}")


def compare_with_peers(python: str, tasks: list[Example]) -> None:
    novelty = NoveltyPool("rouge_l", nearest=False)
    started = time.process_time()
    expected = [not verdict.is_novel for verdict in novelty.check(tasks)]
    us = (time.process_time() - started) / len(tasks) * 1e6
    print(f"{len(tasks):,} rows, of which {sum(expected):,} are too similar")
    print(f"  code-alpaca: {us:.0f} microseconds, exact")
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("".join(" ".join(MEASURES["rouge_l"](t).words) + "\n" for t in tasks))
        file.flush()
        done = subprocess.run([python, "-c", PEERS, file.name], capture_output=True, check=True)
    for name, (seconds, hits) in json.loads(done.stdout).items():
        correct = sum(a and b for a, b in zip(expected, hits, strict=True))
        print(
            f"  {name}: {seconds / len(tasks) * 1e6:.0f} microseconds, "
            f"recall {correct / sum(expected):.0%}, precision {correct / max(1, sum(hits)):.0%}"
        )


if __name__ == "__main__":
    main()
