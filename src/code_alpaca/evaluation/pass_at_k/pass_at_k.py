"""pass@k (Chen et al. 2021, https://arxiv.org/abs/2107.03374) as a metric of `evaluate`.

It takes what `code_eval` takes, and its default k: a candidate passes if it runs in one
process with its tests after it, so tests may use its classes, constants and imports. What
differs: everything runs in sandboxes, and nothing has to be allowed by an environment variable; a
candidate that cheats its tests (by objects that equal everything, an early exit, patched
built-ins) fails; a problem without candidates counts as unsolved, where code_eval drops it; the
scores are plain floats.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import datasets
import evaluate

from code_alpaca import sandbox
from code_alpaca.evaluation import metrics
from code_alpaca.evaluation.controls import make_negative_controls, make_positive_control

DEFAULT_K = (1, 10, 100)
MEMORY_MB = 1024
FOLDER_BYTES = 16 << 20


class PassAtK(evaluate.Metric):
    """`PassAtK().compute(predictions=[["def one(): return 1"]], references=["assert one() == 1"])`.

    Args of compute:
        predictions: for each problem its candidates, Python source.
        references: for each problem its tests, Python source that calls the candidate's functions.
        k: the k of pass@k; those beyond the number of candidates of a problem are left out, as
            code_eval does, with a warning where they were asked for.
        num_workers: how many candidates run at the same time; None: as many as there are cores.
        timeout: seconds for one candidate.

    Returns:
        the scores (`pass@k` and `pass@k_interval`, a 95% interval), and for each problem the list
        of its candidates' statuses.

    Raises:
        ValueError: a k is below 1, or all of them are above the number of a problem's candidates.
        InputError: no sandbox holds on this machine.
    """

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features(
            {
                "predictions": datasets.List(datasets.Value("string")),
                "references": datasets.Value("string"),
            }
        )
        return evaluate.MetricInfo(
            description=__doc__ or "",
            citation="",
            inputs_description=type(self).__doc__ or "",
            features=features,
        )

    def _compute(
        self,
        predictions: list[list[str]],
        references: list[str],
        k: Sequence[int] = DEFAULT_K,
        num_workers: int | None = None,
        timeout: float = 10.0,
    ) -> tuple[dict[str, Any], dict[int, list[str]]]:
        possible = _possible(k, [len(candidates) for candidates in predictions])
        limits = sandbox.ResourceLimits(
            wall_s=timeout, memory_mb=MEMORY_MB, folder_bytes=FOLDER_BYTES
        )
        pairs = [(c, test) for cs, test in zip(predictions, references, strict=True) for c in cs]
        backend = sandbox.choose_backend().backend
        with sandbox.WorkerPool(backend, size=num_workers, packages=True) as pool:
            ends = iter(list(pool.map(lambda worker, pair: _judge(worker, *pair, limits), pairs)))
        statuses = {n: [next(ends).status for _ in cs] for n, cs in enumerate(predictions)}
        counts = [(len(found), found.count("passed")) for found in statuses.values()]
        return metrics.summarize(counts, possible), statuses


def _possible(ks: Sequence[int], counts: list[int]) -> list[int]:
    """The k that every problem with candidates has enough of."""
    if not all(k >= 1 for k in ks):
        raise ValueError(f"k = {min(ks)} is below 1")
    least = min((count for count in counts if count), default=0)
    possible = [k for k in ks if k <= least or not least]
    left_out = [k for k in ks if k not in possible]
    if left_out and not possible:
        raise ValueError(f"k = {left_out[0]} needs at least {left_out[0]} samples a problem")
    if left_out and tuple(ks) != DEFAULT_K:
        warnings.warn(f"k = {left_out} left out: a problem has {least} candidates", stacklevel=2)
    return possible


def _judge(
    worker: sandbox.Worker, candidate: str, test: str, limits: sandbox.ResourceLimits
) -> sandbox.RunResult:
    """The verdict of one process, unless the candidate cheated it.

    Where the tests pass in one process and not by values alone, because they use a class or a
    constant of the candidate or because it cheats, the negative controls of the tests decide.
    """
    together = _run(worker, candidate, test, limits)
    if together.status != "passed":
        return together
    apart = worker.test_solution(candidate, sandbox.SolutionTest(test, defines_check=False), limits)
    if apart.status == "passed":
        return together
    for control in make_negative_controls(test):
        if _run(worker, candidate, control, limits).status == "passed":
            return replace(together, status="failed")
    same = make_positive_control(test)  # a program may tell controls by their form
    if same is not None and _run(worker, candidate, same, limits).status == "failed":
        return replace(together, status="failed")
    return together


def _run(
    worker: sandbox.Worker, candidate: str, test: str, limits: sandbox.ResourceLimits
) -> sandbox.RunResult:
    return worker.run_program(f"{candidate}\n{test}", limits, module="solution")
