"""Put a streamed reply together: some servers stream by default, some answer in no other way.

Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) whose data are
the chunks of a chat completion or a text completion, or the events of the Responses API.
"""

from __future__ import annotations

import json
from typing import Any


def assemble(text: str) -> dict[str, Any] | None:
    """The reply that a stream adds up to, in the form of one that was not streamed.

    Returns:
        None where the text is not a stream, or holds no event that can be read.
    """
    events = [event for event in map(_event, text.split("\n")) if event is not None]
    if not events:
        return None
    for event in reversed(events):
        if isinstance(event.get("response"), dict) and "output" in event["response"]:
            return event["response"]  # the Responses API repeats everything at the end
    return _joined(events)


def _event(line: str) -> dict[str, Any] | None:
    if not line.startswith("data:"):
        return None
    try:
        event = json.loads(line.removeprefix("data:"))
    except (ValueError, RecursionError):  # also the end, "[DONE]"
        return None
    return event if isinstance(event, dict) else None


def _joined(events: list[dict[str, Any]]) -> dict[str, Any]:
    parts: list[str] = []
    completion = False
    finish: Any = None
    reply: dict[str, Any] = {}
    for event in events:
        for key in ("usage", "error"):
            if event.get(key):
                reply[key] = event[key]
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict) or choice.get("index", 0) != 0:
            continue
        finish = choice.get("finish_reason") or finish
        if choice.get("error"):
            reply["error"] = choice["error"]
        if isinstance(choice.get("text"), str):
            completion = True
            parts.append(choice["text"])
        delta = choice.get("delta") or choice.get("message")
        content = delta.get("content") if isinstance(delta, dict) else None
        if isinstance(content, str):
            parts.append(content)
    whole = "".join(parts)
    choice = {"text": whole} if completion else {"message": {"content": whole}}
    reply["choices"] = [{"index": 0, "finish_reason": finish, **choice}]
    return reply
