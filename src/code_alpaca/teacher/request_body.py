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
TOKEN_LIMIT_KEYS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


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
    """Return a request body with the strictest output format; `ServerCapabilities` relaxes it."""
    body: dict[str, Any] = {"model": sampling.model, "temperature": sampling.temperature}
    body["top_p"] = sampling.top_p
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


def get_token_limit(body: dict[str, Any]) -> int:
    """Return the maximum number of output tokens that a body allows, or 0 without a limit."""
    return next((body[key] for key in TOKEN_LIMIT_KEYS if body.get(key)), 0)
