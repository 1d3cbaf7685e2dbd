"""A failure caused by one prompt skips one request; a failure of the server stops the run."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import httpx2
import pytest
from support.simulated_teacher import (
    SimulatedServer,
    complete_prompts,
    error,
    is_reply,
    prompt_number,
)

from code_alpaca.core.errors import TeacherRefused
from code_alpaca.core.ledger import Ledger
from code_alpaca.teacher.error_classification import ErrorKind, RequestFailure
from code_alpaca.teacher.failure_attribution import FailureAttribution
from code_alpaca.teacher.http_client import RequestStats
from code_alpaca.teacher.prices import Price
from code_alpaca.teacher.reply_parsing import parse_reply

TOO_LONG = {
    "vllm": (400, {"object": "error", "code": 400, "type": "BadRequestError", "message":
        "This model's maximum context length is 4096 tokens. However, you requested 6472 tokens "
        "(2376 in the messages, 4096 in the completion). Please reduce the length."}),
    "llama.cpp": (400, {"error": {"code": 400, "type": "exceed_context_size_error", "message":
        "request (4390 tokens) exceeds the available context size (4096 tokens)"}}),
    "llama.cpp, late": (500, {"error": {"code": 500, "message": "Context size has been exceeded.",
        "type": "server_error"}}),
    "tgi": (422, {"error_type": "validation", "error": "Input validation error: `inputs` tokens + "
        "`max_new_tokens` must be <= 4096. Given: 904 `inputs` tokens"}),
    "proxy": (413, {"message": "Request Entity Too Large"}),
    "openai": (400, {"error": {"code": "context_length_exceeded", "message": "this one not"}}),
    "openai, prompt": (400, {"error": {"code": "invalid_prompt", "message": "this one not"}}),
}  # fmt: skip
MODERATED = {
    "openrouter": (403, {"error": {"code": 403, "message": "Your chosen model requires moderation "
        "and your input was flagged", "metadata": {"reasons": ["violence"]}}}),
    "azure": (400, {"error": {"code": "content_filter", "status": 400, "message": "The response "
        "was filtered due to the prompt triggering the content management policy."}}),
    "list": (400, [{"error": {"code": 400, "message": "Prompt was blocked: prohibited content"}}]),
}  # fmt: skip
UNKNOWN = {
    "unknown message": (400, {"error": {"code": 400, "message": "nope"}}),
    "no message": (422, {}),
    "plain text": (400, "demande non conforme"),
}
PRICE = Price(1, 1, "test")


def respond_with(status, body) -> httpx2.Response:
    content = {"text": body} if isinstance(body, str) else {"json": body}
    return httpx2.Response(status, **content)


# -- one prompt ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*TOO_LONG, *MODERATED, *UNKNOWN])
def test_a_rejected_prompt_skips_its_request(tmp_path, name):
    response = respond_with(*{**TOO_LONG, **MODERATED, **UNKNOWN}[name])
    rejected = {1, 2, 7}
    server = SimulatedServer(lambda body, _: response if prompt_number(body) in rejected else None)
    results = complete_prompts(tmp_path, server).results
    assert [is_reply(result) for result in results] == [n not in rejected for n in range(12)]
    assert all(parse_reply(results[n]).refusal for n in rejected)
    assert len(server.bodies) == 12, "no request is retried"


def test_the_only_open_request_may_be_the_rejected_one(tmp_path):
    """No other request can show that the server works, but an earlier start got replies."""
    server = SimulatedServer(
        lambda body, _: error(400, "nope") if prompt_number(body) == 5 else None
    )
    complete_prompts(tmp_path, server, range(5))
    (result,) = complete_prompts(tmp_path, server, [5]).results
    assert parse_reply(result).refusal == "nope"


@pytest.mark.parametrize("status", [400, 422])
def test_a_parameter_that_is_rejected_in_every_request_stops_the_run(tmp_path, status):
    server = SimulatedServer(lambda *_: error(status, "Unsupported parameter: 'top_k'"))
    run = complete_prompts(tmp_path, server, range(12), price=PRICE, cap=None)
    assert all(isinstance(result, TeacherRefused) for result in run.results)
    message = str(run.results[0])
    assert "Unsupported parameter: 'top_k'" in message and "\n" not in message
    assert len(server.bodies) <= 12
    assert run.usage["replies"] == 0 and run.spent == 0


def test_a_resumed_run_stops_if_every_request_is_rejected(tmp_path):
    retired = error(400, "this model was retired")
    server = SimulatedServer(lambda body, _: retired if prompt_number(body) >= 12 else None)
    complete_prompts(tmp_path, server)
    results = complete_prompts(tmp_path, server, range(12, 40)).results
    assert all(isinstance(result, TeacherRefused) for result in results)
    assert "this model was retired" in str(results[0])


@pytest.mark.parametrize("status", [400, 403])
def test_an_invalid_api_key_is_recognized_by_its_message(tmp_path, status):
    body = [{"error": {"code": status, "message": "API key not valid. Please pass a valid key."}}]
    server = SimulatedServer(lambda *_: respond_with(status, body))
    (refused,) = complete_prompts(tmp_path, server, [0]).results
    assert isinstance(refused, TeacherRefused) and "check OPENAI_API_KEY" in str(refused)


# -- one output ----------------------------------------------------------------------------------

INVALID_OUTPUT = error(
    400,
    "Failed to validate JSON. See 'failed_generation' for more details.",
    "json_validate_failed",
)


def test_an_output_that_the_server_rejects_is_generated_again(tmp_path):
    server = SimulatedServer(lambda _, index: INVALID_OUTPUT if index % 4 == 1 else None)
    assert all(map(is_reply, complete_prompts(tmp_path, server).results))
    assert all(body["response_format"]["type"] == "json_schema" for body in server.bodies)


def test_an_output_that_the_server_rejects_may_be_billed(tmp_path):
    server = SimulatedServer(lambda _, index: INVALID_OUTPUT if index == 1 else None)
    run = complete_prompts(tmp_path, server, price=PRICE)
    reported = (run.usage["prompt_tokens"] + run.usage["completion_tokens"]) / 1e6
    assert run.spent > reported + 1500 / 1e6


def test_a_prompt_whose_outputs_are_always_rejected_skips_its_request(tmp_path):
    server = SimulatedServer(lambda body, _: INVALID_OUTPUT if prompt_number(body) == 3 else None)
    results = complete_prompts(tmp_path, server).results
    assert [is_reply(result) for result in results] == [n != 3 for n in range(12)]
    assert not parse_reply(results[3]).readable
    assert len(server.bodies) == 11 + 3


# -- failures of one request ---------------------------------------------------------------------


def test_a_request_that_fails_at_two_starts_is_skipped(tmp_path):
    broken = httpx2.Response(500, text="upstream broke")
    server = SimulatedServer(lambda body, _: broken if prompt_number(body) == 5 else None)
    complete_prompts(tmp_path, server, range(5))
    (first,) = complete_prompts(tmp_path, server, [5]).results
    assert isinstance(first, TeacherRefused), "the server may be down"
    (second,) = complete_prompts(tmp_path, server, [5]).results
    assert not parse_reply(second).readable
    num_sent = len(server.bodies)
    assert complete_prompts(tmp_path, server, [5]).results == [second]
    assert len(server.bodies) == num_sent


def test_an_outage_over_several_starts_skips_no_request(tmp_path):
    """Every request fails, so none of them is at fault."""
    down = error(500, "upstream broke")
    server = SimulatedServer(lambda body, _: down if prompt_number(body) >= 4 else None)
    complete_prompts(tmp_path, server, range(4))
    for _ in range(3):
        results = complete_prompts(tmp_path, server, range(4, 12)).results
        assert all(isinstance(result, TeacherRefused) for result in results)
    server.respond = lambda *_: None
    assert all(map(is_reply, complete_prompts(tmp_path, server).results))


FAILURE = RequestFailure(ErrorKind.TRANSIENT, "upstream broke", 500)


@pytest.mark.parametrize(
    ("failure", "answered_meanwhile", "at_fault"),
    [
        (FAILURE, 3, True),
        (FAILURE, 0, False),
        (replace(FAILURE, reached_server=False), 3, False),
        (replace(FAILURE, kind=ErrorKind.OVERLOADED), 3, False),
    ],
)
def test_a_request_is_at_fault_if_others_succeed(tmp_path, failure, answered_meanwhile, at_fault):
    stats = RequestStats(answered=9)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        attribution = FailureAttribution(ledger, stats, asyncio.Event())
        attribution.record_failure(1)
        stats.answered += answered_meanwhile
        assert attribution.is_request_at_fault(1, failure) is at_fault
