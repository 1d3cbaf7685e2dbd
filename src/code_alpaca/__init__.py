"""Code Alpaca: from a handful of code tasks to a released, evaluated code model."""

from typing import Any

__all__ = ["generate"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`generate`, imported when it is first asked for: the sandbox runs on this file alone."""
    if name != "generate":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from code_alpaca.evaluation.inference import generate

    return generate
