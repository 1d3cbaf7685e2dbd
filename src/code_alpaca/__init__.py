"""Code Alpaca: from a handful of code tasks to a released, evaluated code model."""

from code_alpaca.inference import generate

__all__ = ["generate"]
__version__ = "0.1.0"
