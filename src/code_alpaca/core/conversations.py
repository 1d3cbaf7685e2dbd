"""Read conversations: lists of messages, in the forms of OpenAI, ShareGPT and TRL.

A row of a dataset has one question and one answer. Of a longer conversation only the first question
and its answer can become a row, and only if `first_turn` is set.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from code_alpaca.core.json_records import UnreadableRecord

MULTI_TURN = "multi_turn"  # the reason with which curate rejects a longer conversation
ROLES_BY_SPEAKER = {
    "system": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "bot": "assistant", "model": "assistant",
    "chatgpt": "assistant",
}  # fmt: skip
MAX_ROLES = 6  # that are listed in a message


class Turn(NamedTuple):
    """One message; `role` is system, user, assistant, or another name as it is written."""

    role: str
    content: Any


def parse_turns(value: Any) -> list[Turn] | None:
    """Return the turns of a conversation; None if the value is not one.

    A conversation is a list of objects with `role` and `content`, or `from` and `value`; or its
    columns, as `datasets` stores a sequence of structs: {"role": [...], "content": [...]}; or one
    of them as JSON text, as in a cell of CSV.
    """
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        with contextlib.suppress(ValueError, RecursionError):
            value = json.loads(value)
    if isinstance(value, dict):
        value = _rows_of_columns(value)
    if not isinstance(value, list):
        return None
    turns = [_parse_turn(item) for item in value]
    return None if None in turns else turns


def join_prompt_and_completion(prompt: Any, completion: Any) -> list[Turn] | None:
    """Return the turns of a prompt and a completion of which one or both are lists of messages.

    None if both are text, or one is neither.
    https://huggingface.co/docs/trl/dataset_formats
    """
    if not isinstance(prompt, list) and not isinstance(completion, list):
        return None
    turns: list[Turn] = []
    for role, value in (("user", prompt), ("assistant", completion)):
        part = [Turn(role, value)] if isinstance(value, str) else parse_turns(value)
        if not part:
            return None
        turns += part
    return turns


def parse_history(value: Any) -> list[Turn]:
    """Return the earlier turns of a row: a list of [question, answer], as in LLaMA-Factory."""
    pairs = value if isinstance(value, list) else []
    return [
        Turn(role, text)
        for pair in pairs
        if isinstance(pair, list) and len(pair) == 2
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]


def question_and_answer(
    turns: Sequence[Turn], *, first_turn: bool
) -> dict[str, Any] | UnreadableRecord:
    """Return the Alpaca fields of a conversation, without its system prompt.

    Args:
        first_turn: leave out what follows the first question and answer.
    """
    turns = turns[1:] if turns and turns[0].role == "system" else turns
    roles = [turn.role for turn in turns]
    if roles[:2] != ["user", "assistant"]:
        return UnreadableRecord(
            f"has the turns {_list_roles(turns)}; a row begins with a question (user) and its "
            "answer (assistant)"
        )
    if len(turns) > 2 and not first_turn:
        return UnreadableRecord(
            f"has {len(turns)} turns; a row has one question (user) and one answer (assistant)",
            MULTI_TURN,
        )
    return {"instruction": turns[0].content, "input": "", "output": turns[1].content}


def alternate(turns: Sequence[Turn]) -> list[dict[str, str]] | UnreadableRecord:
    """Return a whole conversation as messages, up to the last answer of the assistant.

    A system prompt may come first; then questions and answers alternate. A conversation ends before
    a later answer that is blank or null; the first one is "" then.
    """
    turns = [turn._replace(content="") if turn.content is None else turn for turn in turns]
    if turns and turns[0] == Turn("system", ""):
        turns = turns[1:]
    roles = [turn.role for turn in turns]
    while roles and roles[-1] != "assistant":
        roles.pop()
    answered = turns[: len(roles)]
    alternating = roles[1:] if roles[:1] == ["system"] else roles
    if not roles or alternating != ["user", "assistant"] * (len(alternating) // 2):
        return UnreadableRecord(
            f"has the turns {_list_roles(turns)}; the user and the assistant must alternate"
        )
    if not all(isinstance(turn.content, str) for turn in answered):
        return UnreadableRecord("has a turn whose content is not text")
    answers = [place for place, turn in enumerate(answered) if turn.role == "assistant"]
    blank = next((place for place in answers[1:] if not answered[place].content.strip()), None)
    return [turn._asdict() for turn in answered[: None if blank is None else blank - 1]]


def _list_roles(turns: Sequence[Turn]) -> str:
    more = ", ..." if len(turns) > MAX_ROLES else ""
    return (", ".join(turn.role for turn in turns[:MAX_ROLES]) or "none") + more


def _parse_turn(item: Any) -> Turn | None:
    """Return a message as a turn; a table has null under the names that a message does not use."""
    if not isinstance(item, dict):
        return None
    speaker = item.get("role") or item.get("from")
    if not isinstance(speaker, str):
        return None
    content = item.get("content")
    content = item.get("value") if content is None else content
    if isinstance(content, list) and all(
        isinstance(part, dict) and isinstance(part.get("text"), str) for part in content
    ):
        content = "".join(part["text"] for part in content)
    return Turn(ROLES_BY_SPEAKER.get(speaker.lower(), speaker), content)


def _rows_of_columns(columns: dict[str, Any]) -> list[dict[str, Any]] | None:
    cells = list(columns.values())
    if not cells or not all(isinstance(column, list) for column in cells):
        return None
    if len({len(column) for column in cells}) > 1:
        return None
    return [dict(zip(columns, row, strict=True)) for row in zip(*cells, strict=True)]
