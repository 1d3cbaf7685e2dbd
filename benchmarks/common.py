"""What the benchmarks share: their arguments, alternating repetitions, and the form of a result.

A script measures one claim: it defines `measure(bench)` and ends in `run(measure)`. Contestants are
measured in turns in one run, so that whatever else the machine does affects all of them. Run alone,
a script prints its result as JSON; run.py saves the results of all scripts in results/.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import linear_regression, median
from typing import Any, TypeVar

T = TypeVar("T")
Values = dict[str, float]  # one measurement: metric to value, units in the metric's name


class NotMeasuredError(Exception):
    """What cannot be measured on this machine: the message becomes part of the result."""


@dataclass(slots=True)
class Bench:
    """The measurements of one script.

    Attributes:
        quick: small sizes and one repetition: shows that the script works, and measures nothing.
        data: a folder with HumanEval.jsonl.gz, mbpp.jsonl and code_alpaca.json, if any.
        rows: one for each contestant and size, with every single measurement.
        facts: what else the table states, such as the number of programs.
        versions: of the packages that are compared.
    """

    quick: bool = False
    data: Path | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def choose(self, full: T, quick: T) -> T:
        return quick if self.quick else full

    def find_file(self, name: str) -> Path | None:
        """Return a file of the data folder, and record its hash; None without such a file."""
        path = self.data / name if self.data else None
        if path is None or not path.is_file():
            return None
        self.files[name] = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        return path

    def add_versions(self, *packages: str) -> None:
        self.versions.update((package, version(package)) for package in packages)

    def compare(
        self, contestants: Mapping[str, Callable[[], Values]], repeats: int, **labels: Any
    ) -> None:
        """Measure every contestant once, then all of them again, `repeats` times.

        The labels (`size` is the one that exponents are fitted to) become part of the rows. A
        contestant that raises `NotMeasuredError` is recorded with the reason, and not run again.
        """
        measured: dict[str, list[Values]] = {name: [] for name in contestants}
        reasons: dict[str, str] = {}
        for number in range(1, repeats + 1):
            for name, contestant in contestants.items():
                if name in reasons:
                    continue
                self.log(f"{name}{_describe(labels)}: {number} of {repeats}")
                try:
                    measured[name].append(contestant())
                except NotMeasuredError as error:
                    reasons[name] = str(error)
                    self.log(f"{name}: not measured, {error}")
        for name, values in measured.items():
            if name in reasons:
                self.rows.append({"contestant": name, **labels, "not_measured": reasons[name]})
            else:
                self.record(name, values, **labels)

    def record(self, contestant: str, values: list[Values], **labels: Any) -> None:
        """Add a row: every measurement of a contestant, and the median of each metric."""
        medians = {metric: median(v[metric] for v in values) for metric in values[0]}
        self.rows.append(
            {"contestant": contestant, **labels, "median": medians, "measurements": values}
        )

    def log(self, line: str) -> None:
        print(f"  {line}", file=sys.stderr, flush=True)

    def result(self) -> dict[str, Any]:
        return {
            "versions": dict(sorted(self.versions.items())),
            "files": self.files,
            "facts": self.facts,
            "rows": _rounded(self.rows),
            "exponents": _rounded(fit_exponents(self.rows)),
        }


def run(measure: Callable[[Bench], None]) -> None:
    """Parse the arguments of a script, measure, and write the result."""
    module = sys.modules[measure.__module__]
    parser = argparse.ArgumentParser(
        description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: print the result")
    args = parser.parse_args()
    bench = Bench(args.quick, args.data)
    bench.add_versions("code-alpaca")
    started = time.monotonic()
    measure(bench)
    result = {"seconds": round(time.monotonic() - started), **bench.result()}
    text = json.dumps(result, indent=1)
    if args.output:
        args.output.write_text(text, "utf-8")
    else:
        print(text)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="small sizes, once: tests the script")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="with HumanEval.jsonl.gz, mbpp.jsonl and code_alpaca.json; "
        "default: composed rows and the built-in benchmark",
    )


def measure_in_process(work: Callable[..., object], *args: Any) -> Values:
    """Return the seconds and the peak resident memory of a function in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as process:
        return process.submit(_measure_here, work, args).result()


def _measure_here(work: Callable[..., object], args: tuple[Any, ...]) -> Values:
    started = time.monotonic()
    work(*args)
    seconds = time.monotonic() - started
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak_mb": peak_mb}


def fit_exponents(rows: list[dict[str, Any]]) -> dict[str, Values]:
    """Return the exponent of each contestant's metrics in `size`: log-log least squares.

    Only contestants with three sizes or more have exponents; 1.0 is linear growth.
    """
    by_contestant: dict[str, dict[int, Values]] = {}
    for row in rows:
        if "size" in row and "median" in row:
            by_contestant.setdefault(row["contestant"], {})[row["size"]] = row["median"]
    exponents: dict[str, Values] = {}
    for contestant, medians in by_contestant.items():
        if len(medians) < 3:
            continue
        sizes = [math.log(size) for size in medians]
        metrics = [name for name in next(iter(medians.values()))]
        exponents[contestant] = {
            metric: linear_regression(sizes, [math.log(m[metric]) for m in medians.values()]).slope
            for metric in metrics
            if all(m[metric] > 0 for m in medians.values())
        }
    return exponents


def _describe(labels: Mapping[str, Any]) -> str:
    return "".join(f", {name} {value}" for name, value in labels.items() if name == "size")


def _rounded(value: Any) -> Any:
    """Keep four significant digits: more is noise."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else value
