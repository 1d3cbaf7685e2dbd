"""Is one model better than another on the same problems, or was it luck?

Two runs over the same problems are paired, so the test is McNemar's in its exact form (McNemar
1947, https://doi.org/10.1007/BF02295996): of the problems that only one of the two solves, how
uneven is the split? The difference of pass@1 comes with a 95% interval for paired problems.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from code_alpaca.core.errors import InputError
from code_alpaca.evaluation.metrics import paired_confidence_interval


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ours against theirs over `problems` problems.

    A problem is solved where at least half of its samples pass; `won` and `lost` are the
    problems that only we, and only they, solve. `difference` is of pass@1, ours minus theirs.
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
        return asdict(self)


def compare_runs(ours: Path, theirs: Path) -> Comparison:
    """Compare two output folders of eval.

    Raises:
        InputError: a folder without results, or results over other problems.
    """
    mine, others = _rates(ours), _rates(theirs)
    if mine.keys() != others.keys():
        apart = sorted(mine.keys() ^ others.keys())
        raise InputError(
            f"{ours} and {theirs} are over different problems ({len(apart)} are in one alone, "
            f"{apart[0]} for one); run eval with the same benchmark and limit"
        )
    names = sorted(mine)
    differences = [mine[name] - others[name] for name in names]
    n = len(names)
    won = [name for name in names if mine[name] >= 0.5 > others[name]]
    lost = [name for name in names if others[name] >= 0.5 > mine[name]]
    return Comparison(
        problems=n,
        ours=sum(mine.values()) / n,
        theirs=sum(others.values()) / n,
        difference=sum(differences) / n,
        interval=paired_confidence_interval(differences),
        p_value=mcnemar_p_value(len(won), len(lost)),
        won=won,
        lost=lost,
    )


def mcnemar_p_value(won: int, lost: int) -> float:
    """The exact two-sided p-value: a fair coin splits won + lost at least as unevenly."""
    n = won + lost
    tail = sum(math.comb(n, i) for i in range(min(won, lost) + 1)) / 2**n
    return min(1.0, 2 * tail)


def _rates(folder: Path) -> dict[str, float]:
    """The share of passed samples of each problem; one without samples has 0."""
    try:
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        lines = (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        names = results["task_ids"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{folder} holds no results of eval to compare ({type(error).__name__}: {error})"
        ) from None
    samples = Counter(row["task_id"] for row in rows if "status" in row)
    passed = Counter(row["task_id"] for row in rows if row.get("status") == "passed")
    return {name: passed[name] / samples[name] if samples[name] else 0.0 for name in names}
