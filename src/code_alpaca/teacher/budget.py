"""Enforce a spending cap: reserve the worst-case cost of a request before it is sent.

Every attempt is committed to the ledger with its worst case, by the request's own limits, and
settled with the reply's `usage`. An attempt without a result (a dropped connection, a timeout, a
killed process) may have been billed and counts at its worst case permanently. If a server reports
more tokens than the limits (not every server applies them to reasoning, and chat templates add to a
prompt), later worst cases are scaled up; only requests in flight at that moment can exceed the cap.
"""

from __future__ import annotations

import json
import math
import operator
from dataclasses import dataclass
from typing import Any

from code_alpaca.core.ledger import Ledger
from code_alpaca.teacher.prices import Price, bound_tokens
from code_alpaca.teacher.reply_parsing import count_billed_tokens

OVERRUN_KEY = "usage_excess"  # in the ledger


class Budget:
    """Track what a run has spent and reserved, in US dollars; `cap` applies to all its starts."""

    def __init__(self, ledger: Ledger, price: Price, cap: float | None) -> None:
        self.price, self.cap = price, cap
        self._ledger = ledger
        self._open: dict[str, Attempt] = {}  # by request key
        self.reserved = 0.0
        # The largest ratios of reported tokens to a request's limits, for prompt and completion.
        self._overrun: list[float] = json.loads(ledger.meta(OVERRUN_KEY) or "[1.0, 1.0]")
        # Until the first reply, it is unknown whether the server respects the token limit.
        self.is_limit_unverified = cap is not None and not ledger.usage()["replies"]
        ledger.charge_replies(
            lambda payload, usage: price.compute_cost(*usage) or price.bound_cost(payload)
        )
        self.spent = ledger.spent()  # includes open attempts of earlier starts at worst case

    def close_lost_attempts(self, keep: set[str] | None = None) -> None:
        """Charge the attempts that a killed process left open, except those of keys in `keep`."""
        self.spent = self._ledger.close_lost_attempts(keep or set())
        for number, key, worst_case in self._ledger.open_attempts():
            self._open[key] = Attempt(number, worst_case)
            self.reserved += worst_case

    def can_afford(self, payload: dict[str, Any]) -> bool:
        """Return whether a request fits under the cap at its worst case."""
        committed = self.spent + self.reserved
        return self.cap is None or committed + self.bound_cost(payload) <= self.cap

    def bound_cost(self, payload: dict[str, Any]) -> float:
        """Return the worst-case cost of a request, scaled by the observed overrun."""
        return self._scale_cost(bound_tokens(payload))

    def reserve(self, key: str, payload: dict[str, Any]) -> None:
        """Reserve the worst-case cost durably. Call this before sending."""
        worst_case = self.bound_cost(payload)
        self.reserved += worst_case
        number = self._ledger.begin_attempt(key, worst_case)
        self._open[key] = Attempt(number, worst_case, bound_tokens(payload))

    def settle(self, key: str, reply: dict[str, Any]) -> None:
        """Charge a reply by its `usage`, or at its worst case if that is missing."""
        self.is_limit_unverified = False
        self.release(key, "answered", False, count_billed_tokens(reply))

    def release(
        self, key: str, outcome: str, not_billed: bool, usage: tuple[int, int] | None = None
    ) -> None:
        """Close an attempt and charge its cost; no effect if it is closed or was never sent.

        Args:
            not_billed: whether it was certainly not billed; otherwise the worst case is charged.
            usage: billed prompt and completion tokens, if the server counted them.
        """
        attempt = self._open.get(key)
        if attempt is None:
            return
        if usage is not None:
            self._update_overrun(usage, attempt.limits)
            cost = self.price.compute_cost(*usage)
        else:
            cost = 0.0 if not_billed else attempt.worst_case
        del self._open[key]
        self.reserved -= attempt.worst_case
        self._ledger.end_attempt(attempt.number, cost, outcome)
        self.spent += cost

    def format_exhausted(self, payload: dict[str, Any]) -> str:
        """Return the error message for a cap that leaves no room for this request."""
        cap = self.cap or 0.0
        state = f"is reached: ${self.spent:.4f} spent"
        if self.spent > cap:
            prompt, completion = self._overrun
            overrun = f"up to {completion:.1f} times the tokens that max_completion_tokens allows"
            if completion <= 1:
                overrun = f"prompts {prompt:.1f} times their size"
            excess = f"${self.spent - cap:.4f} (requests in flight)"
            state = f"was exceeded by {excess}: the teacher reports {overrun}"
        return (
            f"max_cost_usd {cap:g} {state}, and one more request could cost "
            f"${self.bound_cost(payload):.4f}; all replies so far are kept: raise max_cost_usd "
            "and rerun the same command to resume"
        )

    def _update_overrun(self, usage: tuple[int, int], limits: tuple[int, int]) -> None:
        """Raise the overrun to a reply's token counts, and with it the open worst cases."""
        if not all(limits):
            return
        ratios = (used / limit for used, limit in zip(usage, limits, strict=True))
        overrun = list(map(max, self._overrun, ratios))
        if overrun == self._overrun:
            return
        self._overrun = overrun
        self._ledger.set_meta(OVERRUN_KEY, json.dumps(overrun))
        for attempt in self._open.values():
            attempt.worst_case = max(attempt.worst_case, self._scale_cost(attempt.limits))
        self.reserved = sum(attempt.worst_case for attempt in self._open.values())

    def _scale_cost(self, limits: tuple[int, int]) -> float:
        """Return the highest cost of a request with these token limits after the overrun."""
        return self.price.compute_cost(*map(math.ceil, map(operator.mul, limits, self._overrun)))


@dataclass(slots=True)
class Attempt:
    """One sending of a request."""

    number: int  # row number in the ledger
    worst_case: float  # reserved US dollars
    limits: tuple[int, int] = (0, 0)  # prompt and completion tokens; 0 if an earlier start sent it
