"""The request forms of OpenAI-compatible servers: what goes on the wire, what comes back.

`chat` is understood by everyone (OpenAI, Azure, vLLM, TGI, Ollama, llama.cpp, the HF router),
`responses` is OpenAI's newer form, `completions` continues plain text, for base models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

Api = Literal["chat", "responses", "completions"]
PATHS: dict[str, str] = {
    "chat": "/chat/completions",
    "responses": "/responses",
    "completions": "/completions",
}
# How a server is held to JSON, best first; one that refuses a form is asked with the next.
FORMS = ("json_schema", "json_object", "text")
LIMIT_KEYS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
MOST_TOKENS = 2**40  # a count beyond it is a fault, and no count
# What may differ between two bodies that ask the same question.
NEGOTIABLE = ("response_format", "text", "max_tokens", "max_completion_tokens")


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply, whatever its form. `cut`: it ended at the token limit. `readable`: it has a text."""

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


def weaken(payload: dict[str, Any], form: str, limit_key: str) -> dict[str, Any]:
    """The same question to a server that knows only `form` and this name of the token limit.

    Args:
        form: one of FORMS.
        limit_key: `max_completion_tokens`, or `max_tokens` for older chat servers.
    """
    made = dict(payload)
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
    return {key: value for key, value in payload.items() if key not in NEGOTIABLE}


def read(reply: Any) -> Answer:
    """The answer in a reply of any of the three forms. Never raises."""
    if not isinstance(reply, dict):
        return Answer(readable=False)
    if isinstance(reply.get("error"), dict):  # one that a content policy turned away
        return Answer(refusal=str(reply["error"].get("message") or "refused"))
    try:
        if "output" in reply:
            return _read_response(reply)
        choice = reply["choices"][0]
        cut = choice.get("finish_reason") == "length"
        if "message" not in choice:
            return _answer(choice["text"], "", cut)
        message = choice["message"]
        return _answer(message.get("content"), message.get("refusal"), cut)
    except (KeyError, IndexError, TypeError, AttributeError):
        return Answer(readable=False)


def usage(reply: dict[str, Any]) -> tuple[int, int] | None:
    """Prompt and completion tokens as the server counted them; None where it did not say.

    A count that is absent, or zero beside a text, says nothing: money must not hang on it.
    """
    told = reply.get("usage")
    if not isinstance(told, dict):
        return None
    for asked, answered in (
        ("prompt_tokens", "completion_tokens"),
        ("input_tokens", "output_tokens"),
    ):
        prompt, answer = told.get(asked), told.get(answered)
        if _is_count(prompt) and _is_count(answer):
            silent = 0 in (prompt, answer) and bool(read(reply).text)
            return None if silent else (prompt, answer)
    return None


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and 0 <= value < MOST_TOKENS


def _read_response(reply: dict[str, Any]) -> Answer:
    parts = [
        part
        for item in reply["output"]
        if item.get("type") == "message"
        for part in item.get("content") or []
    ]
    text = "".join(part["text"] for part in parts if part.get("type") == "output_text")
    refusal = "".join(part["refusal"] for part in parts if part.get("type") == "refusal")
    why = (reply.get("incomplete_details") or {}).get("reason")
    return _answer(text, refusal, why == "max_output_tokens")


def _answer(text: Any, refusal: Any, cut: bool) -> Answer:
    if text is not None and not isinstance(text, str):
        return Answer(readable=False)
    return Answer(text=text or "", refusal=str(refusal or ""), cut=cut)
