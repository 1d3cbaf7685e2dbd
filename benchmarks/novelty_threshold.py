"""Measure from which similarity on two tasks are the same, on MBPP, whose tasks have tests.

    python benchmarks/novelty_threshold.py mbpp.jsonl

Pairs of tasks are binned by similarity, and a sample of each bin is run: two tasks are the same if
the solution of one passes the tests of the other.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

from rouge_score import rouge_scorer

from code_alpaca import sandbox
from code_alpaca.core.schema import Example
from code_alpaca.curation.novelty.measures import MEASURES
from code_alpaca.problems import Problem, load_problems
from code_alpaca.sandbox import ResourceLimits

MIN_SIMILARITY, SAMPLE = 0.6, 60  # of a pair; pairs of each bin that are run


def same(pool: sandbox.WorkerPool, one: Problem, other: Problem) -> bool:
    program = f"{one.canonical_solution}\n{other.test}\ncheck({one.entry_point})\n"
    return pool.run_program(program, ResourceLimits(wall_s=5)).status == "passed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mbpp", help="MBPP, as JSONL")
    problems = load_problems(str(parser.parse_args().mbpp))
    texts = [problem.instruction.split("\n")[0] for problem in problems]
    pool, rng = sandbox.WorkerPool(sandbox.choose_backend().backend), random.Random(0)
    for name, measure in MEASURES.items():
        words = [list(measure(Example(text, "", "")).words) for text in texts]
        bins: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for i in range(len(words)):
            for j in range(i):
                most = 2 * min(len(words[i]), len(words[j])) / (len(words[i]) + len(words[j]))
                shared = len(set(words[i]) & set(words[j]))
                if most <= MIN_SIMILARITY or 2 * shared < MIN_SIMILARITY * min(
                    len(words[i]), len(words[j])
                ):
                    continue
                score = rouge_scorer._score_lcs(words[i], words[j]).fmeasure
                if score > MIN_SIMILARITY:
                    bins[int(score * 20)].append((i, j))
        print(f"{name}: similarity, pairs, share of {SAMPLE} that are the same task")
        for key in sorted(bins):
            tried = rng.sample(bins[key], min(SAMPLE, len(bins[key])))
            with ThreadPoolExecutor(pool.size) as threads:
                found = list(
                    threads.map(
                        lambda ij: (
                            same(pool, problems[ij[0]], problems[ij[1]])
                            or same(pool, problems[ij[1]], problems[ij[0]])
                        ),
                        tried,
                    )
                )
            print(f"  {key / 20:.2f}  {len(bins[key]):6,}  {sum(found) / len(found):5.0%}")
    pool.close()


if __name__ == "__main__":
    main()
