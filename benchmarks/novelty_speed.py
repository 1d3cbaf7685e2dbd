"""Measure the time of a novelty check, and how it grows with the pool.

    python benchmarks/novelty_speed.py                            # generated instructions
    python benchmarks/novelty_speed.py --rows code_alpaca.json    # made from real ones
    ... --largest 1000000    largest pool (minutes, and 0.8 GB)
    ... --peers PYTHON       an interpreter that has datasketch and rensa

Instructions are spliced from others, with some words replaced: most are new, a quarter is too
similar to an earlier one. Times are CPU seconds of one process; the algorithm of 2023 uses 16
processes, as it did then.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import subprocess
import tempfile
import time
from functools import partial
from multiprocessing import Pool
from pathlib import Path

from rouge_score import rouge_scorer

from code_alpaca.core.schema import Example
from code_alpaca.curation.novelty import index
from code_alpaca.curation.novelty.measures import MEASURES
from code_alpaca.curation.novelty.pool import NoveltyPool, find_neighbours
from code_alpaca.teacher.offline.tasks import compose_task

CALL = 20  # candidates a call, as one reply brings
STEPS = (20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000)
PEERS = """
import json, sys, time
from datasketch import MinHash, MinHashLSH
from rensa import RMinHash, RMinHashLSH
rows = [line.split() for line in open(sys.argv[1], encoding="utf-8")]
found = {}
def run(name, make, lsh, near):
    began, index, hits = time.process_time(), lsh(), []
    for number, words in enumerate(rows):
        sketch = make(words)
        hit = bool(near(index, sketch, number))
        hits.append(hit)
        if not hit:
            index.insert(number, sketch)
    found[name] = [time.process_time() - began, hits]
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
kept = {}
def checked(index, sketch, number):
    kept[number] = sketch
    return any(sketch.jaccard(kept[i]) >= 0.5 for i in index.query(sketch))
run("rensa, words, 0.5", rensa, lambda: RMinHashLSH(0.5, 128, 32), checked)
json.dump(found, sys.stdout)
"""


def maker(path: str | None, seed: int = 0):
    """Return a function that makes the next N tasks."""
    rng = random.Random(seed)
    if path:
        rows = json.loads(Path(path).read_text("utf-8"))
        given = [row["instruction"].split() for row in rows]
    else:
        given = [compose_task(random.Random(n)).instruction.split() for n in range(2_000)]
    words = [word for instruction in given for word in instruction]
    made = 0

    def more(count: int) -> list[Example]:
        nonlocal made
        tasks = []
        for _ in range(count):
            one, other = rng.choice(given), rng.choice(given)
            text = one[: rng.randint(1, len(one))] + other[rng.randrange(len(other)) :]
            for _ in range(rng.randint(0, 4)):
                rare = f"w{int(rng.paretovariate(0.7))}"
                text[rng.randrange(len(text))] = rng.choice(words) if rng.random() < 0.7 else rare
            tasks.append(Example(" ".join(text), "", "", id=str(made)))
            made += 1
        return tasks

    return more


def filled(more, pool: int, **options) -> tuple[NoveltyPool, list[Example]]:
    novelty, kept = NoveltyPool("rouge_l", **options), []
    while len(novelty) < pool:
        tasks = more(2_000)
        kept += [t for t, v in zip(tasks, novelty.check(tasks), strict=True) if v.is_novel]
    return novelty, kept


def per_candidate(novelty: NoveltyPool, tasks: list[Example]) -> float:
    """CPU microseconds, strings in and decisions out, CALL at a time."""
    began = time.process_time()
    for start in range(0, len(tasks), CALL):
        novelty.check(tasks[start : start + CALL])
    return (time.process_time() - began) / len(tasks) * 1e6


def as_in_2023(kept: list[Example], tasks: list[Example]) -> float:
    """Wall microseconds a candidate: sixteen processes, spawned for each, over the whole pool."""
    tokenize = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)._tokenizer.tokenize
    old = [tokenize(task.instruction) for task in kept]
    began = time.monotonic()
    for task in tasks:
        with Pool(16) as processes:
            score = partial(rouge_scorer._score_lcs, tokenize(task.instruction))
            scores = [found.fmeasure for found in processes.map(score, old)]
        sorted(range(len(scores)), key=scores.__getitem__)[-10:]
    return (time.monotonic() - began) / len(tasks) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows")
    parser.add_argument("--largest", type=int, default=200_000)
    parser.add_argument("--peers")
    options = parser.parse_args()
    more = maker(options.rows)

    pool = 20_000
    novelty, kept = filled(more, pool, nearest=False)
    fast = per_candidate(novelty, more(4_000))
    exact, _ = filled(more, pool)
    nearest = per_candidate(exact, more(2_000))
    before = as_in_2023(kept, more(CALL))
    began = time.monotonic()
    list(zip(range(pool + 1_000), find_neighbours([*kept, *more(1_000)], "rouge_l"), strict=False))
    ten = (time.monotonic() - began) / (pool + 1_000) * 2 * 1e6  # the mean task sees half of them
    print(f"pool of {pool:,}, {CALL} candidates a call, microseconds a candidate:")
    print(f"  as in 2023              {before:12,.0f}")
    print(f"  decisions only          {fast:12,.1f}   {before / fast:,.0f} x")
    print(f"  with the exact nearest  {nearest:12,.1f}   {before / nearest:,.0f} x")
    print(f"  exact mean and top ten  {ten:12,.1f}   {before / ten:,.0f} x (wall, all cores)")

    index.SCANNED_ROWS, usual = 1 << 40, index.SCANNED_ROWS  # nothing is ever indexed: a plain scan
    for size in (5_000, 20_000, 50_000):
        scan, _ = filled(more, size, nearest=False)
        scanned = per_candidate(scan, tasks := more(4_000))
        index.SCANNED_ROWS = usual
        with_index, _ = filled(more, size, nearest=False)
        indexed = per_candidate(with_index, tasks)
        index.SCANNED_ROWS = 1 << 40
        print(f"pool of {size:,}: plain scan {scanned:.1f}, with indices {indexed:.1f}")
    index.SCANNED_ROWS = usual

    novelty, costs = NoveltyPool("rouge_l", nearest=False), {}
    for step in (size for size in STEPS if size <= options.largest):
        while len(novelty) < step:
            novelty.check(more(2_000))
        costs[step] = per_candidate(novelty, more(20_000))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"pool of {step:,}: {costs[step]:.1f} microseconds, {memory:,.0f} MB resident")
    first, last = min(costs), max(costs)
    growth = math.log(costs[last] / costs[first]) / math.log(last / first)
    print(f"growth exponent from {first:,} to {last:,}: {growth:.2f}")

    if options.peers:
        compare(options.peers, more(20_000))


def compare(python: str, tasks: list[Example]) -> None:
    exact = NoveltyPool("rouge_l", nearest=False)
    began = time.process_time()
    ours = [not verdict.is_novel for verdict in exact.check(tasks)]
    print(f"{len(tasks):,} rows, of which {sum(ours):,} are too similar")
    print(
        f"  code-alpaca: {(time.process_time() - began) / len(tasks) * 1e6:.0f} microseconds, exact"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("".join(" ".join(MEASURES["rouge_l"](t).words) + "\n" for t in tasks))
        file.flush()
        result = subprocess.run([python, "-c", PEERS, file.name], capture_output=True, check=True)
    for name, (seconds, hits) in json.loads(result.stdout).items():
        right = sum(a and b for a, b in zip(ours, hits, strict=True))
        print(
            f"  {name}: {seconds / len(tasks) * 1e6:.0f} microseconds, "
            f"recall {right / sum(ours):.0%}, precision {right / max(1, sum(hits)):.0%}"
        )


if __name__ == "__main__":
    main()
