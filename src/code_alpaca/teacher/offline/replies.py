"""Write the embedded teacher's replies: a pure function of the request body and the seed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import random
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from code_alpaca.teacher.offline.tasks import compose_task
from code_alpaca.teacher.request_body import get_token_limit

if TYPE_CHECKING:
    from code_alpaca.teacher.offline.server import TeacherConfig

TASK_KEYS = ("instruction", "input", "output", "language", "tests")
TASK_COUNT = re.compile(r"exactly (\d+)|(\d+) (?:new |programming |coding )*tasks", re.IGNORECASE)
NUMBERED_TASK = re.compile(r"^(\d+)\. Instruction:", re.MULTILINE)
OPEN_NUMBERED_TASK = re.compile(r"^\d+\. Instruction:\s*\Z", re.MULTILINE)
MAX_TASKS = 50
BYTES_PER_TOKEN = 4


def write_chat_reply(body: dict[str, Any], prompt: str, config: TeacherConfig) -> tuple[str, bool]:
    """Return the text of a chat reply, and whether it is truncated."""
    if OPEN_NUMBERED_TASK.search(prompt):
        return write_completion_reply(body, prompt, config)
    rng = random.Random(f"content/{hash_body(body, config.seed)}")
    output_format = body.get("response_format") or (body.get("text") or {}).get("format") or {}
    keys, count = _read_schema(output_format, prompt)
    examples = _find_examples(prompt)
    tasks = [_compose_fields(rng, keys, config, examples) for _ in range(count)]
    text = json.dumps({"tasks": tasks}, ensure_ascii=False)
    if output_format.get("type") not in ("json_schema", "json_object"):
        text = f"Here are the tasks.\n\n```json\n{text}\n```\n"
    return _truncate(body, *config.corrupt_reply(rng, text))


def write_completion_reply(
    body: dict[str, Any], prompt: str, config: TeacherConfig
) -> tuple[str, bool]:
    """Return the continuation of a numbered list of tasks, the format of the 2023 prompt."""
    rng = random.Random(f"content/{hash_body(body, config.seed)}")
    is_open = prompt.rstrip().endswith("Instruction:")
    first = max(map(int, NUMBERED_TASK.findall(prompt)), default=0) + (not is_open)
    last = _count_tasks(prompt)
    if last < first:  # the number of new tasks, not of all tasks in the list
        last += first - 1
    text = ""
    for number in range(first, last + 1):
        task = _compose_fields(rng, TASK_KEYS, config, [])
        text += "" if is_open and number == first else f"###\n{number}. Instruction:"
        text += f" {task['instruction']}\n{number}. Input:\n{task['input'] or '<noinput>'}\n"
        text += f"{number}. Output:\n{task['output']}\n"
    return _truncate(body, *config.corrupt_reply(rng, text))


def count_tokens(text: str) -> int:
    """Return the token count that the embedded teacher reports: UTF-8 bytes / 4, rounded up."""
    return math.ceil(len(text.encode("utf-8", "replace")) / BYTES_PER_TOKEN)


def hash_body(body: dict[str, Any], seed: int) -> str:
    """Return the hash of a request body and the server's seed, from which its reply is drawn.

    `stream: false` is what the server does anyway, so a chat with and without it has one reply.
    """
    if body.get("stream") is False and "input" not in body:
        body = {key: value for key, value in body.items() if key != "stream"}
    return hashlib.sha256(json.dumps([body, seed], sort_keys=True).encode()).hexdigest()


def _compose_fields(
    rng: random.Random, keys: Sequence[str], config: TeacherConfig, examples: list[dict[str, Any]]
) -> dict[str, Any]:
    task = compose_task(rng)
    return config.corrupt_task(rng, {key: getattr(task, key) for key in keys}, examples)


def _read_schema(output_format: dict[str, Any], prompt: str) -> tuple[Sequence[str], int]:
    """Return the keys and the number of tasks, from the JSON schema or else from the prompt."""
    try:
        schema = (output_format.get("json_schema") or output_format)["schema"]
        array = schema["properties"]["tasks"]
        keys = [key for key in array["items"]["properties"] if key in TASK_KEYS]
    except (KeyError, TypeError):
        return TASK_KEYS, _count_tasks(prompt)
    count = array.get("maxItems") or array.get("minItems") or _count_tasks(prompt)
    return keys, min(int(count), MAX_TASKS)


def _count_tasks(prompt: str) -> int:
    match = TASK_COUNT.search(prompt)
    return min(int(match[1] or match[2]), MAX_TASKS) if match else 1


def _find_examples(prompt: str) -> list[dict[str, Any]]:
    """Return the tasks that the prompt shows, one JSON object per line."""
    examples = []
    for line in prompt.split("\n"):
        if line.startswith("{") and '"instruction"' in line:
            with contextlib.suppress(json.JSONDecodeError):
                examples.append(json.loads(line))
    return examples


def _truncate(body: dict[str, Any], text: str, truncated: bool) -> tuple[str, bool]:
    limit = get_token_limit(body)
    if limit and count_tokens(text) > limit:
        return text.encode()[: BYTES_PER_TOKEN * limit].decode("utf-8", "ignore"), True
    return text, truncated
