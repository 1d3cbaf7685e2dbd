"""The self-instruct strategy: show the teacher a few tasks, ask it for new ones.

After Wang et al. 2022 (https://arxiv.org/abs/2212.10560): each prompt mixes human seed tasks
with tasks that the teacher itself wrote earlier in this run.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import jinja2

from code_alpaca.schema import Example, SeedTask

TASK_KEYS = ("instruction", "input", "output", "language", "tests")


@dataclass(frozen=True, slots=True)
class Request:
    """One question to the teacher: the body to send, and the ids of the tasks that it shows."""

    payload: dict[str, Any]
    seed_ids: list[str]


def build_request(
    number: int,
    *,
    seed: int,
    seed_tasks: Sequence[SeedTask],
    pool: Sequence[Example],
    seeds_per_request: int,
    pool_per_request: int,
    tasks_per_request: int,
    settings: dict[str, Any],
) -> Request:
    """Request `number`, a pure function of its arguments.

    Args:
        pool: rows accepted so far that this request may show.
        settings: what goes into the body beside the messages: model, temperature, ...
    """
    rng = random.Random(f"{seed}/{number}")
    shown: list[SeedTask | Example] = [
        *rng.sample(seed_tasks, min(seeds_per_request, len(seed_tasks))),
        *rng.sample(pool, min(pool_per_request, len(pool))),
    ]
    rng.shuffle(shown)
    prompt = _template().render(
        count=tasks_per_request,
        examples=[{key: getattr(task, key) for key in TASK_KEYS} for task in shown],
    )
    payload = {
        **settings,
        "messages": [{"role": "user", "content": prompt}],
        "response_format": _response_format(tasks_per_request),
    }
    return Request(payload, [task.id for task in shown])


@cache
def prompt_version() -> str:
    """Eight hex digits of the template's SHA-256: rows say which prompt asked for them."""
    return hashlib.sha256(_source().encode()).hexdigest()[:8]


def _response_format(count: int) -> dict[str, Any]:
    """A strict JSON schema (https://platform.openai.com/docs/guides/structured-outputs)."""
    task = {
        "type": "object",
        "properties": {key: {"type": "string"} for key in TASK_KEYS},
        "required": list(TASK_KEYS),
        "additionalProperties": False,
    }
    tasks = {"type": "array", "items": task, "minItems": count, "maxItems": count}
    schema = {
        "type": "object",
        "properties": {"tasks": tasks},
        "required": ["tasks"],
        "additionalProperties": False,
    }
    return {
        "type": "json_schema",
        "json_schema": {"name": "tasks", "strict": True, "schema": schema},
    }


def _source() -> str:
    folder = resources.files("code_alpaca").joinpath("generation/prompts")
    return folder.joinpath("self_instruct.jinja").read_text("utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    # jinja's own tojson escapes < > & ' for HTML; a teacher should see code as it is.
    environment.policies["json.dumps_function"] = _dumps
    environment.filters["tojson"] = _dumps
    return environment.from_string(_source())


def _dumps(value: Any, **_: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)
