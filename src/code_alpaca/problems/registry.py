"""Find a benchmark by its name, file or function, and load its problems."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from code_alpaca.core.errors import InputError, did_you_mean
from code_alpaca.core.plugins import is_plugin
from code_alpaca.problems.files import FileBenchmark, FunctionBenchmark
from code_alpaca.problems.hub import HubBenchmark
from code_alpaca.problems.problem import Benchmark, Problem

MBPP = ("google-research-datasets/mbpp", "4bb6404fdc6cacfda99d4ac4205087b89d32030c")
MULTIPL_E = ("nuprl/MultiPL-E", "28441b6024e71d4a1c1c0f6bf171c935cd5a43f2")
BENCHMARKS: dict[str, Benchmark] = {
    "mini": FileBenchmark(Path(__file__).parents[1] / "data/mini_benchmark.jsonl"),
    # Chen et al. 2021, https://arxiv.org/abs/2107.03374
    "humaneval": HubBenchmark(
        "openai/openai_humaneval", "openai_humaneval", "7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544"
    ),
    # EvalPlus: larger tests (Liu et al. 2023, https://arxiv.org/abs/2305.01210)
    "humaneval_plus": HubBenchmark(
        "evalplus/humanevalplus", "default", "d32357cf319e50e9c8d8dab5ea876c72b0fd321b"
    ),
    # Austin et al. 2021, https://arxiv.org/abs/2108.07732
    "mbpp": HubBenchmark(MBPP[0], "full", MBPP[1]),
    "mbpp_sanitized": HubBenchmark(MBPP[0], "sanitized", MBPP[1]),
    "mbpp_plus": HubBenchmark(
        "evalplus/mbppplus", "default", "b2d74c91837c3f2a20c1299ae98133cbe7cfa077"
    ),
    # HumanEval in other languages: MultiPL-E (Cassano et al. 2022, https://arxiv.org/abs/2208.08227)
    "humaneval_javascript": HubBenchmark(MULTIPL_E[0], "humaneval-js", MULTIPL_E[1]),
    "humaneval_shell": HubBenchmark(MULTIPL_E[0], "humaneval-sh", MULTIPL_E[1]),
}


def load_problems(name: str, *, all_splits: bool = False) -> list[Problem]:
    """Return the problems of a benchmark.

    Args:
        name: one of BENCHMARKS; or a .jsonl[.gz] file in the format of HumanEval, MBPP or
            MultiPL-E; or FILE.py:NAME, a function that returns problems. A benchmark on the Hub
            may have a revision (`humaneval@main`), which replaces the pinned commit.
        all_splits: also return problems outside the test split, which training data must not
            contain either: EvalPlus and the sanitized MBPP take theirs from every split.

    Raises:
        InputError: there is no such benchmark, or it cannot be read, downloaded or parsed.
    """
    loaded = _find(name).load(all_splits=all_splits)
    if loaded is None:
        raise InputError(f"benchmark {name} returned None; return a list of problems")
    problems = list(loaded)
    if not problems:
        raise InputError(f"benchmark {name} contains no problem")
    ((task_id, count),) = Counter(problem.task_id for problem in problems).most_common(1)
    if count > 1:
        raise InputError(
            f"benchmark {name} contains task_id {task_id!r} {count} times; make it unique, since "
            "results are recorded by task_id"
        )
    return problems


def describe_benchmark(name: str) -> dict[str, str]:
    """Return where a benchmark comes from, for results.json: its name, and dataset or SHA-256."""
    short = name.partition("@")[0] if is_on_hub(name) else name
    return {"name": short, **_find(name).describe()}


def find_file(name: str) -> Path | None:
    """Return the JSONL file of a benchmark; None if it is a function or on the Hub."""
    benchmark = _find(name)
    return benchmark.path if isinstance(benchmark, FileBenchmark) else None


def is_on_hub(name: str) -> bool:
    """Return whether a benchmark is downloaded from the Hub."""
    return isinstance(BENCHMARKS.get(name.partition("@")[0]), HubBenchmark)


def _find(name: str) -> Benchmark:
    if is_plugin(name):  # which refuses FILE.py without :NAME
        return FunctionBenchmark(name)
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    short, _, revision = name.partition("@")
    if isinstance(benchmark := BENCHMARKS.get(short), HubBenchmark):
        return replace(benchmark, revision=revision or benchmark.revision)
    if Path(name).exists():
        return FileBenchmark(Path(name))
    choices = f"give one of {', '.join(BENCHMARKS)}, a .jsonl[.gz] file, or FILE.py:FUNCTION"
    raise InputError(f"no benchmark {name!r}; {did_you_mean(short, BENCHMARKS, choices)}")
