"""Look up what a teacher costs, and bound the cost of one request."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from code_alpaca.teacher.azure import find_azure_url
from code_alpaca.teacher.request_body import get_token_limit

OPENAI_URL = "https://api.openai.com/v1"
BATCH_FACTOR = 0.5  # of the Batch API, for a configured price


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
    """Return the price of a model at `base_url` (default: that of the environment, or OpenAI).

    None if it is unknown. For several comma-separated URLs, each price is the highest of them.

    Args:
        configured: US dollars per million input and output tokens; overrides the price list.
        batch: whether to apply the discount of the Batch API.
    """
    if configured[0] is not None and configured[1] is not None:
        factor = BATCH_FACTOR if batch else 1.0
        return Price(configured[0] * factor, configured[1] * factor, "as configured")
    default = os.environ.get("OPENAI_BASE_URL") or find_azure_url(None) or OPENAI_URL
    urls = [url.strip() for url in (base_url or default).split(",")]
    prices = [_look_up(model, url, batch=batch) for url in urls]
    known = [price for price in prices if price is not None]
    if len(known) < len(prices):
        return None
    return Price(
        max(price.input for price in known), max(price.output for price in known), known[0].source
    )


def _look_up(model: str, url: str, *, batch: bool) -> Price | None:
    """Return today's price in the list of genai-prices, which is part of the package.

    It covers providers by their URLs. A prompt of some models costs more beyond 100k tokens, which
    no request here has.
    """
    from genai_prices import Usage, __version__, calc_price

    now = datetime.now(UTC)
    try:
        cost = calc_price(
            Usage(input_tokens=1_000, output_tokens=1_000),
            model,
            provider_api_url=url,
            genai_request_timestamp=now,
            price_context={"processing": "batch"} if batch else None,
        )
    except LookupError:
        return None
    source = f"genai-prices {__version__} on {now:%Y-%m-%d}"
    return Price(float(cost.input_price * 1_000), float(cost.output_price * 1_000), source)
