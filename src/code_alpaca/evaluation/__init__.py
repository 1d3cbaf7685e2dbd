"""Evaluate models on code benchmarks: completions, sandboxed grading, pass@k and comparison."""
