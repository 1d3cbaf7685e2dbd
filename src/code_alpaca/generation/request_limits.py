"""Fit requests into limits that a teacher's replies reveal: its context length, its reasoning.

A reply that reached its token limit before the response began shows that the limit was too low for
the teacher's reasoning; an error about the context length, that the prompt was too long. Such a
request is revised and sent again. Later requests get its limits from `lookahead` requests after it,
so that request k still depends on the replies to requests up to k - lookahead, and on its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from code_alpaca.core import console
from code_alpaca.core.ledger import Ledger
from code_alpaca.teacher.error_classification import read_context_length
from code_alpaca.teacher.reply_parsing import ends_in_reasoning
from code_alpaca.teacher.request_body import get_token_limit

if TYPE_CHECKING:
    from code_alpaca.generation.config import GenerateConfig
    from code_alpaca.generation.request_plan import TeacherRequest

RAISE_FACTOR = 4  # of max_completion_tokens, once, for a teacher that reasons at length
MAX_REVISIONS = 6
SHRINK_FACTOR = 0.7  # of a prompt that is still too long
CONTEXT_MARGIN = 64  # tokens that a chat template adds
BYTES_PER_TOKEN = 3  # few, since a prompt that is too long is refused
LEDGER_KEY = "request_limits"  # those of the config, and what was learned from which request on
CONTEXT_KEY = "context_length"  # of the teacher, as its server reports it


class RequestLimits(NamedTuple):
    """The most tokens of a prompt (None: any number) and of a reply."""

    prompt: int | None
    reply: int

    def within(self, context_length: int) -> RequestLimits:
        """Return the limits that fit into a context length, with at most half of it for a reply."""
        reply = min(self.reply, context_length // 2)
        prompt = max(1, context_length - reply - CONTEXT_MARGIN)
        return RequestLimits(min(prompt, self.prompt or prompt), reply)


class LimitTracker:
    """The limits of every request of a run, in its ledger."""

    def __init__(self, config: GenerateConfig, ledger: Ledger) -> None:
        self._config, self._ledger = config, ledger
        self._configured = RequestLimits(config.max_prompt_tokens, config.max_completion_tokens)
        stored = ledger.record(LEDGER_KEY, {})
        # A start with other limits in its config begins with those.
        known = stored["learned"] if stored.get("configured") == [*self._configured] else []
        self._learned = [(first, RequestLimits(*limits)) for first, limits in known]

    def get(self, number: int) -> RequestLimits:
        """Return the limits of request `number` before it was ever sent."""
        learned = (limits for first, limits in reversed(self._learned) if first <= number)
        return next(learned, self._fit(self._configured))

    def _fit(self, limits: RequestLimits) -> RequestLimits:
        """Return limits within the context length that the server reported, if it did."""
        context_length = self._ledger.meta(CONTEXT_KEY)
        return limits.within(int(context_length)) if context_length else limits

    def set_context_length(self, num_tokens: int | None) -> None:
        """Fit all requests into the context length that a server reported."""
        if num_tokens is None:
            return
        self._ledger.set_meta(CONTEXT_KEY, str(num_tokens))
        if (reply := self.get(0).reply) < self._configured.reply:
            console.note(
                f"the teacher's context length is {num_tokens} tokens: max_completion_tokens is "
                f"{reply}"
            )

    def revise(
        self,
        number: int,
        request: TeacherRequest,
        reply: dict[str, Any],
        rebuild: Callable[[RequestLimits], TeacherRequest],
    ) -> TeacherRequest | None:
        """Return what to send in place of an answered request, or None to accept its reply."""
        num_revisions = request.requested.get("revisions", 0)
        if num_revisions >= MAX_REVISIONS:
            return None
        sent = request.requested.get("limits")
        limits = RequestLimits(*sent) if sent else self.get(number)
        if ends_in_reasoning(reply) and limits.reply <= self._configured.reply:
            limits = self._fit(limits._replace(reply=limits.reply * RAISE_FACTOR))
        elif (context_length := read_context_length(reply.get("error"))) is not None:
            limits = _shrink(request, limits, context_length)
        else:
            return None
        revised = rebuild(limits)
        same_limit = get_token_limit(revised.payload) == get_token_limit(request.payload)
        if same_limit and revised.prompt == request.prompt:
            return None
        about = {"revisions": num_revisions + 1, "limits": list(limits)}
        return replace(revised, requested=revised.requested | about)

    def record(self, number: int, request: TeacherRequest) -> None:
        """Let later requests have the limits of a revised one; call it before `Ledger.decide`."""
        if "limits" not in request.requested:
            return
        found = RequestLimits(*request.requested["limits"])
        first = number + self._config.lookahead
        latest_first, latest = self._learned[-1] if self._learned else (0, found)
        prompts = [limit for limit in (found.prompt, latest.prompt) if limit is not None]
        # A request from before the latest limits may have been revised for the other reason.
        reply = max(found.reply, latest.reply) if number < latest_first else found.reply
        found = RequestLimits(min(prompts, default=None), reply)
        if self._learned and found == latest:
            return
        if not self._learned or found.reply != latest.reply:  # not for every shorter prompt
            console.note(
                f"request {number} did not fit the teacher (its context length or its reasoning); "
                f"from request {first} on, {_describe(found)}"
            )
        self._learned.append((first, found))
        known = {"configured": self._configured, "learned": self._learned}
        self._ledger.set_meta(LEDGER_KEY, json.dumps(known))


def estimate_tokens(prompt: str) -> int:
    """Return about how many tokens a prompt has, rather too many."""
    return -(-len(prompt.encode()) // BYTES_PER_TOKEN)


def _shrink(request: TeacherRequest, limits: RequestLimits, context_length: int) -> RequestLimits:
    """Return limits for a prompt that was refused as too long; context_length 0 is unknown."""
    if context_length and (fitted := limits.within(context_length)) != limits:
        return fitted
    return limits._replace(prompt=int(estimate_tokens(request.prompt) * SHRINK_FACTOR))


def _describe(limits: RequestLimits) -> str:
    prompt = "" if limits.prompt is None else f"prompts have about {limits.prompt} tokens at most, "
    return f"{prompt}max_completion_tokens is {limits.reply}"
