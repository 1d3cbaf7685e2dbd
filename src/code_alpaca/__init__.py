"""Code Alpaca: from a handful of code tasks to a released, evaluated code model."""

from typing import Any

__all__ = ["respond"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import `respond` on first use: the sandbox imports this package without its dependencies."""
    if name not in ("respond", "generate"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from code_alpaca.evaluation.inference import respond

    if name == "generate":
        import warnings

        message = "code_alpaca.generate was renamed: use code_alpaca.respond"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
    return respond
