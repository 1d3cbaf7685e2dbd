"""Load a benchmark from a JSONL file, or from a function in the user's Python file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from code_alpaca.core import jsonl
from code_alpaca.core.errors import InputError
from code_alpaca.core.plugins import describe_error, load_plugin
from code_alpaca.problems import humaneval, mbpp, multipl_e
from code_alpaca.problems.hub import select_test_split
from code_alpaca.problems.problem import Problem

FORMATS = {"MBPP": mbpp, "MultiPL-E": multipl_e, "HumanEval": humaneval}


def parse_record(record: Mapping[str, Any], where: str) -> Problem:
    """Return the problem of a record in any of FORMATS.

    Raises:
        InputError: it has another form.
    """
    for form in FORMATS.values():
        if form.matches(record):
            return form.parse(record, where)
    missing = [key for key in humaneval.KEYS if not isinstance(record.get(key), str)]
    others = " nor ".join(
        f"in {name}'s ({', '.join(form.KEYS)})"
        for name, form in FORMATS.items()
        if form is not humaneval
    )
    raise InputError(
        f"{where} is neither in HumanEval's form (without {', '.join(missing)}) nor {others}; "
        "correct or delete it"
    )


@dataclass(frozen=True, slots=True)
class FileBenchmark:
    """A .jsonl[.gz] file of records in any of FORMATS."""

    path: Path

    def load(self, revision: str = "", *, all_splits: bool = False) -> list[Problem]:
        """Return the problems; of MBPP's whole file those of the test split.

        Raises:
            InputError: the file cannot be read, or a line has another form.
        """
        return _parse_lines(
            jsonl.read(self.path, kind="benchmark"), f"benchmark {self.path}", all_splits
        )

    def describe(self, revision: str = "") -> dict[str, str]:
        return {}


@dataclass(frozen=True, slots=True)
class ShippedBenchmark:
    """A JSONL file within this package."""

    path: str

    def load(self, revision: str = "", *, all_splits: bool = False) -> list[Problem]:
        text = resources.files("code_alpaca").joinpath(self.path).read_text("utf-8")
        return _parse_lines(jsonl.parse(text, self.path), f"benchmark {self.path}", all_splits)

    def describe(self, revision: str = "") -> dict[str, str]:
        return {}


@dataclass(frozen=True, slots=True)
class FunctionBenchmark:
    """A function in a user's file that returns problems, or dicts in any of FORMATS."""

    reference: str  # FILE.py:NAME

    def load(self, revision: str = "", *, all_splits: bool = False) -> list[Problem]:
        """Return what the function returns, as problems.

        Raises:
            InputError: the file or function is missing, raises, or returns something else.
        """
        where = f"benchmark {self.reference}"
        function = load_plugin(self.reference, kind="benchmark").value
        expected = "an iterable of Problem objects or of dicts in HumanEval's form"
        if not callable(function):
            raise InputError(f"{where} is not a function; define one that returns {expected}")
        try:
            returned = function()
            is_iterable = isinstance(returned, Iterable) and not isinstance(returned, str | Mapping)
            items = list(returned) if is_iterable else None
        except Exception as error:
            path = Path(self.reference.rpartition(":")[0])
            raise InputError(
                f"{where} failed: {describe_error(error, path)}; correct the function"
            ) from None
        if items is None:
            raise InputError(f"{where} returned {type(returned).__name__}; return {expected}")
        problems = []
        for number, item in enumerate(items, 1):
            if isinstance(item, Mapping):
                item = parse_record(item, f"{where}, item {number}")
            elif not isinstance(item, Problem):
                raise InputError(
                    f"{where}, item {number} is {type(item).__name__}; return {expected}"
                )
            problems.append(item)
        return problems

    def describe(self, revision: str = "") -> dict[str, str]:
        """Return the SHA-256 of the user's file."""
        return {"sha256": load_plugin(self.reference, kind="benchmark").sha256}


def _parse_lines(lines: Iterable[jsonl.Line], where: str, all_splits: bool) -> list[Problem]:
    problems = [
        (line.record, parse_record(line.record, f"{where}, line {line.number}")) for line in lines
    ]
    return select_test_split(problems, mbpp.in_test_split, all_splits=all_splits)
