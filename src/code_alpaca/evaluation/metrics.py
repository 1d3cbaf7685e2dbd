"""pass@k with its uncertainty.

The estimator is the unbiased one of Chen et al. 2021 (https://arxiv.org/abs/2107.03374, eq. 1):
1 - C(n - c, k) / C(n, k) for a problem with n samples of which c pass, averaged over problems.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

BOOTSTRAP_RESAMPLES = 2_000
MIN_BOOTSTRAP_PROBLEMS = 30  # problems; below this a bootstrap knows too little of how they differ
Z_975 = 1.959964  # 97.5th percentile of the normal distribution


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """The chance that at least one of `k` samples drawn without replacement passes.

    A problem without samples counts as unsolved.

    Raises:
        ValueError: `k` is below 1 or above the number of samples, where there are any.
    """
    if k < 1 or (samples and k > samples):
        raise ValueError(f"k = {k} needs at least {k} samples a problem; there are {samples}")
    if samples - passed < k:
        return 1.0 if samples else 0.0
    return 1.0 - math.comb(samples - passed, k) / math.comb(samples, k)


def confidence_interval(scores: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """A 95% interval for the mean of per-problem scores, never of zero width.

    Scores that are all 0 or 1 (one sample each) get Wilson's interval (Wilson 1927), which
    holds for a few problems and at the ends; others a percentile bootstrap over problems. Wilson's
    is also taken for fewer than FEW problems and for scores that are all the same, of which a
    bootstrap would make a point: it is the wider one, since scores within [0, 1] vary most where
    all of them are 0 or 1.
    """
    n = len(scores)
    mean = sum(scores) / n
    if (
        n < MIN_BOOTSTRAP_PROBLEMS
        or len(set(scores)) == 1
        or all(score in (0.0, 1.0) for score in scores)
    ):
        centre = (mean + Z_975 * Z_975 / (2 * n)) / (1 + Z_975 * Z_975 / n)
        half = (
            Z_975
            * math.sqrt(mean * (1 - mean) / n + Z_975 * Z_975 / (4 * n * n))
            / (1 + Z_975 * Z_975 / n)
        )
        # The ends are exact where the mean is at one; rounding must not leave it outside.
        return min(mean, max(0.0, centre - half)), max(mean, min(1.0, centre + half))
    rng = random.Random(seed)
    means = sorted(sum(rng.choices(scores, k=n)) / n for _ in range(BOOTSTRAP_RESAMPLES))
    return means[int(0.025 * BOOTSTRAP_RESAMPLES)], means[int(0.975 * BOOTSTRAP_RESAMPLES) - 1]


def paired_confidence_interval(differences: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """A 95% interval for the mean of per-problem differences within [-1, 1], never of zero width.

    A percentile bootstrap over problems; for fewer than FEW, or where all differences are the
    same, the adjusted Wald interval for matched pairs (Agresti and Min 2005,
    https://doi.org/10.1002/sim.1781): half a problem more won, lost and in both kinds of tie.
    """
    n = len(differences)
    mean = sum(differences) / n
    if n < MIN_BOOTSTRAP_PROBLEMS or len(set(differences)) == 1:
        won = sum(max(each, 0.0) for each in differences) + 0.5
        lost = sum(max(-each, 0.0) for each in differences) + 0.5
        centre = (won - lost) / (n + 2)
        half = Z_975 * math.sqrt(max(0.0, won + lost - (won - lost) ** 2 / (n + 2))) / (n + 2)
        return min(mean, max(-1.0, centre - half)), max(mean, min(1.0, centre + half))
    rng = random.Random(seed)
    means = sorted(sum(rng.choices(differences, k=n)) / n for _ in range(BOOTSTRAP_RESAMPLES))
    return means[int(0.025 * BOOTSTRAP_RESAMPLES)], means[int(0.975 * BOOTSTRAP_RESAMPLES) - 1]


def summarize(counts: Sequence[tuple[int, int]], ks: Sequence[int]) -> dict[str, object]:
    """`pass@k` and `pass@k_interval` for each k, from (samples, passed) of every problem.

    Raises:
        ValueError: as `pass_at_k`.
    """
    summary: dict[str, object] = {}
    for k in ks:
        scores = [pass_at_k(samples, passed, k) for samples, passed in counts]
        summary[f"pass@{k}"] = sum(scores) / len(scores)
        summary[f"pass@{k}_interval"] = list(confidence_interval(scores))
    return summary
