"""pass@k (Chen et al. 2021, https://arxiv.org/abs/2107.03374) as a metric of `evaluate`.

It takes what `code_eval` takes. What differs: tests run in one sandbox and candidates in another,
no problem is ever dropped (one without candidates counts as unsolved), a k that there are not
enough candidates for is an error, the scores are plain floats, and nothing has to be allowed by
an environment variable, because nothing gets out.
"""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

from code_alpaca import sandbox
from code_alpaca.evaluation import metrics


class PassAtK(evaluate.Metric):
    """`PassAtK().compute(predictions=[["def one(): return 1"]], references=["assert one() == 1"])`.

    Args of compute:
        predictions: for each problem its candidates, Python source.
        references: for each problem its tests, Python source that calls the candidate's functions.
        k: the k of pass@k.
        timeout: seconds for one candidate.

    Returns:
        the scores (`pass@k` and `pass@k_interval`, a 95% interval), and for each problem the list
        of its candidates' statuses.

    Raises:
        ValueError: k is below 1 or above the number of a problem's candidates.
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
        k: tuple[int, ...] = (1,),
        timeout: float = 10.0,
    ) -> tuple[dict[str, Any], dict[int, list[str]]]:
        for candidates in predictions:  # before anything runs
            for each in k:
                metrics.pass_at_k(len(candidates), 0, each)
        limits = sandbox.Limits(wall_s=timeout, memory_mb=1024)
        pairs = [(c, test) for cs, test in zip(predictions, references, strict=True) for c in cs]
        with sandbox.Pool(sandbox.choose().backend, packages=True) as pool:
            ends = iter(list(pool.map(lambda worker, pair: _judge(worker, *pair, limits), pairs)))
        statuses = {n: [next(ends).status for _ in cs] for n, cs in enumerate(predictions)}
        counts = [(len(found), found.count("passed")) for found in statuses.values()]
        return metrics.summarize(counts, k), statuses


def _judge(worker: sandbox.Worker, candidate: str, test: str, limits: sandbox.Limits) -> Any:
    return worker.test(candidate, entry_point="", test=test, limits=limits, check=False)
