"""A context for the prompts of one request."""

from __future__ import annotations

import random
from typing import Any

from code_alpaca.core.schema import Example, load_seed_tasks
from code_alpaca.generation.strategies import PromptContext
from code_alpaca.generation.templates import PromptTemplates

POOL = [
    Example(f"Write pool task {n} about <tags> & 'quotes'.", "", f"answer {n}", id=f"pool{n}")
    for n in range(9)
]


def prompt_context(number: int = 0, **changes: Any) -> PromptContext:
    """Return the context of request `number`, with some of its fields changed."""
    fields = {
        "rng": random.Random(number),
        "seed_tasks": load_seed_tasks(),
        "pool": POOL,
        "num_tasks": 5,
        "seeds_per_request": 6,
        "pool_per_request": 2,
        "templates": PromptTemplates(),
    }
    return PromptContext(**{**fields, **changes})
