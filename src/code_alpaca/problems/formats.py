"""Convert the records of HumanEval, MultiPL-E and MBPP to problems.

To add a format, write a `parse` function like these and name it in the benchmark's registry row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from code_alpaca.core import languages
from code_alpaca.core.errors import InputError
from code_alpaca.problems import mbpp
from code_alpaca.problems.problem import Problem

Parser = Callable[[Mapping[str, Any], str], Problem]  # of a record and its place, for errors
HUMANEVAL_KEYS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
MULTIPL_E_KEYS = ("name", "language", "prompt", "tests")


def parse_record(record: Mapping[str, Any], where: str) -> Problem:
    """Return the problem of a record in any of the three formats.

    Raises:
        InputError: it has another format.
    """
    if all(key in record for key in mbpp.KEYS):
        return mbpp.parse(record, where)
    if all(isinstance(record.get(key), str) for key in MULTIPL_E_KEYS):
        return _parse_multipl_e(record)
    missing = [key for key in HUMANEVAL_KEYS if not isinstance(record.get(key), str)]
    if not missing:
        return _parse_humaneval(record)
    raise InputError(
        f"{where} is neither in HumanEval's form (without {', '.join(missing)}) nor in MBPP's "
        f"({', '.join(mbpp.KEYS)}) nor in MultiPL-E's ({', '.join(MULTIPL_E_KEYS)}); correct or "
        "delete it"
    )


def parse_records(
    records: Iterable[tuple[str, Mapping[str, Any]]], parse: Parser, *, all_splits: bool
) -> list[Problem]:
    """Return the problems of records with their places; of MBPP those of its test split."""
    parsed = [(record, parse(record, where)) for where, record in records]
    in_split = [problem for record, problem in parsed if all_splits or mbpp.in_test_split(record)]
    return in_split or [problem for _, problem in parsed]


def _parse_humaneval(record: Mapping[str, Any]) -> Problem:
    """Parse HumanEval's form, which may also have an `instruction` and a `language`."""
    optional = {key: record.get(key) for key in ("instruction", "language")}
    optional = {key: value for key, value in optional.items() if isinstance(value, str)}
    if "language" in optional:
        optional["language"] = languages.canonical(optional["language"])
    return Problem(**{key: record[key] for key in HUMANEVAL_KEYS}, **optional)


def _parse_multipl_e(record: Mapping[str, Any]) -> Problem:
    """Parse MultiPL-E's form: tests follow the program and call the function; no reference."""
    return Problem(
        task_id=record["name"],
        prompt=record["prompt"],
        entry_point=record["name"].split("_", 2)[-1],
        canonical_solution="",
        test=record["tests"],
        language=languages.canonical(record["language"]),
        stops=tuple(record.get("stop_tokens") or ()),
    )
