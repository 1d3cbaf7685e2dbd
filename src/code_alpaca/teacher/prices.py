"""Look up what a teacher costs, and bound the cost of one request."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

import yaml

from code_alpaca.teacher.request_body import get_token_limit

SNAPSHOT_DATE = re.compile(r"-\d{4}-\d{2}-\d{2}$")  # gpt-4o-mini-2024-07-18: as gpt-4o-mini


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens, and the source of these prices."""

    input: float
    output: float
    source: str

    def compute_cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return the cost in US dollars."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1e6

    def bound_cost(self, payload: dict[str, Any]) -> float:
        """Return the highest cost in US dollars that a request's own limits allow."""
        return self.compute_cost(*bound_tokens(payload))


def bound_tokens(payload: dict[str, Any]) -> tuple[int, int]:
    """Return the highest prompt and completion token counts that a request allows.

    Every token has at least one byte, so the size of the body bounds the prompt.
    """
    return len(json.dumps(payload)), get_token_limit(payload)


def find_price(
    model: str,
    base_url: str | None,
    *,
    configured: tuple[float | None, float | None] = (None, None),
    batch: bool = False,
) -> Price | None:
    """Return the price of a model at `base_url` (default: OPENAI_BASE_URL or OpenAI).

    None if it is unknown. For several comma-separated URLs, each price is the highest of them.

    Args:
        configured: US dollars per million input and output tokens; overrides the price list.
        batch: whether to apply the discount of the Batch API.
    """
    table = _load_price_list()
    factor = table["batch_factor"] if batch else 1.0
    if configured[0] is not None and configured[1] is not None:
        return Price(configured[0] * factor, configured[1] * factor, "as configured")
    urls = base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
    hosts = [urlsplit(url.strip()).hostname for url in urls.split(",")]
    listed = [table["hosts"].get(host, {}).get(SNAPSHOT_DATE.sub("", model)) for host in hosts]
    if None in listed:
        return None
    input_price, output_price = (max(prices) for prices in zip(*listed, strict=True))
    return Price(input_price * factor, output_price * factor, f"price list of {table['as_of']}")


@cache
def _load_price_list() -> dict[str, Any]:
    text = resources.files("code_alpaca").joinpath("teacher/prices.yaml").read_text("utf-8")
    return yaml.safe_load(text)
