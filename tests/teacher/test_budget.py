"""The spending cap is enforced, including for servers that report too many tokens, or none."""

from __future__ import annotations

import random

import httpx2
import pytest
from support.simulated_teacher import (
    MAX_TOKENS,
    SimulatedServer,
    build_prompt,
    build_reply,
    complete_prompts,
    error,
)

from code_alpaca.core.errors import Stopped
from code_alpaca.core.ledger import Ledger
from code_alpaca.teacher.budget import Budget
from code_alpaca.teacher.prices import Price

PRICE = Price(input=1, output=10, source="test")
MAX_COMPLETION_COST = MAX_TOKENS * PRICE.output / 1e6


def server_with_usage(**counts):
    """A server that reports the tokens that functions of the true usage and the index return."""

    def respond(body, index):
        reply = build_reply(body)
        reply["usage"].update({key: count(reply["usage"], index) for key, count in counts.items()})
        return httpx2.Response(200, json=reply)

    return SimulatedServer(respond)


def exhausted(run) -> str:
    """The message of the first request that the budget did not allow."""
    return next(str(result) for result in run.results if isinstance(result, Stopped))


class BillingServer(SimulatedServer):
    """A server with faults that counts what it bills, including replies that are lost."""

    def __init__(self, rng: random.Random, price: Price) -> None:
        super().__init__(self.answer_or_fail, latency=lambda received: rng.uniform(0.1, 1))
        self.rng, self.price, self.billed = rng, price, 0.0

    def answer_or_fail(self, body, index):
        fault = self.rng.random()
        if fault < 0.1:
            return error(429, "busy", **{"Retry-After": "0.01"})
        if fault < 0.2:
            return error(500, "broken")
        reply = build_reply(body)
        usage = reply["usage"]
        self.billed += self.price.compute_cost(usage["prompt_tokens"], usage["completion_tokens"])
        if fault < 0.3:
            return httpx2.ReadError("connection reset")
        return httpx2.Response(200, json=reply)


class ReasoningServer(BillingServer):
    """A server that also bills reasoning, reports it in one of three ways, or reports nothing."""

    def answer_or_fail(self, body, index):
        response = super().answer_or_fail(body, index)
        if not isinstance(response, httpx2.Response) or response.status_code != 200:
            return response
        reply, form = response.json(), index % 4
        usage = reply["usage"]
        reasoning = self.rng.randrange(MAX_TOKENS - usage["completion_tokens"])
        self.billed += self.price.compute_cost(0, reasoning)
        if form == 0:
            usage["completion_tokens"] += reasoning
        elif form == 1:
            usage["total_tokens"] = sum(usage.values()) + reasoning
        elif form == 2:
            usage["total_tokens"] = sum(usage.values()) + reasoning
            usage["completion_tokens_details"] = {"reasoning_tokens": reasoning}
        else:
            del reply["usage"]
        return httpx2.Response(200, json=reply)


@pytest.mark.parametrize("kind", [BillingServer, ReasoningServer])
@pytest.mark.parametrize("seed", range(20))
def test_no_cap_is_exceeded(tmp_path, seed, kind):
    """Random caps over a teacher with faults, by the teacher's own count of what it billed."""
    rng = random.Random(seed)
    price = Price(3, 15, "test")
    cap = rng.uniform(0.05, 0.5)
    server = kind(rng, price)
    run = complete_prompts(tmp_path, server, range(60), price=price, cap=cap)
    assert server.billed <= run.spent + 1e-9 <= cap + 1e-9
    assert "is reached" in exhausted(run)


def test_reasoning_counted_only_in_the_total_is_charged(tmp_path):
    server = server_with_usage(
        total_tokens=lambda usage, _: usage["prompt_tokens"] + usage["completion_tokens"] + 3000
    )
    run = complete_prompts(tmp_path, server, range(60), price=PRICE, cap=0.5)
    assert run.usage["completion_tokens"] >= 3000 * len(server.bodies) > 0
    assert run.spent <= 0.5
    assert "is reached" in exhausted(run)


def test_a_server_that_ignores_the_token_limit_is_recognized_by_its_first_reply(tmp_path):
    server = server_with_usage(completion_tokens=lambda usage, _: 10 * MAX_TOKENS)
    cost = 10 * MAX_COMPLETION_COST
    run = complete_prompts(tmp_path, server, range(60), price=PRICE, cap=0.5)
    assert 0.5 - 2 * cost < run.spent <= 0.5
    num_sent = len(server.bodies)
    complete_prompts(tmp_path, server, range(60), price=PRICE, cap=0.5)
    assert len(server.bodies) == num_sent
    # A later start remembers the overrun: four concurrent requests respect a cap with room for one.
    run = complete_prompts(tmp_path, server, range(60), price=PRICE, cap=0.5 + 1.5 * cost)
    assert len(server.bodies) == num_sent + 1
    assert "is reached" in exhausted(run)


def test_only_requests_in_flight_can_exceed_the_cap_and_the_message_explains_it(tmp_path):
    """The first replies respect the limit, so four requests are in flight when one does not."""
    server = server_with_usage(
        completion_tokens=lambda usage, index: (
            usage["completion_tokens"] if index < 6 else 40 * MAX_TOKENS
        )
    )
    run = complete_prompts(tmp_path, server, range(60), price=PRICE, cap=0.5)
    assert 0.5 < run.spent <= 0.5 + 4 * 40 * MAX_COMPLETION_COST
    assert len(server.bodies) <= 6 + 4
    message = exhausted(run)
    assert "was exceeded by $" in message and "40.0 times" in message and "\n" not in message


@pytest.mark.parametrize("tokens", [2**39, None])
def test_an_implausible_token_count_is_charged_at_the_worst_case(tmp_path, tokens):
    server = server_with_usage(completion_tokens=lambda *_: tokens)
    run = complete_prompts(tmp_path, server, range(12), price=PRICE, cap=1)
    assert run.usage["replies"] == 12
    assert MAX_COMPLETION_COST * len(server.bodies) <= run.spent <= 1


def test_a_cap_set_later_includes_what_was_spent_before(tmp_path):
    price = Price(100, 100, "test")
    server = SimulatedServer()
    first = complete_prompts(tmp_path, server)
    assert first.spent == 0, "no price was configured"
    run = complete_prompts(tmp_path, server, range(12, 60), price=price, cap=3)
    assert "is reached" in exhausted(run)
    tokens = run.usage["prompt_tokens"] + run.usage["completion_tokens"]
    assert run.spent == pytest.approx(tokens * 100 / 1e6) and run.spent <= 3


def test_an_attempt_lost_by_a_kill_is_charged_at_its_worst_case(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        Budget(ledger, PRICE, cap=1).reserve("key", build_prompt(0))
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        budget = Budget(ledger, PRICE, cap=1)
        budget.close_lost_attempts()
        assert MAX_COMPLETION_COST < budget.spent < 2 * MAX_COMPLETION_COST
        assert budget.reserved == 0
