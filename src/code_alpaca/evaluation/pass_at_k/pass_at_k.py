"""pass@k (Chen et al. 2021, https://arxiv.org/abs/2107.03374) as a metric of `evaluate`.

The arguments and the default k are those of `code_eval`. A candidate passes if it runs in one
process followed by its tests, so tests may use its classes, constants and imports. Differences:
candidates run in sandboxes, so no environment variable has to allow it; a candidate that cheats
its tests (by objects that equal everything, an early exit, patched built-ins) fails; a problem
without candidates counts as unsolved, while code_eval drops it; scores are plain floats.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate

from code_alpaca import sandbox
from code_alpaca.core.console import plural
from code_alpaca.evaluation import metrics
from code_alpaca.evaluation.controls import make_negative_controls, make_positive_control
from code_alpaca.evaluation.grading import FOLDER_BYTES, MEMORY_MB

DEFAULT_K = (1, 10, 100)


class PassAtK(evaluate.Metric):
    """`PassAtK().compute(predictions=[["def one(): return 1"]], references=["assert one() == 1"])`.

    Args of compute:
        predictions: for each problem its candidates, Python source.
        references: for each problem its tests, Python source that calls the candidate's functions.
        k: those above the number of candidates of a problem are omitted, as in code_eval, with a
            warning if they were set explicitly.
        num_workers: candidates that run at the same time; None: the number of cores.
        timeout: seconds per candidate.

    Returns:
        The scores (`pass@k` and `pass@k_interval`, a 95% interval), and for each problem the list
        of its candidates' statuses.

    Raises:
        ValueError: a k is below 1, or all are above the number of a problem's candidates.
        InputError: no sandbox works on this machine.
    """

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=__doc__ or "",
            citation="",
            inputs_description=type(self).__doc__ or "",
            features=datasets.Features({"predictions": datasets.List(text), "references": text}),
        )

    def _compute(
        self,
        predictions: list[list[str]],
        references: list[str],
        k: Sequence[int] = DEFAULT_K,
        num_workers: int | None = None,
        timeout: float = 10.0,
    ) -> tuple[dict[str, Any], dict[int, list[str]]]:
        measurable = _measurable_ks(k, [len(candidates) for candidates in predictions])
        limits = sandbox.ResourceLimits(
            wall_s=timeout, memory_mb=MEMORY_MB, folder_bytes=FOLDER_BYTES
        )
        pairs = [(c, test) for cs, test in zip(predictions, references, strict=True) for c in cs]
        backend = sandbox.choose_backend().backend
        with sandbox.WorkerPool(backend, size=num_workers, packages=True) as pool:
            verdicts = pool.map(lambda worker, pair: _judge(worker, *pair, limits), pairs)
            results = iter(list(verdicts))
        statuses = {n: [next(results) for _ in cs] for n, cs in enumerate(predictions)}
        counts = [(len(ends), ends.count("passed")) for ends in statuses.values()]
        return metrics.summarize(counts, measurable), statuses


def _measurable_ks(ks: Sequence[int], counts: list[int]) -> list[int]:
    """Return the k for which every problem with candidates has enough of them."""
    if not all(k >= 1 for k in ks):
        raise ValueError(f"k = {min(ks)} is below 1")
    fewest = min((count for count in counts if count), default=0)
    measurable = [k for k in ks if k <= fewest or not fewest]
    omitted = [k for k in ks if k not in measurable]
    if omitted and not measurable:
        samples = plural(omitted[0], "sample")
        raise ValueError(f"k = {omitted[0]} needs at least {samples} a problem")
    if omitted and tuple(ks) != DEFAULT_K:
        candidates = plural(fewest, "candidate")
        warnings.warn(f"k = {omitted} omitted: a problem has {candidates}", stacklevel=2)
    return measurable


def _judge(
    worker: sandbox.Worker, candidate: str, test: str, limits: sandbox.ResourceLimits
) -> str:
    """Return the in-process status, or `failed` for a candidate that cheats.

    Tests may pass in process and fail isolated because they use a class or constant of the
    candidate, or because it cheats: the controls of the tests decide which (see `controls`).
    """

    def run(tests: str) -> str:
        return worker.run_program(f"{candidate}\n{tests}", limits, module="solution").status

    status = run(test)
    if status != "passed":
        return status
    isolated_test = sandbox.SolutionTest(test, defines_check=False)
    if worker.test_solution(candidate, isolated_test, limits).status == "passed":
        return "passed"
    if any(run(control) == "passed" for control in make_negative_controls(test)):
        return "failed"
    positive = make_positive_control(test)
    return "failed" if positive is not None and run(positive) == "failed" else "passed"
