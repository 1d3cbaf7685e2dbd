"""Enforce a spending cap: reserve the worst-case cost of a request before it is sent.

Every attempt is committed to the ledger with its worst case, by the request's own limits, and
settled with the reply's `usage`. An attempt without a result (a dropped connection, a timeout, a
killed process) may have been billed and counts at its worst case permanently. If a server reports
more tokens than the limits (`UsageOverrun`), later worst cases are scaled up; only requests that
were in flight at that moment can exceed the cap.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, ClassVar

from code_alpaca.core.ledger import Ledger
from code_alpaca.teacher.prices import Price, bound_tokens
from code_alpaca.teacher.reply_parsing import count_billed_tokens


class Budget:
    """Track what a run has spent and reserved, in US dollars.

    Args:
        cap: over all starts of the run; None for no cap.
    """

    def __init__(self, ledger: Ledger, price: Price, cap: float | None) -> None:
        self.price, self.cap = price, cap
        self._ledger = ledger
        self._open: dict[str, Attempt] = {}  # by request key
        self.reserved = 0.0
        self._overrun = UsageOverrun.load(ledger)
        # Until the first reply, it is unknown whether the server respects the token limit.
        self.is_limit_unverified = cap is not None and not ledger.usage()["replies"]
        ledger.charge_replies(
            lambda payload, usage: price.compute_cost(*usage) or price.bound_cost(payload)
        )
        self.spent = ledger.spent()  # includes open attempts of earlier starts at worst case

    def close_lost_attempts(self, keep: set[str] | None = None) -> None:
        """Charge the attempts that a killed process left open at their worst case.

        Args:
            keep: keys of requests whose replies can still be collected.
        """
        self.spent = self._ledger.close_lost_attempts(keep or set())
        for number, key, worst_case in self._ledger.open_attempts():
            self._open[key] = Attempt(number, worst_case)
            self.reserved += worst_case

    def can_afford(self, payload: dict[str, Any]) -> bool:
        """Return whether a request fits under the cap at its worst case."""
        if self.cap is None:
            return True
        return self.spent + self.reserved + self.bound_cost(payload) <= self.cap

    def bound_cost(self, payload: dict[str, Any]) -> float:
        """Return the worst-case cost of a request, scaled by the observed overrun."""
        return self.price.compute_cost(*self._overrun.scale(*bound_tokens(payload)))

    def reserve(self, key: str, payload: dict[str, Any]) -> None:
        """Reserve the worst-case cost durably. Call this before sending."""
        worst_case = self.bound_cost(payload)
        self.reserved += worst_case
        number = self._ledger.begin_attempt(key, worst_case)
        self._open[key] = Attempt(number, worst_case, *bound_tokens(payload))

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
        if key not in self._open:
            return
        if usage is not None and self._overrun.update(usage, self._open[key]):
            self._raise_worst_cases()
        attempt = self._open.pop(key)
        self.reserved -= attempt.worst_case
        cost = 0.0 if not_billed else attempt.worst_case
        if usage is not None:
            cost = self.price.compute_cost(*usage)
        self._ledger.end_attempt(attempt.number, cost, outcome)
        self.spent += cost

    def format_exhausted(self, payload: dict[str, Any]) -> str:
        """Return the error message for a cap that leaves no room for this request."""
        cap = self.cap or 0.0
        state = f"is reached: ${self.spent:.4f} spent"
        if self.spent > cap:
            excess = self.spent - cap
            state = f"was exceeded by ${excess:.4f} (requests in flight): {self._overrun}"
        return (
            f"max_cost_usd {cap:g} {state}, and one more request could cost "
            f"${self.bound_cost(payload):.4f}; all replies so far are kept: raise max_cost_usd "
            "and rerun the same command to resume"
        )

    def _raise_worst_cases(self) -> None:
        """Save an increased overrun and apply it to every open attempt."""
        self._overrun.save(self._ledger)
        for attempt in self._open.values():
            tokens = self._overrun.scale(attempt.max_prompt, attempt.max_completion)
            attempt.worst_case = max(attempt.worst_case, self.price.compute_cost(*tokens))
        self.reserved = sum(attempt.worst_case for attempt in self._open.values())


@dataclass(slots=True)
class Attempt:
    """One sending of a request."""

    number: int  # row number in the ledger
    worst_case: float  # reserved US dollars
    max_prompt: int = 0  # tokens that the request allows; 0 for an attempt of an earlier process
    max_completion: int = 0


@dataclass(slots=True)
class UsageOverrun:
    """The largest ratio of reported tokens to the limit of a request, for prompt and completion.

    Not every server applies the limit to reasoning, and chat templates and tools add to a prompt.
    """

    prompt: float = 1.0
    completion: float = 1.0

    META_KEY: ClassVar = "usage_excess"

    @classmethod
    def load(cls, ledger: Ledger) -> UsageOverrun:
        return cls(*json.loads(ledger.meta(cls.META_KEY) or "[1.0, 1.0]"))

    def save(self, ledger: Ledger) -> None:
        ledger.set_meta(self.META_KEY, json.dumps([self.prompt, self.completion]))

    def update(self, usage: tuple[int, int], attempt: Attempt) -> bool:
        """Include the token counts of a reply; return whether a ratio increased."""
        before = self.prompt, self.completion
        if attempt.max_prompt and attempt.max_completion:
            self.prompt = max(self.prompt, usage[0] / attempt.max_prompt)
            self.completion = max(self.completion, usage[1] / attempt.max_completion)
        return before != (self.prompt, self.completion)

    def scale(self, prompt: int, completion: int) -> tuple[int, int]:
        """Return the token counts that a request with these limits may be billed for."""
        return math.ceil(prompt * self.prompt), math.ceil(completion * self.completion)

    def __str__(self) -> str:
        if self.completion > 1:
            return (
                f"the teacher reports up to {self.completion:.1f} times the tokens that "
                "max_completion_tokens allows"
            )
        return f"the teacher reports prompts {self.prompt:.1f} times their size"
