"""Measure at which similarity two tasks are duplicates, by the tests of MBPP.

Pairs of tasks are grouped into bins of similarity, and some pairs of each bin are executed: two
tasks are duplicates if the solution of one passes the tests of the other. Compared are the measure
of 2023 (ROUGE-L of words) and the default one, which also reads symbols and names of languages.
"""

from __future__ import annotations

import random
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from common import Bench, Values, run
from rouge_score import rouge_scorer

from code_alpaca import sandbox
from code_alpaca.core.schema import Example
from code_alpaca.curation.novelty.measures import MEASURES
from code_alpaca.problems import Problem, load_problems
from code_alpaca.sandbox import ResourceLimits

MIN_SIMILARITY = 0.6
PAIRS_PER_BIN = 60
BINS = 20


def measure(bench: Bench) -> None:
    problems = list(load_problems(str(bench.find_file("mbpp.jsonl") or "mini")))
    problems = problems[: bench.choose(None, 60)]
    bench.facts = {"problems": len(problems), "pairs_per_bin": PAIRS_PER_BIN}
    texts = [problem.instruction.split("\n")[0] for problem in problems]
    rng = random.Random(0)
    with sandbox.WorkerPool(sandbox.choose_backend().backend) as pool:
        for name, measure_words in MEASURES.items():
            words = [list(measure_words(Example(text, "", "")).words) for text in texts]
            for key, pairs in sorted(group_pairs(words).items()):
                bench.log(f"{name}: similarity from {key / BINS:.2f}")
                executed = rng.sample(pairs, min(bench.choose(PAIRS_PER_BIN, 2), len(pairs)))
                duplicates = count_duplicates(pool, problems, executed)
                values: Values = {
                    "pairs": len(pairs), "executed": len(executed), "duplicates": duplicates,
                }  # fmt: skip
                bench.record(name, [values], similarity=key / BINS)


def count_duplicates(
    pool: sandbox.WorkerPool, problems: list[Problem], pairs: list[tuple[int, int]]
) -> int:
    with ThreadPoolExecutor(pool.size) as threads:
        first, second = ([problems[pair[side]] for pair in pairs] for side in (0, 1))
        return sum(threads.map(partial(are_duplicates, pool), first, second))


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
    run(measure)
