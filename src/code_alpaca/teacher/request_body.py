"""Build the JSON body of a request in one of the three OpenAI API formats.

`chat` is supported by every server (OpenAI, Azure, vLLM, TGI, Ollama, llama.cpp, the HF router),
`responses` is OpenAI's newer API, and `completions` continues plain text, for base models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, SecretStr

Api = Literal["chat", "responses", "completions"]
ENDPOINT_PATHS: dict[str, str] = {
    "chat": "/chat/completions",
    "responses": "/responses",
    "completions": "/completions",
}
TOKEN_LIMIT_KEYS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
# Keys of a body that `extra_body` may not set: they follow from the prompt, from keys of the
# config, or multiply the cost of a request.
RESERVED_KEYS = {
    "model", "messages", "prompt", "input", "temperature", "top_p", "stop", "response_format",
    "text", "reasoning_effort", "reasoning", "n", "best_of", "stream", "stream_options",
    *TOKEN_LIMIT_KEYS,
}  # fmt: skip
RESERVED_HEADERS = {
    "accept-encoding", "connection", "content-length", "content-type", "host", "transfer-encoding",
}  # fmt: skip
MASKED = "**********"  # what a dumped SecretStr contains


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Sampling parameters of the teacher; None is not sent."""

    model: str
    temperature: float | None
    top_p: float | None
    max_tokens: int  # the length of one reply
    stop: tuple[str, ...] = ()
    reasoning_effort: str | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)


def build_request_body(
    api: Api, prompt: str, sampling: SamplingParams, schema: dict[str, Any] | None
) -> dict[str, Any]:
    """Return a request body with the strictest output format; `ServerCapabilities` relaxes it."""
    given = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    body: dict[str, Any] = {"model": sampling.model, **sampling.extra_body}
    body |= {key: value for key, value in given.items() if value is not None}
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if api == "completions":
        return {**body, "prompt": prompt, "max_tokens": sampling.max_tokens}
    named_schema = {"name": "tasks", "strict": True, "schema": schema}
    if api == "responses":
        # `transformers serve` streams by default.
        body |= {"input": prompt, "max_output_tokens": sampling.max_tokens, "stream": False}
        if sampling.reasoning_effort:
            body["reasoning"] = {"effort": sampling.reasoning_effort}
        if schema:
            body["text"] = {"format": {"type": "json_schema", **named_schema}}
        return body
    body["messages"] = [{"role": "user", "content": prompt}]
    body["max_completion_tokens"] = sampling.max_tokens
    if sampling.reasoning_effort:
        body["reasoning_effort"] = sampling.reasoning_effort
    if schema:
        body["response_format"] = {"type": "json_schema", "json_schema": named_schema}
    return body


def get_token_limit(body: dict[str, Any]) -> int:
    """Return the maximum number of output tokens that a body allows, or 0 without a limit."""
    return next((body[key] for key in TOKEN_LIMIT_KEYS if body.get(key)), 0)


def get_header_values(headers: Mapping[str, SecretStr]) -> dict[str, str]:
    """Return headers with their secret values, to send them."""
    return {name: value.get_secret_value() for name, value in headers.items()}


def _check_extra_body(body: dict[str, Any]) -> dict[str, Any]:
    if reserved := sorted(RESERVED_KEYS & body.keys()):
        raise ValueError(f"sets {reserved[0]}, which follows from the prompt or has its own key")
    return body


def _check_headers(headers: dict[str, SecretStr]) -> dict[str, SecretStr]:
    for name, value in get_header_values(headers).items():
        if name.lower() in RESERVED_HEADERS:
            raise ValueError(f"sets {name}, which the connection decides; leave it out")
        if not all(text and text.isascii() and text.isprintable() for text in (name, value)):
            raise ValueError(f"has text that no HTTP header may contain, at {name!r}")
        if value == MASKED:
            raise ValueError(f"has no value for {name}: values are not stored; give it again")
    return headers


ExtraBody = Annotated[dict[str, Any], AfterValidator(_check_extra_body)]
# Their values are secret: dumped configs contain asterisks.
ExtraHeaders = Annotated[dict[str, SecretStr], AfterValidator(_check_headers)]
