"""pass@k with confidence intervals.

The estimator is the unbiased one of Chen et al. 2021 (https://arxiv.org/abs/2107.03374, eq. 1):
1 - C(n - c, k) / C(n, k) for a problem with n samples of which c pass, averaged over problems.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from code_alpaca.core.console import plural

BOOTSTRAP_RESAMPLES = 2_000
MIN_BOOTSTRAP_PROBLEMS = 30  # fewer do not represent how problems vary
Z_975 = 1.959964  # 97.5th percentile of the normal distribution


def summarize(counts: Sequence[tuple[int, int]], ks: Sequence[int]) -> dict[str, object]:
    """Return `pass@k` and `pass@k_interval` for each k.

    Args:
        counts: (samples, passed) of every problem.

    Raises:
        ValueError: as `pass_at_k`.
    """
    summary: dict[str, object] = {}
    for k in ks:
        scores = [pass_at_k(samples, passed, k) for samples, passed in counts]
        summary[f"pass@{k}"] = sum(scores) / len(scores)
        summary[f"pass@{k}_interval"] = list(confidence_interval(scores))
    return summary


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """Estimate the probability that at least one of `k` samples passes; 0 without samples.

    Raises:
        ValueError: `k` is below 1 or above the number of samples, if there are any.
    """
    if k < 1 or (samples and k > samples):
        raise ValueError(
            f"k = {k} needs at least {plural(k, 'sample')} a problem; there are {samples}"
        )
    if samples - passed < k:
        return 1.0 if samples else 0.0
    return 1.0 - math.comb(samples - passed, k) / math.comb(samples, k)


def confidence_interval(scores: Sequence[float]) -> tuple[float, float]:
    """Return a 95% interval of the mean of per-problem scores; its width is never zero.

    Scores that are all 0 or 1 (one sample each) get Wilson's score interval (Wilson 1927), which
    is valid for few problems and near 0 and 1. Others get a percentile bootstrap over problems,
    unless there are fewer than MIN_BOOTSTRAP_PROBLEMS or all scores are equal: a bootstrap would
    then be too narrow. Wilson's interval is conservative there, since the variance of scores in
    [0, 1] with this mean is largest if all of them are 0 or 1.
    """
    if _can_bootstrap(scores) and not set(scores) <= {0.0, 1.0}:
        return _bootstrap_interval(scores)
    n = len(scores)
    mean = sum(scores) / n
    z2 = Z_975 * Z_975
    center = (mean + z2 / (2 * n)) / (1 + z2 / n)
    half_width = Z_975 * math.sqrt(mean * (1 - mean) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # For a mean of 0 or 1, rounding must not exclude the mean.
    return min(mean, max(0.0, center - half_width)), max(mean, min(1.0, center + half_width))


def paired_confidence_interval(differences: Sequence[float]) -> tuple[float, float]:
    """Return a 95% interval of the mean of per-problem differences; its width is never zero.

    A percentile bootstrap over problems. For fewer than MIN_BOOTSTRAP_PROBLEMS, or if all
    differences are equal, the adjusted Wald interval for matched pairs (Agresti and Min 2005,
    https://doi.org/10.1002/sim.1781): half a problem is added to each of won, lost and both kinds
    of tie. Differences are within [-1, 1].
    """
    if _can_bootstrap(differences):
        return _bootstrap_interval(differences)
    n = len(differences)
    mean = sum(differences) / n
    won = sum(max(difference, 0.0) for difference in differences) + 0.5
    lost = sum(max(-difference, 0.0) for difference in differences) + 0.5
    center = (won - lost) / (n + 2)
    variance = max(0.0, won + lost - (won - lost) ** 2 / (n + 2))
    half_width = Z_975 * math.sqrt(variance) / (n + 2)
    return min(mean, max(-1.0, center - half_width)), max(mean, min(1.0, center + half_width))


def _can_bootstrap(values: Sequence[float]) -> bool:
    return len(values) >= MIN_BOOTSTRAP_PROBLEMS and len(set(values)) > 1


def _bootstrap_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a mean (Efron 1979)."""
    rng, n = random.Random(0), len(values)
    means = sorted(sum(rng.choices(values, k=n)) / n for _ in range(BOOTSTRAP_RESAMPLES))
    return means[int(0.025 * BOOTSTRAP_RESAMPLES)], means[int(0.975 * BOOTSTRAP_RESAMPLES) - 1]
