"""The one format of a benchmark problem, its checks, and the protocol of a benchmark."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Protocol

from code_alpaca.core import languages
from code_alpaca.core.errors import InputError, did_you_mean


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem in HumanEval's format (Chen et al. 2021, https://arxiv.org/abs/2107.03374).

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


# Languages of MultiPL-E without a row in `core.languages`: Ada, D, Dafny, Luau, Racket, Coq.
OTHER_LANGUAGES = ("adb", "d", "dfy", "luau", "rkt", "v")
# Fields that must not be blank -> what to give.
NOT_BLANK = {
    "task_id": "a name that is unique in the benchmark",
    "entry_point": "the name of the function that the tests call",
    "test": "the tests",
}


def check_problem(problem: Problem, where: str) -> Problem:
    """Check the type and value of every field, and return it with the name of its language.

    Args:
        where: the place of the problem, for errors.

    Raises:
        InputError: a field cannot be used.
    """
    for field in fields(Problem):
        value, action = getattr(problem, field.name), ""
        if field.name == "stops":
            is_list = isinstance(value, list | tuple)
            if not (is_list and all(isinstance(stop, str) and stop for stop in value)):
                action = r'give a list of strings, such as ["\n}"]'
        elif not isinstance(value, str):
            action = "give a string"
        elif not value.strip() and field.name in NOT_BLANK:
            action = f"give {NOT_BLANK[field.name]}"
        if action:
            shown = repr(value) if isinstance(value, str) else type_name(value)
            raise InputError(f"{where}: {field.name} is {shown}; {action}")
    if not (problem.prompt + problem.instruction).strip():
        raise InputError(f"{where}: prompt is ''; give the start of the program, or an instruction")
    language = languages.canonical(problem.language)
    if languages.find(language) is None and language not in OTHER_LANGUAGES:
        known = sorted(language.name for language in languages.TABLE if language.is_code)
        advice = f"{did_you_mean(language, known, '')} give one of {', '.join(known)}".strip()
        raise InputError(f"{where}: language {problem.language!r} is unknown; {advice}")
    if language == "python" and "check" not in problem.prompt + problem.test:
        raise InputError(f"{where}: test does not define check; give `def check(candidate): ...`")
    return replace(problem, language=language, stops=tuple(problem.stops))


def type_name(value: object) -> str:
    """Return the name of a value's type, and None for None."""
    return "None" if value is None else type(value).__name__


class Benchmark(Protocol):
    """A set of problems; to add one, add a row to `registry.BENCHMARKS`."""

    def load(self, *, all_splits: bool = False) -> Iterable[Problem]:
        """Return the problems of the test split, or of all splits.

        Raises:
            InputError: the problems cannot be read, downloaded or parsed.
        """

    def describe(self) -> dict[str, str]:
        """Return where the problems come from, as results.json records it beside the name."""
