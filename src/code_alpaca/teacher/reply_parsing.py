"""Parse replies of OpenAI-compatible servers, also streamed ones: text, refusal, token counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from code_alpaca.core.reasoning import split_reasoning

MAX_TOKEN_COUNT = 2**24  # above every context window: a larger count is an error of the server
# Finish reasons of a complete output. After any other reason (`length`, `max_tokens`,
# `model_length`, `content_filter`, `error`, `abort`, ...), or none, it may be truncated.
COMPLETE_FINISH_REASONS = {
    "stop", "eos", "eos_token", "stop_sequence", "end_turn", "complete", "completed", "tool_calls",
    "function_call",
}  # fmt: skip
LENGTH_REASONS = {"length", "max_tokens", "model_length", "max_output_tokens"}
USAGE_KEYS = (("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens"))
REASONING_KEYS = ("reasoning_content", "reasoning")  # of a message
UNANSWERED = "unanswered"  # error code recorded for a request that failed at every attempt


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """The content of a reply, independent of the API format."""

    text: str = ""
    refusal: str = ""
    truncated: bool = False  # whether the output may be incomplete
    readable: bool = True  # whether the reply has the expected structure
    reasoning: str = ""  # of a model that thinks first, where the server sends it


def parse_reply(reply: Any) -> ParsedReply:
    """Parse a reply of any of the three APIs, without its reasoning. Never raises."""
    if not isinstance(reply, dict):
        return ParsedReply(readable=False)
    try:
        parsed = _parse_responses(reply) if "output" in reply else _parse_choice(reply)
    except (KeyError, IndexError, TypeError, AttributeError):
        parsed = ParsedReply(readable=False)
    error = reply.get("error")
    if not error:
        return parsed
    if parsed.text:  # the error occurred after part of the output was generated
        return replace(parsed, truncated=True)
    if isinstance(error, dict) and error.get("code") != UNANSWERED:
        # A content policy or the context limit rejected the prompt.
        return ParsedReply(refusal=str(error.get("message") or "refused"))
    return ParsedReply(readable=False)


def ends_in_reasoning(reply: Any) -> bool:
    """Return whether a reply reached its token limit before the response began."""
    try:
        details = reply.get("incomplete_details") or {}
        reason = details.get("reason") or reply["choices"][0].get("finish_reason")
    except (AttributeError, LookupError, TypeError):
        return False
    if str(reason).lower() not in LENGTH_REASONS:
        return False
    parsed = parse_reply(reply)
    return parsed.readable and not parsed.text.strip() and not parsed.refusal


def read_completion(reply: Any) -> tuple[str, str | None]:
    """Return the text of the first choice, tagged reasoning included, and its finish reason.

    Raises:
        ValueError: there is no choice, or it has another form.
    """
    try:
        choice = reply["choices"][0]
        content = _join_parts(
            choice["message"]["content"] if "message" in choice else choice["text"]
        )
        if content is None or isinstance(content, str):
            return content or "", choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        pass
    raise ValueError(f"a reply without a completion: {str(reply)[:100]}")


def find_error(reply: Any) -> Any:
    """Return the error in a body that was sent with status 200, or None if it is a valid reply.

    A reply without text is valid: the model may have generated nothing.
    """
    if not isinstance(reply, dict):
        return {"message": f"not a JSON object: {str(reply)[:100]}"}
    if parse_reply(reply).text:
        return None
    if reply.get("error"):
        return reply["error"]
    if isinstance(reply.get("output"), list):
        return None
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return {"message": f"no choices in it: {str(reply)[:100]}"}
    failed = choices[0].get("finish_reason") == "error"
    return choices[0].get("error") or ({"message": "finish_reason error"} if failed else None)


def count_billed_tokens(reply: Any) -> tuple[int, int] | None:
    """Return the billed prompt and completion tokens of a reply, or None if they are unknown.

    Some servers count reasoning only in the total: tokens beyond the prompt are completion
    tokens. A missing count is unknown, and so is a zero for a reply with text.
    """
    usage = reply.get("usage") if isinstance(reply, dict) else None
    if not isinstance(usage, dict):
        return None
    for prompt_key, completion_key in USAGE_KEYS:
        prompt = _parse_count(usage.get(prompt_key))
        completion = _parse_count(usage.get(completion_key))
        if prompt is None or completion is None:
            continue
        if 0 in (prompt, completion) and parse_reply(reply).text:
            return None
        details = usage.get(f"{completion_key}_details")
        if isinstance(details, dict):
            reasoning = _parse_count(details.get("reasoning_tokens")) or 0
            if reasoning > completion:  # then the completion does not include it
                completion += reasoning
        total = _parse_count(usage.get("total_tokens")) or 0
        return prompt, max(completion, total - prompt)
    return None


def _parse_count(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    valid = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_TOKEN_COUNT
    return value if valid else None


def _parse_choice(reply: dict[str, Any]) -> ParsedReply:
    choice = reply["choices"][0]
    truncated = str(choice.get("finish_reason")).lower() not in COMPLETE_FINISH_REASONS
    if "message" not in choice:
        return _parse_content(choice["text"], truncated)
    message = choice["message"]
    content = message.get("content")
    if not content:  # some models return structured output as the arguments of a tool call
        calls = [call["function"] for call in message.get("tool_calls") or []]
        calls += [message["function_call"]] if message.get("function_call") else []
        content = "".join(_to_text(call["arguments"]) for call in calls) if calls else content
    parsed = _parse_content(content, truncated)
    reasoning = (message.get(key) for key in REASONING_KEYS)
    explicit = next((text for text in reasoning if isinstance(text, str) and text), "")
    return replace(
        parsed,
        refusal=str(message.get("refusal") or ""),
        reasoning=explicit or _join_thinking(message.get("content")) or parsed.reasoning,
    )


def _parse_responses(reply: dict[str, Any]) -> ParsedReply:
    messages = [item for item in reply["output"] if item.get("type") == "message"]
    parts = [part for message in messages for part in message.get("content") or []]
    text = "".join(part["text"] for part in parts if part.get("type") == "output_text")
    refusal = "".join(part["refusal"] for part in parts if part.get("type") == "refusal")
    thinking = [
        part
        for item in reply["output"]
        if item.get("type") == "reasoning"
        for part in item.get("content") or item.get("summary") or []
    ]
    parsed = _parse_content(text, reply.get("status") != "completed")
    reasoning = "\n\n".join(part["text"] for part in thinking if part.get("text"))
    return replace(parsed, refusal=refusal, reasoning=reasoning or parsed.reasoning)


def _parse_content(content: Any, truncated: bool) -> ParsedReply:
    content = _join_parts(content)
    if content is not None and not isinstance(content, str | dict | list):
        return ParsedReply(readable=False)
    text, reasoning = split_reasoning(_to_text(content or ""))
    return ParsedReply(text=text, truncated=truncated, reasoning=reasoning)


def _join_parts(content: Any) -> Any:
    """Return content with typed parts as their text; output that is already JSON is unchanged."""
    if isinstance(content, dict) and isinstance(content.get("text"), str):
        content = [content]
    is_tasks = isinstance(content, list) and any(
        isinstance(part, dict) and "instruction" in part for part in content
    )
    if isinstance(content, list) and not is_tasks:
        return "".join(map(_read_part, content))
    return content


def _join_thinking(content: Any) -> str:
    """Return the text of the thinking parts of a message, which may have parts themselves."""
    texts: list[str] = []
    for part in content if isinstance(content, list) else ():
        thinking = part.get("thinking") if isinstance(part, dict) else None
        texts += [thinking] if isinstance(thinking, str) else map(_read_part, thinking or ())
    return "".join(texts)


def _read_part(part: Any) -> str:
    """Return the text of a typed content part; every type except text is reasoning."""
    if isinstance(part, str):
        return part
    is_text = part.get("type", "text") in ("text", "output_text")
    return (part.get("text") or "") if is_text else ""


def _to_text(value: Any) -> str:
    """Serialize output that the server has already parsed as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def assemble_stream(text: str) -> dict[str, Any] | None:
    """Return the reply in a stream of server-sent events, or None if the text is not a stream."""
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
    texts: dict[str, list[str]] = {"text": [], "content": [], "reasoning_content": []}
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
            texts["text"].append(choice["text"])
        delta = choice.get("delta") or choice.get("message")
        for key, text in _read_delta(delta) if isinstance(delta, dict) else ():
            texts[key].append(text)
    joined = {key: "".join(parts) for key, parts in texts.items() if parts}
    text = joined.pop("text", None)
    body = {"message": {"content": "", **joined}} if text is None else {"text": text}
    reply["choices"] = [{"index": 0, "finish_reason": finish_reason, **body}]
    return reply


def _read_delta(delta: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the texts that a chunk adds to a message."""
    content = delta.get("content")
    if isinstance(content, list):
        yield "reasoning_content", _join_thinking(content)
        content = _join_parts(content)
    if isinstance(content, str):
        yield "content", content
    for key in REASONING_KEYS:
        if isinstance(delta.get(key), str):
            yield "reasoning_content", delta[key]
            break
    for call in delta.get("tool_calls") or []:
        arguments = (call.get("function") or {}).get("arguments")
        if isinstance(arguments, str):
            yield "content", arguments
