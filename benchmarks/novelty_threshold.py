"""Measure at which similarity two tasks are duplicates, by the tests of MBPP.

    python benchmarks/novelty_threshold.py mbpp.jsonl

Pairs of tasks are grouped into bins of similarity, and some pairs of each bin are executed: two
tasks are duplicates if the solution of one passes the tests of the other.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from rouge_score import rouge_scorer

from code_alpaca import sandbox
from code_alpaca.core.schema import Example
from code_alpaca.curation.novelty.measures import MEASURES
from code_alpaca.problems import Problem, load_problems
from code_alpaca.sandbox import ResourceLimits

MIN_SIMILARITY = 0.6
PAIRS_PER_BIN = 60
BINS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mbpp", help="MBPP, as JSONL")
    problems = load_problems(str(parser.parse_args().mbpp))
    texts = [problem.instruction.split("\n")[0] for problem in problems]
    rng = random.Random(0)
    with sandbox.WorkerPool(sandbox.choose_backend().backend) as pool:
        for name, measure in MEASURES.items():
            words = [list(measure(Example(text, "", "")).words) for text in texts]
            bins = group_pairs(words)
            print(f"{name}: similarity, pairs, fraction of {PAIRS_PER_BIN} that are duplicates")
            for key in sorted(bins):
                pairs = rng.sample(bins[key], min(PAIRS_PER_BIN, len(bins[key])))
                with ThreadPoolExecutor(pool.size) as threads:
                    duplicates = threads.map(
                        partial(are_duplicates, pool),
                        [problems[i] for i, _ in pairs],
                        [problems[j] for _, j in pairs],
                    )
                    fraction = sum(duplicates) / len(pairs)
                print(f"  {key / BINS:.2f}  {len(bins[key]):6,}  {fraction:5.0%}")


def group_pairs(words: list[list[str]]) -> dict[int, list[tuple[int, int]]]:
    """Return the pairs above MIN_SIMILARITY (ROUGE-L F1), by bin of similarity."""
    bins: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for i in range(len(words)):
        for j in range(i):
            shorter, total = min(len(words[i]), len(words[j])), len(words[i]) + len(words[j])
            common = len(set(words[i]) & set(words[j]))
            # Upper bounds of the similarity, faster than the longest common subsequence.
            if 2 * shorter / total <= MIN_SIMILARITY or 2 * common < MIN_SIMILARITY * shorter:
                continue
            similarity = rouge_scorer._score_lcs(words[i], words[j]).fmeasure
            if similarity > MIN_SIMILARITY:
                bins[int(similarity * BINS)].append((i, j))
    return bins


def are_duplicates(pool: sandbox.WorkerPool, one: Problem, other: Problem) -> bool:
    return passes(pool, one, other) or passes(pool, other, one)


def passes(pool: sandbox.WorkerPool, one: Problem, other: Problem) -> bool:
    """Return whether the solution of one problem passes the tests of the other."""
    program = f"{one.canonical_solution}\n{other.test}\ncheck({one.entry_point})\n"
    return pool.run_program(program, ResourceLimits(wall_s=5)).status == "passed"


if __name__ == "__main__":
    main()
