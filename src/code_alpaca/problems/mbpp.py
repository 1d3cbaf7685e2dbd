"""Convert MBPP (Austin et al. 2021, https://arxiv.org/abs/2108.07732) to HumanEval's form."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import Any

from code_alpaca.core.errors import InputError
from code_alpaca.problems.problem import Problem

KEYS = ("task_id", "code", "test_list")
TEST_SPLIT = range(11, 511)  # task ids of the paper's test split


def parse(record: Mapping[str, Any], where: str) -> Problem:
    """Return the problem of a record, with its assertions as a `check(candidate)`.

    MBPP's assertions call the function by name, so `check` first binds the candidate to it.

    Raises:
        InputError: the code or the tests do not parse, or the tests call nothing that it defines.
    """
    try:
        text = record.get("text") or record["prompt"]
        code = record["code"].replace("\r\n", "\n")
        asserts = [line.replace("\r\n", "\n") for line in record["test_list"]]
        setup = [*(record.get("test_imports") or []), record.get("test_setup_code") or ""]
        # EvalPlus adds its thousands of cases as `test` and keeps MBPP's three in `test_list`.
        tests = record.get("test") or "\n".join([*setup, *asserts]).replace("\r\n", "\n")
        entry_point = find_entry_point(code, asserts)
        body = ast.parse(tests).body
    except (KeyError, TypeError, AttributeError, ValueError, SyntaxError) as error:
        raise InputError(
            f"{where} is not in MBPP's form ({type(error).__name__}: {error}); correct or delete it"
        ) from None
    (check,) = ast.parse(f"def check(candidate):\n    {entry_point} = candidate").body
    assert isinstance(check, ast.FunctionDef)
    check.body += body
    examples = "\n".join(asserts)
    return Problem(
        task_id=f"MBPP/{record['task_id']}",
        prompt=f'"""\n{text}\n{examples}\n"""\n',
        entry_point=entry_point,
        canonical_solution=code,
        test=ast.unparse(check),
        instruction=f"{text}\nThe function is called `{entry_point}` and has to pass:\n{examples}",
    )


def find_entry_point(code: str, asserts: Iterable[str]) -> str:
    """Return the first function that the tests call and `code` defines.

    Raises:
        ValueError: there is none.
    """
    defined = {node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)}
    for line in asserts:
        for node in ast.walk(ast.parse(line)):
            if isinstance(node, ast.Name) and node.id in defined:
                return node.id
    raise ValueError("its tests call no function that its code defines")


def in_test_split(record: Mapping[str, Any]) -> bool:
    """Return whether a record is in MBPP's test split; true for records of other benchmarks."""
    task_id = record.get("task_id")
    return not isinstance(task_id, int) or task_id in TEST_SPLIT
