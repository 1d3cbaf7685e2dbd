"""The request forms of OpenAI-compatible servers: what goes on the wire, what comes back.

`chat` is understood by everyone (OpenAI, Azure, vLLM, TGI, Ollama, llama.cpp, the HF router),
`responses` is OpenAI's newer form, `completions` continues plain text, for base models.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Literal

from code_alpaca.core.reasoning import strip_reasoning

Api = Literal["chat", "responses", "completions"]
PATHS: dict[str, str] = {
    "chat": "/chat/completions",
    "responses": "/responses",
    "completions": "/completions",
}
# How a server is held to JSON, best first; one that refuses a form is asked with the next.
FORMS = ("json_schema", "json_object", "text")
LIMIT_KEYS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
MOST_TOKENS = 2**24  # more than any context window: a count beyond it is a fault, and no count
# What may differ between two bodies that ask the same question.
NEGOTIABLE = ("response_format", "text", "max_tokens", "max_completion_tokens")
STREAMED = {"stream": True, "stream_options": {"include_usage": True}}
# How servers say that the model came to an end by itself. Any other reason (`length`,
# `max_tokens`, `model_length`, `content_filter`, `error`, `abort`, ...), or none, means that the
# answer may be cut.
ENDS = {
    "stop",
    "eos",
    "eos_token",
    "stop_sequence",
    "end_turn",
    "complete",
    "completed",
    "tool_calls",
    "function_call",
}
UNANSWERED = "unanswered"  # code of our own: a request that was given up after several tries


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply, whatever its form.

    Attributes:
        cut: the server did not report that the model came to an end by itself, so the text may
            be truncated: at the token limit, by a content filter, by an error.
        readable: it has a text.
    """

    text: str = ""
    refusal: str = ""
    cut: bool = False
    readable: bool = True


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the teacher is to answer; `limit` is the longest answer in tokens."""

    model: str
    temperature: float
    top_p: float
    limit: int
    stop: tuple[str, ...] = ()


def body(api: Api, prompt: str, sampling: Sampling, schema: dict[str, Any] | None) -> dict:
    """The JSON body of one request in its most demanding form; `weaken` makes it milder.

    Args:
        schema: a JSON schema of the answer, or None where text is wanted.
    """
    shared: dict[str, Any] = {
        "model": sampling.model,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    if sampling.stop:
        shared["stop"] = list(sampling.stop)
    if api == "completions":
        return {**shared, "prompt": prompt, "max_tokens": sampling.limit}
    if api == "responses":
        form = {"type": "json_schema", "name": "tasks", "strict": True, "schema": schema}
        # `transformers serve` streams unless it is told not to.
        made = {**shared, "input": prompt, "max_output_tokens": sampling.limit, "stream": False}
        return {**made, "text": {"format": form}} if schema else made
    made = {
        **shared,
        "messages": [{"role": "user", "content": prompt}],
        "max_completion_tokens": sampling.limit,
    }
    if schema:
        form = {"name": "tasks", "strict": True, "schema": schema}
        made["response_format"] = {"type": "json_schema", "json_schema": form}
    return made


def weaken(
    payload: dict[str, Any], form: str, limit_key: str, *, stream: bool = False
) -> dict[str, Any]:
    """The same question to a server that knows only `form` and this name of the token limit.

    Args:
        form: one of FORMS.
        limit_key: `max_completion_tokens`, or `max_tokens` for older chat servers.
        stream: for a server that answers in no other way.
    """
    made = dict(payload)
    if stream and "stream" not in made:
        made.update(STREAMED)
    if "max_completion_tokens" in made and limit_key != "max_completion_tokens":
        made[limit_key] = made.pop("max_completion_tokens")
    if form != "json_schema":
        mild = {"type": "json_object"}
        if "response_format" in made:
            made.pop("response_format")
            made.update({"response_format": mild} if form == "json_object" else {})
        if "text" in made:
            made.pop("text")
            made.update({"text": {"format": mild}} if form == "json_object" else {})
    return made


def form_of(payload: dict[str, Any]) -> str:
    """Which of FORMS a body asks for."""
    form = payload.get("response_format") or (payload.get("text") or {}).get("format")
    return form["type"] if form else "text"


def answer_limit(payload: dict[str, Any]) -> int:
    """The longest answer that a body allows, in tokens; 0 where it says nothing."""
    return next((payload[key] for key in LIMIT_KEYS if payload.get(key)), 0)


def question(payload: dict[str, Any]) -> dict[str, Any]:
    """What a body asks, without the parts that are negotiated."""
    streamed = STREAMED if payload.get("stream") is True else {}
    return {k: v for k, v in payload.items() if k not in NEGOTIABLE and k not in streamed}


def read(reply: Any) -> Answer:
    """The answer in a reply of any of the three forms, without reasoning. Never raises."""
    if not isinstance(reply, dict):
        return Answer(readable=False)
    error = reply.get("error")
    try:
        answer = _read_response(reply) if "output" in reply else _read_choice(reply["choices"][0])
    except (KeyError, IndexError, TypeError, AttributeError):
        answer = Answer(readable=False)
    if not error:
        return answer
    if answer.text:  # an error that came when part of the answer was written
        return replace(answer, cut=True)
    # One that a content policy or a limit of the context turned away.
    if isinstance(error, dict) and error.get("code") != UNANSWERED:
        return Answer(refusal=str(error.get("message") or "refused"))
    return Answer(readable=False)


def error_of(reply: Any) -> Any:
    """What is wrong with a body that was sent as a success and holds no answer; else None.

    A reply without text is an answer all the same: the model may have had nothing to say.
    """
    if not isinstance(reply, dict):
        return {"message": f"not a JSON object: {str(reply)[:100]}"}
    if read(reply).text:
        return None
    if reply.get("error"):
        return reply["error"]
    if isinstance(reply.get("output"), list):
        return None
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return {"message": f"no choices in it: {str(reply)[:100]}"}
    if choices[0].get("error"):
        return choices[0]["error"]
    if choices[0].get("finish_reason") == "error":
        return {"message": "finish_reason error"}
    return None


def usage(reply: dict[str, Any]) -> tuple[int, int] | None:
    """Prompt and completion tokens that are billed; None where the server did not say.

    Some servers count reasoning only in the total: what is beyond the prompt is completion.
    A count that is absent, or zero beside a text, says nothing: money must not hang on it.
    """
    counts = reply.get("usage")
    if not isinstance(counts, dict):
        return None
    for asked, answered in (
        ("prompt_tokens", "completion_tokens"),
        ("input_tokens", "output_tokens"),
    ):
        prompt, completion = _count(counts.get(asked)), _count(counts.get(answered))
        if prompt is None or completion is None:
            continue
        if 0 in (prompt, completion) and read(reply).text:
            return None
        details = counts.get(f"{answered}_details")
        reasoning = _count(details.get("reasoning_tokens")) if isinstance(details, dict) else None
        if reasoning and reasoning > completion:  # it cannot be a part of it
            completion += reasoning
        return prompt, max(completion, (_count(counts.get("total_tokens")) or 0) - prompt)
    return None


def _count(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    valid = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST_TOKENS
    return value if valid else None


def _read_choice(choice: dict[str, Any]) -> Answer:
    cut = str(choice.get("finish_reason")).lower() not in ENDS
    if "message" not in choice:
        return _answer(choice["text"], "", cut)
    message = choice["message"]
    content = message.get("content")
    if not content:  # some models answer a schema by a call
        calls = [call["function"] for call in message.get("tool_calls") or []]
        calls += [message["function_call"]] if message.get("function_call") else []
        content = "".join(_as_text(call["arguments"]) for call in calls) if calls else content
    return _answer(content, message.get("refusal"), cut)


def _read_response(reply: dict[str, Any]) -> Answer:
    parts = [
        part
        for item in reply["output"]
        if item.get("type") == "message"
        for part in item.get("content") or []
    ]
    text = "".join(part["text"] for part in parts if part.get("type") == "output_text")
    refusal = "".join(part["refusal"] for part in parts if part.get("type") == "refusal")
    return _answer(text, refusal, reply.get("status") != "completed")


def _answer(text: Any, refusal: Any, cut: bool) -> Answer:
    if isinstance(text, dict) and isinstance(text.get("text"), str):
        text = [text]
    if isinstance(text, list) and not any(map(_is_record, text)):
        # Typed parts; those of another type are reasoning.
        text = "".join(
            part if isinstance(part, str) else part.get("text") or ""
            for part in text
            if isinstance(part, str) or part.get("type", "text") in ("text", "output_text")
        )
    if text is not None and not isinstance(text, str | dict | list):
        return Answer(readable=False)
    text = _as_text(text or "")
    return Answer(text=strip_reasoning(text), refusal=str(refusal or ""), cut=cut)


def _is_record(part: Any) -> bool:
    return isinstance(part, dict) and "instruction" in part


def _as_text(value: Any) -> str:
    """JSON that a server has parsed already, as the text that the model wrote."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
