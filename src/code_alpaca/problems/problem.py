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
    """

    task_id: str  # unique within its benchmark, and recorded with every sample
    prompt: str  # what a base model continues: imports, signature and docstring
    entry_point: str  # the function that the tests call
    canonical_solution: str  # "" if there is no reference solution
    test: str
    instruction: str = ""  # the problem as an instruction; "" to use the prompt
    language: str = "python"  # a name in `core.languages`
    stops: tuple[str, ...] = ()  # strings that end a completion, in languages other than Python


class Benchmark(Protocol):
    """A set of problems; to add one, add a row to `registry.BENCHMARKS`."""

    def load(self, *, all_splits: bool = False) -> Iterable[Problem]:
        """Return the problems of the test split, or of all splits.

        Raises:
            InputError: the problems cannot be read, downloaded or parsed.
        """

    def describe(self) -> dict[str, str]:
        """Return where the problems come from, as results.json records it beside the name."""
