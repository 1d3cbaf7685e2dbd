"""Benchmark problems in one format, for evaluation and for decontamination."""

from code_alpaca.problems.problem import Problem
from code_alpaca.problems.registry import (
    BENCHMARKS,
    describe_benchmark,
    find_file,
    is_on_hub,
    load_problems,
)

__all__ = [
    "BENCHMARKS",
    "Problem",
    "describe_benchmark",
    "find_file",
    "is_on_hub",
    "load_problems",
]
