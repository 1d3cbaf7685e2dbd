"""Compare two evaluations on the same problems: is the difference statistically significant?

Both runs have the same problems, so they are compared in pairs: by McNemar's exact test (McNemar
1947, https://doi.org/10.1007/BF02295996) over the problems that only one run solves, and by a 95%
interval of the difference in pass@1.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from code_alpaca.core import jsonl
from code_alpaca.core.errors import InputError
from code_alpaca.core.records import EvalResults
from code_alpaca.evaluation.metrics import paired_confidence_interval


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference between our run and another, as comparison.json records it.

    A run solves a problem if at least half of its samples pass.

    Attributes:
        ours: pass@1 of our run.
        theirs: pass@1 of the other run.
        difference: ours minus theirs.
        interval: 95% interval of the difference.
        won: task ids of the problems that only our run solves.
        lost: task ids of the problems that only the other run solves.
    """

    problems: int
    ours: float
    theirs: float
    difference: float
    interval: tuple[float, float]
    p_value: float
    won: list[str]
    lost: list[str]

    def as_dict(self) -> dict[str, object]:
        """Return the content of comparison.json."""
        return asdict(self)


def compare_runs(ours: Path, theirs: Path) -> Comparison:
    """Compare the output folders of two evaluations.

    Raises:
        InputError: a folder without results, or results on other problems.
    """
    our_rates, their_rates = _pass_rates(ours), _pass_rates(theirs)
    if our_rates.keys() != their_rates.keys():
        unpaired = sorted(our_rates.keys() ^ their_rates.keys())
        raise InputError(
            f"{ours} and {theirs} are on different problems ({len(unpaired)} are in only one, "
            f"such as {unpaired[0]}); run eval with the same benchmark and limit"
        )
    task_ids = sorted(our_rates)
    differences = [our_rates[task_id] - their_rates[task_id] for task_id in task_ids]
    n = len(task_ids)
    won = [task_id for task_id in task_ids if our_rates[task_id] >= 0.5 > their_rates[task_id]]
    lost = [task_id for task_id in task_ids if their_rates[task_id] >= 0.5 > our_rates[task_id]]
    return Comparison(
        problems=n,
        ours=sum(our_rates.values()) / n,
        theirs=sum(their_rates.values()) / n,
        difference=sum(differences) / n,
        interval=paired_confidence_interval(differences),
        p_value=mcnemar_p_value(len(won), len(lost)),
        won=won,
        lost=lost,
    )


def mcnemar_p_value(won: int, lost: int) -> float:
    """Return the exact two-sided p-value: of a fair coin splitting won + lost this unevenly."""
    n = won + lost
    tail = sum(math.comb(n, i) for i in range(min(won, lost) + 1)) / 2**n
    return min(1.0, 2 * tail)


def _pass_rates(folder: Path) -> dict[str, float]:
    """Return the fraction of passed samples per problem; 0 for a problem without samples."""
    try:
        results = EvalResults.load(folder / EvalResults.FILE)
        rows = [line.record for line in jsonl.read(folder / "samples.jsonl")]
        samples = Counter(row["task_id"] for row in rows if "status" in row)
        passed = Counter(row["task_id"] for row in rows if row.get("status") == "passed")
        if not results.task_ids:
            raise InputError("results.json lists no task_ids")
    except (InputError, KeyError) as error:
        raise InputError(f"{folder} contains no results of eval to compare ({error})") from None
    return {
        task_id: passed[task_id] / samples[task_id] if samples[task_id] else 0.0
        for task_id in results.task_ids
    }
