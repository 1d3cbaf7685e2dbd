"""Find a benchmark by its name, file or function, and load its problems."""

from __future__ import annotations

from pathlib import Path

from code_alpaca.core.errors import InputError
from code_alpaca.core.plugins import is_plugin
from code_alpaca.problems import humaneval, mbpp, multipl_e
from code_alpaca.problems.files import FileBenchmark, FunctionBenchmark, ShippedBenchmark
from code_alpaca.problems.hub import HubBenchmark
from code_alpaca.problems.problem import Benchmark, Problem

BENCHMARKS: dict[str, Benchmark] = {
    "mini": ShippedBenchmark("data/mini_benchmark.jsonl"),
    "humaneval": humaneval.HUMANEVAL,
    "humaneval_plus": humaneval.HUMANEVAL_PLUS,
    "mbpp": mbpp.MBPP,
    "mbpp_sanitized": mbpp.MBPP_SANITIZED,
    "mbpp_plus": mbpp.MBPP_PLUS,
    "humaneval_javascript": multipl_e.JAVASCRIPT,
    "humaneval_shell": multipl_e.SHELL,
}


def load_problems(name: str, *, all_splits: bool = False) -> list[Problem]:
    """Return the problems of a benchmark.

    Args:
        name: one of BENCHMARKS; or a .jsonl[.gz] file in the form of HumanEval, MBPP or
            MultiPL-E; or FILE.py:NAME, a function that returns problems. A benchmark on the Hub
            may have a revision (`humaneval@main`), which replaces the pinned commit.
        all_splits: also return problems outside the test split, which training data must not
            contain either: EvalPlus and the sanitized MBPP take theirs from every split.

    Raises:
        InputError: there is no such benchmark, it cannot be read or fetched, or a record is of
            another form.
    """
    benchmark, revision = _find(name)
    problems = list(benchmark.load(revision, all_splits=all_splits))
    if not problems:
        raise InputError(f"benchmark {name} contains no problem")
    task_ids: set[str] = set()
    for problem in problems:
        if problem.task_id in task_ids:
            raise InputError(
                f"benchmark {name} contains task_id {problem.task_id!r} twice; results are "
                "recorded by task_id, so make it unique"
            )
        task_ids.add(problem.task_id)
    return problems


def describe_benchmark(name: str) -> dict[str, str]:
    """Return where a benchmark comes from, for results.json: its name, and dataset or SHA-256."""
    benchmark, revision = _find(name)
    name = name.partition("@")[0] if is_on_hub(name) else name
    return {"name": name, **benchmark.describe(revision)}


def is_on_hub(name: str) -> bool:
    """Return whether a benchmark is fetched from the Hub."""
    return isinstance(BENCHMARKS.get(name.partition("@")[0]), HubBenchmark)


def _find(name: str) -> tuple[Benchmark, str]:
    """Return a benchmark and the revision in its name."""
    if is_plugin(name):
        return FunctionBenchmark(name), ""
    if is_on_hub(name):
        short, _, revision = name.partition("@")
        return BENCHMARKS[short], revision
    if name in BENCHMARKS:
        return BENCHMARKS[name], ""
    if not Path(name).exists():
        raise InputError(
            f"no benchmark {name!r}; give one of {', '.join(BENCHMARKS)}, a .jsonl[.gz] file, or "
            "FILE.py:FUNCTION"
        )
    return FileBenchmark(Path(name)), ""
