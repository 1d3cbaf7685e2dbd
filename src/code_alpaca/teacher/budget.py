"""A hard cap on money: the worst case of a request is set aside before it is sent.

The worst case is the request's own limit, and more once a server has reported more than that
(`Excess`): then the cap can be passed by what was in flight at that moment, and by nothing else.

Every attempt is written to the ledger with its worst case, committed before the bytes leave, and
settled from the reply's `usage`. An attempt whose end nobody saw (a dropped connection, a
timeout, a server error, a kill) may have been billed, and counts at its worst case for ever.
"""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, ClassVar
from urllib.parse import urlsplit

import yaml

from code_alpaca.core.ledger import Ledger
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
        """The most that this request can cost by its own limits, in dollars."""
        return self.of(*most_tokens(payload))


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
        self._excess = Excess.restore(ledger)
        self.unproven = cap is not None and not ledger.usage()["replies"]
        ledger.charge_replies(lambda payload, counts: price.of(*counts) or price.worst(payload))
        self.spent = ledger.spent()  # what an earlier start left open counts at its worst

    def give_up_lost(self, keep: set[str] | None = None) -> None:
        """Close what a killed start left in flight, at its worst case.

        Args:
            keep: keys of requests whose replies can still be collected.
        """
        self.spent = self._ledger.give_up_attempts(keep or set())
        for number, key, worst in self._ledger.open_attempts():
            self._open[key] = Attempt(number, worst, 0, 0)
            self.reserved += worst

    def fits(self, payload: dict[str, Any]) -> bool:
        """Whether this request may be sent, come what may."""
        if self.cap is None:
            return True
        return self.spent + self.reserved + self.worst(payload) <= self.cap

    def worst(self, payload: dict[str, Any]) -> float:
        """The most that this request can cost at a server that may exceed its limits."""
        return self.price.of(*self._excess.most(*most_tokens(payload)))

    def reserve(self, key: str, payload: dict[str, Any]) -> None:
        """Set the worst case aside, durably. Call this before sending."""
        worst = self.worst(payload)
        self.reserved += worst
        number = self._ledger.begin_attempt(key, worst)
        self._open[key] = Attempt(number, worst, *most_tokens(payload))

    def settle(self, key: str, reply: dict[str, Any]) -> None:
        """A reply came: it costs what its `usage` says, and the worst case where that is silent."""
        self.unproven = False
        if attempt := self._open.get(key):
            counts = usage(reply)
            cost = attempt.worst if counts is None else self._cost(attempt, counts)
            self._close(key, cost, "answered")

    def give_up(
        self, key: str, outcome: str, *, free: bool, usage: tuple[int, int] | None = None
    ) -> None:
        """No reply came. Nothing happens where the request is settled, or was never sent.

        Args:
            free: the server turned it away before working on it; else nobody knows whether it
                was billed.
            usage: tokens that the server counted all the same.
        """
        if attempt := self._open.get(key):
            cost = 0.0 if free else attempt.worst
            self._close(key, cost if usage is None else self._cost(attempt, usage), outcome)

    def used_up(self, payload: dict[str, Any]) -> str:
        """The line for a cap that leaves no room for one more request."""
        cap = self.cap or 0.0
        state = f"is reached: ${self.spent:.4f} is spent"
        if self.spent > cap:
            state = f"was passed by ${self.spent - cap:.4f} (requests in flight): {self._excess}"
        return (
            f"max_cost_usd {cap:g} {state}, and one more request could cost "
            f"${self.worst(payload):.4f}; everything is kept: raise max_cost_usd and rerun the "
            "same command to resume"
        )

    def _cost(self, attempt: Attempt, counts: tuple[int, int]) -> float:
        if self._excess.learn(counts, attempt):
            self._excess.save(self._ledger)
            for open_attempt in self._open.values():
                open_attempt.expect(self.price, self._excess)
            self.reserved = sum(open_attempt.worst for open_attempt in self._open.values())
        return self.price.of(*counts)

    def _close(self, key: str, cost: float, outcome: str) -> None:
        attempt = self._open.pop(key)
        self.reserved -= attempt.worst
        self._ledger.end_attempt(attempt.number, cost, outcome)
        self.spent += cost


def most_tokens(payload: dict[str, Any]) -> tuple[int, int]:
    """The most tokens that the prompt and the answer of a request can have by its own limits.

    No token is shorter than a byte, so the bytes of the whole body bound its prompt.
    """
    return len(json.dumps(payload)), answer_limit(payload)


@dataclass(slots=True)
class Attempt:
    """One sending of a request.

    Attributes:
        number: in the ledger.
        worst: dollars set aside for it.
        prompt, answer: tokens that its own limits allow; 0 where an earlier start sent it.
    """

    number: int
    worst: float
    prompt: int
    answer: int

    def expect(self, price: Price, excess: Excess) -> None:
        """Set aside what a server can cost that exceeds its limits by `excess`."""
        self.worst = max(self.worst, price.of(*excess.most(self.prompt, self.answer)))


@dataclass(slots=True)
class Excess:
    """How far beyond a request's own limits a server's counts went, as factors.

    Reasoning is not bound by the limit everywhere, and templates and tools add to a prompt.
    """

    prompt: float = 1.0
    answer: float = 1.0

    KEY: ClassVar = "usage_excess"

    @classmethod
    def restore(cls, ledger: Ledger) -> Excess:
        """What earlier starts of the run learned."""
        return cls(*json.loads(ledger.meta(cls.KEY) or "[1.0, 1.0]"))

    def save(self, ledger: Ledger) -> None:
        ledger.set_meta(self.KEY, json.dumps([self.prompt, self.answer]))

    def learn(self, counts: tuple[int, int], attempt: Attempt) -> bool:
        """Take a reply's counts into account; True where they exceed all before."""
        before = self.prompt, self.answer
        if attempt.prompt and attempt.answer:
            self.prompt = max(self.prompt, counts[0] / attempt.prompt)
            self.answer = max(self.answer, counts[1] / attempt.answer)
        return before != (self.prompt, self.answer)

    def most(self, prompt: int, answer: int) -> tuple[int, int]:
        """The most tokens, where its own limits allow these."""
        return math.ceil(prompt * self.prompt), math.ceil(answer * self.answer)

    def __str__(self) -> str:
        return (
            f"the teacher reports up to {self.answer:.1f} times the tokens that "
            "max_completion_tokens allows"
            if self.answer > 1
            else f"the teacher reports prompts {self.prompt:.1f} times their size"
        )
