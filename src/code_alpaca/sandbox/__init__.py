"""Run a program that nobody trusts, and tell how it ended."""

from code_alpaca.sandbox.rlimit import BACKEND, Result, run

__all__ = ["BACKEND", "Result", "run"]
