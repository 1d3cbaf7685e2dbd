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
from code_alpaca.core.records import BenchmarkSource, EvalResults
from code_alpaca.evaluation.metrics import paired_confidence_interval


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference between our run and another, as comparison.json records it.

    A run solves a problem if at least half of its samples pass.
    """

    problems: int
    ours: float  # pass@1
    theirs: float
    difference: float  # ours minus theirs
    interval: tuple[float, float]  # 95% interval of the difference
    p_value: float
    won: list[str]  # task ids of the problems that only our run solves
    lost: list[str]

    def as_dict(self) -> dict[str, object]:
        """Return the content of comparison.json."""
        return asdict(self)


def compare_runs(our_folder: Path, their_folder: Path) -> Comparison:
    """Compare the output folders of two evaluations.

    Raises:
        InputError: a folder without results, or results on other problems.
    """
    ours, our_source = read_run(our_folder)
    theirs, their_source = read_run(their_folder)
    _refuse_other_source(our_folder, our_source, their_folder, their_source)
    if ours.keys() != theirs.keys():
        unpaired = sorted(ours.keys() ^ theirs.keys())
        raise InputError(
            f"{our_folder} and {their_folder} are on different problems ({len(unpaired)} are in "
            f"only one, such as {unpaired[0]}); run eval with the same benchmark and limit"
        )
    task_ids = sorted(ours)
    differences = [ours[task_id] - theirs[task_id] for task_id in task_ids]
    won = [task_id for task_id in task_ids if ours[task_id] >= 0.5 > theirs[task_id]]
    lost = [task_id for task_id in task_ids if theirs[task_id] >= 0.5 > ours[task_id]]
    return Comparison(
        problems=len(task_ids),
        ours=sum(ours.values()) / len(task_ids),
        theirs=sum(theirs.values()) / len(task_ids),
        difference=sum(differences) / len(task_ids),
        interval=paired_confidence_interval(differences),
        p_value=mcnemar_p_value(len(won), len(lost)),
        won=won,
        lost=lost,
    )


def read_run(folder: Path) -> tuple[dict[str, float], BenchmarkSource]:
    """Return the fraction of passed samples per problem (0 without samples), and the benchmark.

    Raises:
        InputError: a folder without results.
    """
    try:
        results = EvalResults.load(folder / EvalResults.FILE)
        task_ids = results.task_ids
        rows = [line.record for line in jsonl.read(folder / "samples.jsonl")]
        samples = Counter(row["task_id"] for row in rows if "status" in row)
        passed = Counter(row["task_id"] for row in rows if row.get("status") == "passed")
        if not task_ids:
            raise InputError("results.json lists no task_ids")
    except (InputError, KeyError) as error:
        raise InputError(f"{folder} contains no results of eval to compare ({error})") from None
    rates = {task_id: passed[task_id] / (samples[task_id] or 1) for task_id in task_ids}
    return rates, results.source or BenchmarkSource(name=results.benchmark)


def mcnemar_p_value(won: int, lost: int) -> float:
    """Return the exact two-sided p-value: of a fair coin splitting won + lost this unevenly."""
    n = won + lost
    tail = sum(math.comb(n, i) for i in range(min(won, lost) + 1)) / 2**n
    return min(1.0, 2 * tail)


def _refuse_other_source(
    our_folder: Path, ours: BenchmarkSource, their_folder: Path, theirs: BenchmarkSource
) -> None:
    """Refuse results of another file or dataset, whose problems may have the same task ids."""
    for field in ("sha256", "dataset", "config", "revision"):
        our_value, their_value = getattr(ours, field), getattr(theirs, field)
        if our_value and their_value and our_value != their_value:  # earlier versions lack some
            raise InputError(
                f"{our_folder} and {their_folder} are not on the same benchmark: {ours.name} and "
                f"{theirs.name} differ in {field} ({our_value[:12]} and {their_value[:12]}); run "
                "eval again with one of them"
            )
