"""Code Alpaca: from a handful of code tasks to a released, evaluated code model."""

__version__ = "0.1.0"
