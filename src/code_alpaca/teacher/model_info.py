"""Ask a server for the context length of a model."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import openai

TIMEOUT_S = 5.0
# By vLLM and SGLang; OpenRouter, Together and xAI; Groq; Mistral; LM Studio; llama.cpp.
CONTEXT_KEYS = (
    "max_model_len", "context_length", "context_window", "max_context_length",
    "loaded_context_length", "n_ctx",
)  # fmt: skip
MAX_CONTEXT_LENGTH = 2**24


async def fetch_context_length(client: openai.AsyncOpenAI, model: str) -> int | None:
    """Return the context length of a model in tokens; None if the server does not report it."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            response = await client.get("/models", cast_to=httpx2.Response)
        entries = json.loads(response.content)["data"]
        by_id = {entry["id"]: entry for entry in entries}
        # A server of one model answers to any name.
        entry = by_id.get(model) or (entries[0] if len(entries) == 1 else {})
        return _read_length({**(entry.get("meta") or {}), **entry})
    except (TimeoutError, openai.OpenAIError, ValueError, LookupError, TypeError, AttributeError):
        return None  # not every server has this list, and a wrong URL is reported by a request


def _read_length(entry: dict[str, Any]) -> int | None:
    values = (entry.get(key) for key in CONTEXT_KEYS)
    return next(
        (value for value in values if isinstance(value, int) and 0 < value < MAX_CONTEXT_LENGTH),
        None,
    )
