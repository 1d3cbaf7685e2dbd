"""What a strategy may look at, and what it answers: the shape that all of them share."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import jinja2

from code_alpaca.core.schema import Example, SeedTask

TASK_KEYS = ("instruction", "input", "output", "language", "tests")


@dataclass(frozen=True, slots=True)
class View:
    """All that the prompt of one request may depend on.

    `pool` holds the rows accepted from requests far enough back, `wish` the language, task type
    and difficulty that the quotas ask for now (empty where there are none).
    """

    rng: random.Random
    seed_tasks: Sequence[SeedTask]
    pool: Sequence[Example]
    count: int
    seeds_per_request: int
    pool_per_request: int
    numbered: bool = False
    snippets: Sequence[str] = ()
    wish: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt, the ids of the tasks that it shows, and the words that a reply continues."""

    prompt: str
    seed_ids: list[str]
    prefix: str = ""


def render(name: str, **values: Any) -> str:
    """One of the templates in `generation/prompts/`, filled."""
    return _template(name).render(**values)


@cache
def version(*names: str) -> str:
    """Eight hex digits over templates: rows say which prompt asked for them."""
    text = "\0".join(_source(name) for name in names)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def fields_of(task: SeedTask | Example) -> dict[str, str]:
    """The part of a task that a prompt shows."""
    return {key: getattr(task, key) for key in TASK_KEYS}


def _source(name: str) -> str:
    folder = resources.files("code_alpaca").joinpath("generation/prompts")
    return folder.joinpath(f"{name}.jinja").read_text("utf-8")


@cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        loader=jinja2.FunctionLoader(_source),
    )
    # jinja's own tojson escapes < > & ' for HTML; a teacher should see code as it is.
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.get_template(name)
