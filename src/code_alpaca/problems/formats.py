"""Convert the records of HumanEval, MultiPL-E and MBPP to problems.

To add a format, write `parse(record, where) -> Problem`, and pass it in the benchmark's registry
row: `HubBenchmark(..., parse=parse)` or `FileBenchmark(..., parse=parse)`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from code_alpaca.core.errors import InputError, error_message
from code_alpaca.problems.problem import Problem, check_problem, type_name

Parser = Callable[[Mapping[str, Any], str], Problem]  # of a record and its place, for errors
HUMANEVAL_KEYS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
OPTIONAL_KEYS = ("instruction", "language")
MULTIPL_E_KEYS = ("name", "language", "prompt", "tests")
MBPP_KEYS = ("task_id", "code", "test_list")
MBPP_TEST_SPLIT = range(11, 511)  # task ids of the paper's test split


def parse_record(record: Mapping[str, Any], where: str) -> Problem:
    """Return the problem of a record in any of the three formats.

    Raises:
        InputError: it has another format.
    """
    if all(key in record for key in MBPP_KEYS):
        return _parse_mbpp(record, where)
    if all(isinstance(record.get(key), str) for key in MULTIPL_E_KEYS):
        return _parse_multipl_e(record)
    missing = [key for key in HUMANEVAL_KEYS if key not in record]
    if not missing:
        optional = {key: record[key] for key in OPTIONAL_KEYS if record.get(key) is not None}
        return Problem(**{key: record[key] for key in HUMANEVAL_KEYS}, **optional)
    raise InputError(
        f"{where} is neither in HumanEval's format (without {', '.join(missing)}) nor in MBPP's "
        f"({', '.join(MBPP_KEYS)}) nor in MultiPL-E's ({', '.join(MULTIPL_E_KEYS)}); correct or "
        "delete it"
    )


def parse_records(
    records: Iterable[tuple[str, Mapping[str, Any]]], parse: Parser, *, all_splits: bool
) -> list[Problem]:
    """Return the problems of records with their places; for MBPP only those of the test split."""
    parsed = [(record, _parse(parse, record, where)) for where, record in records]
    in_split = [problem for record, problem in parsed if all_splits or _in_test_split(record)]
    return in_split or [problem for _, problem in parsed]


def _parse(parse: Parser, record: Mapping[str, Any], where: str) -> Problem:
    name = getattr(parse, "__name__", "parse")
    try:
        problem = parse(record, where)
    except InputError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error_message(error)}"
        raise InputError(f"{where}: {name} failed ({reason}); correct it or the record") from error
    if not isinstance(problem, Problem):
        raise InputError(f"{where}: {name} returned {type_name(problem)}; return a Problem")
    return check_problem(problem, where)


def _parse_multipl_e(record: Mapping[str, Any]) -> Problem:
    """Parse MultiPL-E's format: the tests follow the program; there is no reference solution."""
    return Problem(
        task_id=record["name"],
        prompt=record["prompt"],
        entry_point=record["name"].split("_", 2)[-1],
        canonical_solution="",
        test=record["tests"],
        language=record["language"],
        stops=record.get("stop_tokens") or (),
    )


def _parse_mbpp(record: Mapping[str, Any], where: str) -> Problem:
    """Parse MBPP's format (Austin et al. 2021, https://arxiv.org/abs/2108.07732).

    Its assertions call the function by name, so `check` first binds the candidate to that name.
    """
    try:
        text = record.get("text") or record["prompt"]
        code = record["code"].replace("\r\n", "\n")
        asserts = [line.replace("\r\n", "\n") for line in record["test_list"]]
        setup = [*(record.get("test_imports") or []), record.get("test_setup_code") or ""]
        # EvalPlus adds its thousands of cases as `test` and keeps MBPP's three in `test_list`.
        tests = record.get("test") or "\n".join([*setup, *asserts]).replace("\r\n", "\n")
        entry_point = _find_entry_point(code, asserts)
        body = ast.parse(tests).body
    except (KeyError, TypeError, AttributeError, ValueError, SyntaxError) as error:
        raise InputError(
            f"{where} is not in MBPP's format ({type(error).__name__}: {error}); correct or "
            "delete it"
        ) from None
    examples = "\n".join(asserts)
    return Problem(
        task_id=f"MBPP/{record['task_id']}",
        prompt=f'"""\n{text}\n{examples}\n"""\n',
        entry_point=entry_point,
        canonical_solution=code,
        test=wrap_assertions(entry_point, body),
        instruction=f"{text}\nThe function is called `{entry_point}` and has to pass:\n{examples}",
    )


def wrap_assertions(entry_point: str, assertions: list[ast.stmt]) -> str:
    """Return a function `check` that binds its candidate to a name, and runs assertions on it."""
    check = ast.parse(f"def check(candidate):\n    {entry_point} = candidate")
    check.body[0].body += assertions
    return ast.unparse(check)


def _find_entry_point(code: str, asserts: Iterable[str]) -> str:
    """Return the first function that the tests call and `code` defines."""
    defined = {node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)}
    for line in asserts:
        for node in ast.walk(ast.parse(line)):
            if isinstance(node, ast.Name) and node.id in defined:
                return node.id
    raise ValueError("its tests call no function that its code defines")


def _in_test_split(record: Mapping[str, Any]) -> bool:
    """Return whether a record is in MBPP's test split; true for records of other benchmarks."""
    task_id = record.get("task_id")
    return not isinstance(task_id, int) or task_id in MBPP_TEST_SPLIT
