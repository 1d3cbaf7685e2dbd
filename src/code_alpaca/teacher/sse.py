"""Assemble a streamed reply: some servers stream by default, others support nothing else.

Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) that carry the
chunks of a chat completion or a text completion, or the events of the Responses API.
"""

from __future__ import annotations

import json
from typing import Any


def assemble_stream(text: str) -> dict[str, Any] | None:
    """Return the reply in a stream, in the format without streaming; None if it is no stream."""
    events = [event for line in text.split("\n") if (event := _parse_event(line)) is not None]
    if not events:
        return None
    for event in reversed(events):
        if isinstance(event.get("response"), dict) and "output" in event["response"]:
            return event["response"]  # the last event of the Responses API has the complete reply
    return _join_chunks(events)


def _parse_event(line: str) -> dict[str, Any] | None:
    if not line.startswith("data:"):
        return None
    try:
        event = json.loads(line.removeprefix("data:"))
    except (ValueError, RecursionError):  # includes the end marker "[DONE]"
        return None
    return event if isinstance(event, dict) else None


def _join_chunks(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Concatenate the text of the first choice; later chunks override earlier metadata."""
    texts: list[str] = []
    is_text_completion = False
    finish_reason: Any = None
    reply: dict[str, Any] = {}
    for event in events:
        reply |= {key: event[key] for key in ("usage", "error") if event.get(key)}
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict) or choice.get("index", 0) != 0:
            continue
        finish_reason = choice.get("finish_reason") or finish_reason
        if choice.get("error"):
            reply["error"] = choice["error"]
        if isinstance(choice.get("text"), str):
            is_text_completion = True
            texts.append(choice["text"])
        delta = choice.get("delta") or choice.get("message")
        content = delta.get("content") if isinstance(delta, dict) else None
        if isinstance(content, str):
            texts.append(content)
    text = "".join(texts)
    body = {"text": text} if is_text_completion else {"message": {"content": text}}
    reply["choices"] = [{"index": 0, "finish_reason": finish_reason, **body}]
    return reply
