"""Write rows as conversations, which trainers read without code of this project.

The forms are those of TRL: language modeling for the config `messages`, prompt only for `rl`
(https://huggingface.co/docs/trl/dataset_formats).
"""

from __future__ import annotations

from typing import Any

from code_alpaca.core.prompts import user_message

Row = dict[str, Any]


def to_messages(row: Row) -> Row:
    """Return a row of `messages`: the task as the user's message, the output as the assistant's."""
    answer = {"role": "assistant", "content": row["output"]}
    if row.get("reasoning"):
        answer["reasoning_content"] = row["reasoning"]  # the name that chat templates read
    return {"id": row["id"], "messages": [_task(row), answer]}


def to_prompt(row: Row) -> Row:
    """Return a row of `rl`: the task as the user's message, and the tests that reward an answer."""
    kept = {name: row.get(name) for name in ("id", "language", "tests", "test_strength")}
    return {**kept, "prompt": [_task(row)], "solution": row["output"]}


def _task(row: Row) -> dict[str, str]:
    return {"role": "user", "content": user_message(row["instruction"], row["input"])}
