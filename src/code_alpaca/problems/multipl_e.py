"""HumanEval translated into other languages by MultiPL-E (Cassano et al. 2022,
https://arxiv.org/abs/2208.08227).
"""

from __future__ import annotations

from typing import Any

from code_alpaca.core import languages
from code_alpaca.problems.hub import HubBenchmark
from code_alpaca.problems.problem import Problem

KEYS = ("name", "language", "prompt", "tests")
DATASET, REVISION = "nuprl/MultiPL-E", "28441b6024e71d4a1c1c0f6bf171c935cd5a43f2"


def matches(record: dict[str, Any]) -> bool:
    """Return whether a record has MultiPL-E's form."""
    return all(isinstance(record.get(key), str) for key in KEYS)


def parse(record: dict[str, Any], where: str) -> Problem:
    """Return the problem of a record: its tests follow the program and call the function.

    MultiPL-E has no reference solutions.
    """
    return Problem(
        task_id=record["name"],
        prompt=record["prompt"],
        entry_point=record["name"].split("_", 2)[-1],
        canonical_solution="",
        test=record["tests"],
        language=languages.canonical(record["language"]),
        stops=tuple(record.get("stop_tokens") or ()),
    )


JAVASCRIPT = HubBenchmark(DATASET, "humaneval-js", REVISION, parse)
SHELL = HubBenchmark(DATASET, "humaneval-sh", REVISION, parse)
