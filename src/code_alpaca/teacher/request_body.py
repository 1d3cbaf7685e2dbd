"""Build the JSON body of a request in one of the three OpenAI API formats.

`chat` is supported by every server (OpenAI, Azure, vLLM, TGI, Ollama, llama.cpp, the HF router),
`responses` is OpenAI's newer API, and `completions` continues plain text, for base models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Api = Literal["chat", "responses", "completions"]
ENDPOINT_PATHS: dict[str, str] = {
    "chat": "/chat/completions",
    "responses": "/responses",
    "completions": "/completions",
}
# How the output is constrained to JSON, strictest first. The next one is used when a server
# rejects one of them.
OUTPUT_FORMATS = ("json_schema", "json_object", "text")
TOKEN_LIMIT_KEYS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
# Keys that may differ between two bodies with the same prompt and sampling parameters.
NEGOTIABLE_KEYS = ("response_format", "text", "max_tokens", "max_completion_tokens")
STREAMING_KEYS = {"stream": True, "stream_options": {"include_usage": True}}


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Sampling parameters of the teacher; `max_tokens` limits the length of one reply."""

    model: str
    temperature: float
    top_p: float
    max_tokens: int
    stop: tuple[str, ...] = ()


def build_request_body(
    api: Api, prompt: str, sampling: SamplingParams, schema: dict[str, Any] | None
) -> dict[str, Any]:
    """Return a request body with the strictest output format; `adapt_request_body` relaxes it.

    Args:
        schema: JSON schema of the output, or None for plain text.
    """
    body: dict[str, Any] = {
        "model": sampling.model,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
    }
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if api == "completions":
        return {**body, "prompt": prompt, "max_tokens": sampling.max_tokens}
    named_schema = {"name": "tasks", "strict": True, "schema": schema}
    if api == "responses":
        # `transformers serve` streams by default.
        body |= {"input": prompt, "max_output_tokens": sampling.max_tokens, "stream": False}
        if schema:
            body["text"] = {"format": {"type": "json_schema", **named_schema}}
        return body
    body["messages"] = [{"role": "user", "content": prompt}]
    body["max_completion_tokens"] = sampling.max_tokens
    if schema:
        body["response_format"] = {"type": "json_schema", "json_schema": named_schema}
    return body


def adapt_request_body(
    body: dict[str, Any], output_format: str, token_limit_key: str, *, stream: bool = False
) -> dict[str, Any]:
    """Return the same request for a server that supports less.

    Args:
        output_format: one of OUTPUT_FORMATS.
        token_limit_key: `max_completion_tokens`, or `max_tokens` for older chat servers.
        stream: whether the server supports streaming requests only.
    """
    adapted = dict(body)
    if stream and "stream" not in adapted:
        adapted.update(STREAMING_KEYS)
    if "max_completion_tokens" in adapted and token_limit_key != "max_completion_tokens":
        adapted[token_limit_key] = adapted.pop("max_completion_tokens")
    if output_format != "json_schema":
        json_object = {"type": "json_object"}
        if adapted.pop("response_format", None) and output_format == "json_object":
            adapted["response_format"] = json_object
        if adapted.pop("text", None) and output_format == "json_object":
            adapted["text"] = {"format": json_object}
    return adapted


def detect_output_format(body: dict[str, Any]) -> str:
    """Return which of OUTPUT_FORMATS a body requests."""
    constraint = body.get("response_format") or (body.get("text") or {}).get("format")
    return constraint["type"] if constraint else "text"


def get_token_limit(body: dict[str, Any]) -> int:
    """Return the maximum number of output tokens that a body allows, or 0 without a limit."""
    return next((body[key] for key in TOKEN_LIMIT_KEYS if body.get(key)), 0)


def drop_negotiable_keys(body: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a body that stays the same when `adapt_request_body` changes it."""
    streaming = STREAMING_KEYS if body.get("stream") is True else {}
    return {k: v for k, v in body.items() if k not in NEGOTIABLE_KEYS and k not in streaming}
