"""HumanEval (Chen et al. 2021, https://arxiv.org/abs/2107.03374), and with EvalPlus's larger tests
(Liu et al. 2023, https://arxiv.org/abs/2305.01210).
"""

from __future__ import annotations

from typing import Any

from code_alpaca.core import languages
from code_alpaca.problems.hub import HubBenchmark
from code_alpaca.problems.problem import Problem

KEYS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")


def matches(record: dict[str, Any]) -> bool:
    """Return whether a record has HumanEval's form."""
    return all(isinstance(record.get(key), str) for key in KEYS)


def parse(record: dict[str, Any], where: str) -> Problem:
    """Return the problem of a record, which may also have an `instruction` and a `language`."""
    optional = {key: record[key] for key in ("instruction",) if isinstance(record.get(key), str)}
    if isinstance(record.get("language"), str):
        optional["language"] = languages.canonical(record["language"])
    return Problem(**{key: record[key] for key in KEYS}, **optional)


HUMANEVAL = HubBenchmark(
    dataset="openai/openai_humaneval",
    config="openai_humaneval",
    revision="7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544",
    parse=parse,
)
HUMANEVAL_PLUS = HubBenchmark(
    dataset="evalplus/humanevalplus",
    config="default",
    revision="d32357cf319e50e9c8d8dab5ea876c72b0fd321b",
    parse=parse,
)
