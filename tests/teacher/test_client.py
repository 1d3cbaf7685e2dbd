"""The client retries transient failures, waits for overloaded servers and stops at fatal errors.

Servers and time are simulated; `test_commands.py` runs `generate` against servers on loopback.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import replace

import httpx2
import pytest
from support.simulated_teacher import (
    SETTINGS,
    SimulatedServer,
    build_prompt,
    complete_prompts,
    drip,
    error,
    is_reply,
    prompt_number,
    reply,
    run_with_teacher,
)

from code_alpaca.core.errors import InputError, TeacherRefused
from code_alpaca.core.ledger import Ledger
from code_alpaca.teacher.client import Teacher

# -- errors that stop the run --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "advice"),
    [
        (error(401, "no", "invalid_api_key"), "check OPENAI_API_KEY"),
        (error(402, "pay"), "top up the account"),
        (error(403, "no"), "check the permissions of this API key"),
        (error(404, "no", "model_not_found"), "check teacher_model"),
        (error(429, "no", "insufficient_quota"), "top up the account"),
        (httpx2.Response(307, headers={"location": "/v1"}), "check teacher_base_url"),
    ],
)
def test_a_fatal_error_is_not_retried(tmp_path, response, advice):
    server = SimulatedServer(lambda body, index: response)
    refused = complete_prompts(tmp_path, server, range(4)).results
    assert all(isinstance(result, TeacherRefused) and advice in str(result) for result in refused)
    assert "\n" not in str(refused[0])
    assert len(server.bodies) == 4


def test_a_rejected_api_key_does_not_wait_for_slower_requests(tmp_path):
    server = SimulatedServer(
        lambda body, index: error(401, "no such key") if prompt_number(body) == 1 else None,
        latency=lambda received: 0.5 if prompt_number(received.body) == 1 else 8,
    )

    async def stop_at_first_error(teacher):
        calls = [asyncio.create_task(teacher.complete(n, build_prompt(n), {}, [])) for n in (0, 1)]
        done, pending = await asyncio.wait(calls, return_when=asyncio.FIRST_EXCEPTION)
        stopped_at = asyncio.get_running_loop().time()
        teacher.stop_sending()
        await asyncio.wait(pending)
        return stopped_at, [call.exception() for call in done]

    run = run_with_teacher(tmp_path, server, stop_at_first_error)
    stopped_at, (refused,) = run.results
    assert isinstance(refused, TeacherRefused) and stopped_at < 1
    assert run.usage["replies"] == 1, "the slower reply is recorded when it arrives"


def test_an_api_key_that_is_not_ascii_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k\u00e9y")
    with (
        Ledger(tmp_path / "ledger.sqlite") as ledger,
        pytest.raises(InputError, match="not allowed in an HTTP header"),
    ):
        Teacher(["https://127.0.0.1:1/v1"], SETTINGS, ledger=ledger, budget=None)


# -- transient failures --------------------------------------------------------------------------


FAULTY = {
    "error with status 200": httpx2.Response(200, json={"error": {"message": "overloaded"}}),
    "no choices": httpx2.Response(200, json={"choices": None, "usage": {}}),
    "web page": httpx2.Response(200, text="<html>Sign in</html>"),
    "status 500": httpx2.Response(500, text="upstream broke"),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_a_failed_attempt_is_retried(tmp_path, fault):
    server = SimulatedServer(lambda body, index: FAULTY[fault] if index == 1 else None)
    run = complete_prompts(tmp_path, server)
    assert all(map(is_reply, run.results)) and len(server.bodies) == 13


@pytest.mark.parametrize("fault", ["no choices", "web page"])
def test_a_server_that_never_sends_a_valid_reply_stops_the_run(tmp_path, fault):
    server = SimulatedServer(lambda body, index: FAULTY[fault])
    (refused,) = complete_prompts(tmp_path, server, [0]).results
    assert isinstance(refused, TeacherRefused) and "does not answer" in str(refused)


def test_a_body_that_never_completes_is_a_timeout(tmp_path):
    server = SimulatedServer(lambda body, index: httpx2.Response(200, content=drip(0.1)))
    settings = replace(SETTINGS, timeout_s=0.3)
    run = complete_prompts(tmp_path, server, [0], settings=settings)
    assert "does not answer" in str(run.results[0])
    assert run.seconds < 15


# -- overload ------------------------------------------------------------------------------------


def test_a_429_pauses_all_requests_for_its_retry_after(tmp_path):
    def respond(body, index):
        return error(429, "slow down", **{"Retry-After": "30"}) if index == 2 else None

    server = SimulatedServer(respond)
    run = complete_prompts(tmp_path, server, range(20))
    assert all(map(is_reply, run.results))
    rejected_at = server.times[2] + 0.5
    late = [time for time in server.times if time > rejected_at]
    assert late and min(late) >= rejected_at + 30


@pytest.mark.parametrize("status", [429, 503, 529])
def test_waiting_for_an_overloaded_server_does_not_count_as_a_failure(tmp_path, status):
    """One request is rejected more often in a row than a failing request has attempts."""
    busy = error(status, "slow down", **{"Retry-After": "0.02"})
    server = SimulatedServer(lambda body, index: busy if 1 <= index < 40 else None)
    run = complete_prompts(tmp_path, server)
    assert all(map(is_reply, run.results))
    assert run.stats.rejected == 39


def test_a_retry_after_of_zero_still_backs_off(tmp_path):
    busy = error(429, "x", **{"Retry-After": "0"})
    server = SimulatedServer(lambda body, index: busy if index < 8 else None)
    settings = replace(SETTINGS, max_concurrency=1)
    assert is_reply(complete_prompts(tmp_path, server, [0], settings=settings).results[0])
    assert server.times[8] - server.times[0] > 8 * 0.5 + 0.5, "more than the latency of eight 429s"


# -- rate limits ---------------------------------------------------------------------------------


def test_requests_per_minute_space_the_requests(tmp_path):
    server = SimulatedServer()
    settings = replace(SETTINGS, requests_per_minute=300)
    run = complete_prompts(tmp_path, server, range(60), settings=settings)
    assert all(map(is_reply, run.results))
    assert server.times[-1] > 58 * 60 / 300


def test_rate_limits_are_read_from_the_response_headers(tmp_path):
    limit = {"x-ratelimit-limit-requests": "240"}
    server = SimulatedServer(lambda body, index: reply(body, **limit))
    complete_prompts(tmp_path, server, range(60))
    gaps = [
        after - before for before, after in zip(server.times[6:], server.times[7:], strict=False)
    ]
    assert min(gaps) > 0.2, "four requests per second"


def test_tokens_per_minute_include_the_reply(tmp_path):
    server = SimulatedServer()
    settings = replace(SETTINGS, tokens_per_minute=6000)
    run = complete_prompts(tmp_path, server, range(12), settings=settings)
    tokens = run.usage["prompt_tokens"] + run.usage["completion_tokens"]
    assert server.times[-1] > 0.7 * tokens / 6000 * 60


# -- several servers -----------------------------------------------------------------------------

TWO_SERVERS = ("http://127.0.0.1/v1", "http://localhost/v1")


def test_the_server_with_the_fewest_requests_in_flight_is_preferred(tmp_path):
    server = SimulatedServer(latency=lambda received: 0.4 if received.host == "localhost" else 0.02)
    complete_prompts(tmp_path, server, range(60), base_urls=TWO_SERVERS)
    counts = Counter(received.host for received in server.received)
    assert counts["127.0.0.1"] > 2 * counts["localhost"] > 0


def test_a_dead_server_among_several_is_paused(tmp_path):
    class OneDeadServer(SimulatedServer):
        async def handle_async_request(self, request):
            if request.url.host == "localhost":
                raise httpx2.ConnectError("connection refused")
            return await super().handle_async_request(request)

    run = complete_prompts(tmp_path, OneDeadServer(), range(40), base_urls=TWO_SERVERS)
    assert all(map(is_reply, run.results))
    assert run.stats.retried < 20


# -- the ledger ----------------------------------------------------------------------------------


def test_equal_prompts_keep_their_replies_while_the_output_format_is_negotiated(tmp_path):
    """All prompts are equal, sent again in another format, and answered in a random order."""
    rng = random.Random(0)

    def respond(body, index):
        output_format = body["response_format"]["type"]
        return error(400, "response_format json_schema") if output_format == "json_schema" else None

    async def complete_equal_prompts(teacher):
        calls = [teacher.complete(number, build_prompt(1), {}, []) for number in range(20)]
        return await asyncio.gather(*calls)

    server = SimulatedServer(respond, latency=lambda received: rng.uniform(0, 1))
    run = run_with_teacher(tmp_path, server, complete_equal_prompts)
    paid = [body for body in server.bodies if body["response_format"]["type"] != "json_schema"]
    assert run.usage["replies"] == len(paid) == 20, "no paid reply is lost"
    assert len({key for key, _ in run.results}) == 20
    with Ledger(tmp_path / "ledger.sqlite", write=False) as ledger:
        assert all(ledger.answered(number) for number in range(20))
    again = run_with_teacher(tmp_path, server, complete_equal_prompts)
    assert again.results == run.results, "the second start reads every reply from the ledger"
