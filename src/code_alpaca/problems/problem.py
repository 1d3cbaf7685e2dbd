"""The one form of a benchmark problem, and the protocol of a benchmark."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem in HumanEval's form (Chen et al. 2021, https://arxiv.org/abs/2107.03374).

    `prompt + canonical_solution` defines `entry_point`; `test` defines `check(candidate)`, which
    raises AssertionError for a wrong function.

    Attributes:
        task_id: unique within its benchmark, and recorded with every sample.
        prompt: what a base model continues: imports, signature and docstring.
        entry_point: the function that the tests call.
        canonical_solution: the reference; "" where there is none.
        test: source of the tests.
        instruction: the problem in the words of an instruction; "" to use the prompt.
        language: by its name in `core.languages`.
        stops: strings that end a completion, in languages other than Python.
    """

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test: str
    instruction: str = ""
    language: str = "python"
    stops: tuple[str, ...] = ()


class Benchmark(Protocol):
    """A set of problems; to add one, add a row to `registry.BENCHMARKS`."""

    def load(self, revision: str = "", *, all_splits: bool = False) -> Iterable[Problem]:
        """Return the problems of the test split, or of all splits.

        Args:
            revision: branch, tag or commit that replaces the pinned one.
        """

    def describe(self, revision: str = "") -> dict[str, str]:
        """Return where the problems come from, as results.json records it beside the name."""
