"""A hard cap on money: the worst case of a request is set aside before it is sent.

Every attempt is written to the ledger with its worst case, committed before the bytes leave, and
settled from the reply's `usage`. An attempt whose end nobody saw (a dropped connection, a
timeout, a server error, a kill) may have been billed, and counts at its worst case for ever.
"""

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

from code_alpaca.ledger import Ledger
from code_alpaca.teacher.apis import answer_limit, usage

DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")  # gpt-4o-mini-2024-07-18 costs what gpt-4o-mini does


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens, and where the figure comes from."""

    input: float
    output: float
    source: str

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1e6

    def worst(self, payload: dict[str, Any]) -> float:
        """The most that this request can cost, in dollars.

        No token is shorter than a byte, so the bytes of the whole body bound its prompt tokens;
        the answer is bounded by its own limit.
        """
        return self.of(len(json.dumps(payload)), answer_limit(payload))


def find_price(
    model: str,
    base_url: str | None,
    *,
    given: tuple[float | None, float | None] = (None, None),
    batch: bool = False,
) -> Price | None:
    """What `model` costs at `base_url`, or None where nobody said.

    Without a URL it is that of OPENAI_BASE_URL, or OpenAI's; of several the dearest counts.

    Args:
        given: dollars for a million input and output tokens; they win over the price file.
        batch: at the Batch API's price.
    """
    table = _table()
    factor = table["batch_factor"] if batch else 1.0
    if given[0] is not None and given[1] is not None:
        return Price(given[0] * factor, given[1] * factor, "as configured")
    urls = base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
    hosts = [urlsplit(url.strip()).hostname for url in urls.split(",")]
    known = [table["hosts"].get(host, {}).get(DATED.sub("", model)) for host in hosts]
    if None in known:
        return None
    found = [max(prices) for prices in zip(*known, strict=True)]  # the dearest of several
    return Price(found[0] * factor, found[1] * factor, f"price list of {table['as_of']}")


@cache
def _table() -> dict[str, Any]:
    text = resources.files("code_alpaca").joinpath("teacher/prices.yaml").read_text("utf-8")
    return yaml.safe_load(text)


class Budget:
    """What a run has spent, and what it may still.

    Args:
        cap: dollars, over all starts of the run; None: no cap.
    """

    def __init__(self, ledger: Ledger, price: Price, cap: float | None) -> None:
        self.price, self.cap = price, cap
        self._ledger = ledger
        self._open: dict[str, Attempt] = {}  # by the request's key
        self.reserved = 0.0
        ledger.charge_replies(lambda payload, told: price.of(*told) or price.worst(payload))
        self.spent = ledger.spent()  # what an earlier start left open counts at its worst

    def give_up_lost(self, keep: set[str] | None = None) -> None:
        """Close what a killed start left in flight, at its worst case.

        Args:
            keep: keys of requests whose replies can still be collected.
        """
        self.spent = self._ledger.give_up_attempts(keep or set())
        for number, key, worst in self._ledger.open_attempts():
            self._open[key] = Attempt(number, worst)
            self.reserved += worst

    def fits(self, payload: dict[str, Any]) -> bool:
        """Whether this request may be sent, come what may."""
        if self.cap is None:
            return True
        return self.spent + self.reserved + self.price.worst(payload) <= self.cap

    def reserve(self, key: str, payload: dict[str, Any]) -> None:
        """Set the worst case aside, durably. Call this before sending."""
        worst = self.price.worst(payload)
        self.reserved += worst
        self._open[key] = Attempt(self._ledger.begin_attempt(key, worst), worst)

    def settle(self, key: str, reply: dict[str, Any]) -> None:
        """A reply came: it costs what its `usage` says, and the worst case where that is silent."""
        if attempt := self._open.get(key):
            told = usage(reply)
            cost = attempt.worst if told is None else self.price.of(*told)
            self._close(key, cost, "answered")

    def give_up(self, key: str, outcome: str, *, free: bool) -> None:
        """No reply came. Nothing happens where the request is settled, or was never sent.

        Args:
            free: the server turned it away before working on it; else nobody knows whether it
                was billed.
        """
        if attempt := self._open.get(key):
            self._close(key, 0.0 if free else attempt.worst, outcome)

    def used_up(self, payload: dict[str, Any]) -> str:
        """The line for a cap that leaves no room for one more request."""
        return (
            f"max_cost_usd {self.cap:g} is reached: ${self.spent:.4f} is spent, and one more "
            f"request could cost ${self.price.worst(payload):.4f}; everything is kept: raise "
            "max_cost_usd and give the same command to go on"
        )

    def _close(self, key: str, cost: float, outcome: str) -> None:
        attempt = self._open[key]
        self._ledger.end_attempt(attempt.number, cost, outcome)
        del self._open[key]
        self.reserved -= attempt.worst
        self.spent += cost


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sending of a request: its number in the ledger, its worst case in dollars."""

    number: int
    worst: float
