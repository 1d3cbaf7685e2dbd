"""Read the size of a model in its name."""

from __future__ import annotations

import re

SMALL_MODEL = 4e9  # parameters; below it, a model follows a prompt for one task best
MIN_SIZE = 1e7  # less is the context length of a model for 1M tokens
# As in `Qwen2.5-Coder-1.5B`, `smollm2-135m-instruct` or `gemma-3-4b-it`; not the 8 of `8x7b`, nor
# the active parameters of `30b-a3b`.
SIZE = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", re.IGNORECASE)
UNITS = {"b": 1e9, "m": 1e6}


def is_small_model(name: str) -> bool:
    """Return whether a model has, by its name, fewer than four billion parameters."""
    sizes = [float(number) * UNITS[unit.lower()] for number, unit in SIZE.findall(name)]
    sizes = [size for size in sizes if size >= MIN_SIZE]
    return bool(sizes) and max(sizes) < SMALL_MODEL
