"""Load a benchmark from a JSONL file, or from a function in a user's Python file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from code_alpaca.core import jsonl
from code_alpaca.core.errors import InputError
from code_alpaca.core.fs import file_sha256
from code_alpaca.core.plugins import describe_error, load_plugin
from code_alpaca.problems.formats import Parser, parse_record, parse_records
from code_alpaca.problems.problem import Problem, check_problem, type_name

EXPECTED = "a list of Problem objects or of dicts in HumanEval's format"


@dataclass(frozen=True, slots=True)
class FileBenchmark:
    """A .jsonl[.gz] file of records in any of the known formats, or in that of `parse`."""

    path: Path
    parse: Parser = parse_record

    def load(self, *, all_splits: bool = False) -> list[Problem]:
        """Return the problems in the file; for MBPP only those of the test split."""
        lines = jsonl.read(self.path, kind="benchmark")
        records = ((f"benchmark {self.path}, line {line.number}", line.record) for line in lines)
        return parse_records(records, self.parse, all_splits=all_splits)

    def describe(self) -> dict[str, str]:
        """Return the SHA-256 of the file."""
        return {"sha256": file_sha256(self.path)}


@dataclass(frozen=True, slots=True)
class FunctionBenchmark:
    """A function in a user's file, named FILE.py:NAME, that returns problems or records."""

    reference: str

    def load(self, *, all_splits: bool = False) -> list[Problem]:
        """Call the function and return its problems."""
        where = f"benchmark {self.reference}"
        function = load_plugin(self.reference, kind="benchmark").value
        if not callable(function):
            raise InputError(f"{where} is not a function; define one that returns {EXPECTED}")
        try:
            returned = function()
            is_iterable = isinstance(returned, Iterable) and not isinstance(returned, str | Mapping)
            items = list(returned) if is_iterable else None
        except Exception as error:
            reason = describe_error(error, Path(self.reference.rpartition(":")[0]))
            raise InputError(f"{where} failed: {reason}; correct the function") from None
        if items is None:
            raise InputError(f"{where} returned {type_name(returned)}; return {EXPECTED}")
        return [_as_problem(item, f"{where}, item {n}") for n, item in enumerate(items, 1)]

    def describe(self) -> dict[str, str]:
        """Return the SHA-256 over the user's file and the files next to it that it imports."""
        return {"sha256": load_plugin(self.reference, kind="benchmark").sha256}


def _as_problem(item: object, where: str) -> Problem:
    if isinstance(item, Mapping):
        item = parse_record(item, where)
    if not isinstance(item, Problem):
        raise InputError(f"{where} is {type_name(item)}; return {EXPECTED}")
    return check_problem(item, where)
