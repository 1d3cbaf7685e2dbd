"""What a server refuses is learned once per run, endpoint and model, and then not sent."""

from __future__ import annotations

import asyncio
from collections import Counter

import httpx2
import pytest
from support.simulated_teacher import (
    SimulatedServer,
    build_prompt,
    complete_prompts,
    error,
    is_reply,
    prompt_number,
    run_with_teacher,
)

from code_alpaca.core.ledger import Ledger
from code_alpaca.teacher.reply_parsing import parse_reply


def output_format(body):
    return body.get("response_format", {}).get("type")


def test_output_formats_are_negotiated_once_and_remembered(tmp_path):
    def respond(body, index):
        kind = output_format(body)
        return error(400, f"response_format {kind} is not supported") if kind else None

    server = SimulatedServer(respond)
    assert all(map(is_reply, complete_prompts(tmp_path, server, range(4)).results))
    counts = Counter(map(output_format, server.bodies))
    assert set(counts) == {"json_schema", "json_object", None}
    assert counts["json_schema"] <= 4 and counts["json_object"] <= 4, "in flight at once"
    before = len(server.bodies)
    complete_prompts(tmp_path, server, range(12, 24))
    assert all("response_format" not in body for body in server.bodies[before:])


def test_a_server_that_supports_only_max_tokens(tmp_path):
    def respond(body, index):
        if "max_completion_tokens" in body:
            return error(422, "Extra inputs are not permitted: max_completion_tokens")
        return None

    server = SimulatedServer(respond)
    assert all(map(is_reply, complete_prompts(tmp_path, server).results))
    assert server.bodies[-1]["max_tokens"] == 1500


def test_a_server_that_supports_only_streaming(tmp_path):
    def respond(body, index):
        return None if body.get("stream") else error(400, "This model only support stream mode")

    server = SimulatedServer(respond)
    assert all(map(is_reply, complete_prompts(tmp_path, server).results))
    before = len(server.bodies)
    assert all(map(is_reply, complete_prompts(tmp_path, server, range(12, 18)).results))
    assert all(body["stream"] for body in server.bodies[before:]), "it is remembered"


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (500, "[{'type': 'literal_error', 'loc': ('body', 'response_format', 'type'), 'msg': "
         "\"Input should be 'text' or 'json_object'\", 'input': 'json_schema'}]"),
        (400, 'Grammar error: Unimplemented keys: ["minItems"]'),
        (422, "body.response_format: value is not a valid enumeration member"),
    ],
    ids=["llama-cpp-python", "grammar", "pydantic"],
)  # fmt: skip
def test_a_rejected_schema_is_replaced_by_json_object(tmp_path, status, message):
    def respond(body, index):
        return error(status, message) if output_format(body) == "json_schema" else None

    server = SimulatedServer(respond)
    assert all(map(is_reply, complete_prompts(tmp_path, server).results))
    assert server.bodies[-1]["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize("key", ["flagged_input", "input"])
def test_an_error_that_repeats_the_prompt_changes_no_format(tmp_path, key):
    details = {"error": {"message": "nope", key: "a response_format with a schema"}}
    response = httpx2.Response(400, json=details)
    server = SimulatedServer(lambda body, _: response if prompt_number(body) == 3 else None)
    run = complete_prompts(tmp_path, server)
    assert parse_reply(run.results[3]).refusal == "nope"
    assert {output_format(body) for body in server.bodies} == {"json_schema"}


def test_a_server_error_about_a_database_schema_changes_no_format(tmp_path):
    response = error(500, "the schema of table jobs is locked")
    server = SimulatedServer(lambda body, index: response if index == 1 else None)
    assert all(map(is_reply, complete_prompts(tmp_path, server).results))
    assert {output_format(body) for body in server.bodies} == {"json_schema"}


# -- parameters ----------------------------------------------------------------------------------


def complete_with(tmp_path, server, numbers=range(6), **extra):
    """Request replies to numbered prompts whose bodies have more keys."""

    async def scenario(teacher):
        bodies = [(number, build_prompt(number) | extra) for number in numbers]
        calls = [teacher.complete(number, body, {}, []) for number, body in bodies]
        return [reply for _, reply in await asyncio.gather(*calls)]

    return run_with_teacher(tmp_path, server, scenario)


UNSUPPORTED = [
    ("top_p", 400, "Unsupported parameter: 'top_p' is not supported with this model."),
    ("temperature", 400, "Unsupported value: 'temperature' does not support 1.0 with this model. "
     "Only the default (1) value is supported."),
    ("temperature", 400, "`temperature` is deprecated for this model."),
    ("temperature", 422, "temperature: Input should be less than or equal to 1.0"),
    ("top_p", 400, "`temperature` and `top_p` cannot both be specified for this model. Please use "
     "only one."),
    ("top_p", 500, "1 validation error: body.top_p, extra fields not permitted"),
    ("stop", 400, "Model grok-4 does not support parameter stop."),
    ("stop", 400, "Argument not supported on this model: presencePenalty, stop"),
    ("stop", 400, "Unsupported parameter: 'stop' is not supported with this model."),
    ("seed", 422, "[{'type': 'extra_forbidden', 'loc': ['body', 'seed'], 'msg': 'Extra inputs are "
     "not permitted'}]"),
    ("n", 400, "'n' must be 1 for this model; other values are not supported"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "status", "message"), UNSUPPORTED)
def test_a_refused_parameter_is_dropped_and_reported_once(tmp_path, capsys, key, status, message):
    server = SimulatedServer(lambda body, _: error(status, message) if key in body else None)
    optional = {"stop": ["###"], "seed": 3, "n": 1}
    run = complete_with(tmp_path, server, **optional)
    assert all(map(is_reply, run.results))
    kept = build_prompt(0).keys() | optional.keys()
    assert server.bodies[-1].keys() - {"stream"} == kept - {key}
    lines = [line for line in capsys.readouterr().out.splitlines() if "refuses" in line]
    assert len(lines) == 1 and f"the server refuses {key}=" in lines[0]
    before = len(server.bodies)
    complete_with(tmp_path, server, range(6, 9), **optional)
    assert all(key not in body for body in server.bodies[before:]), "it is remembered"


def test_a_parameter_is_found_by_the_field_that_names_it(tmp_path):
    details = {"message": "Unknown parameter. Use max_completion_tokens.", "param": "top_p"}
    refusal = httpx2.Response(400, json={"error": details})
    server = SimulatedServer(lambda body, _: refusal if "top_p" in body else None)
    assert all(map(is_reply, complete_prompts(tmp_path, server).results))
    assert "top_p" not in server.bodies[-1] and "max_completion_tokens" in server.bodies[-1]


@pytest.mark.parametrize(
    "message",
    [
        "max_tokens is too large: 1500. This model supports at most 1024 completion tokens, "
        "whereas you provided 1500.",
        "Invalid max_tokens value, the valid range of max_tokens is [1, 1024]",
        "`max_tokens` must be less than or equal to `1024`, the maximum value for `max_tokens` is "
        "less than the `context_window` for this model",
        "max_tokens: 1500 > 1024, which is the maximum allowed number of output tokens for "
        "claude-3-5-haiku-20241022",
    ],
)
def test_a_token_limit_above_the_models_maximum_is_lowered(tmp_path, message):
    def respond(body, index):
        return error(400, message) if body["max_completion_tokens"] > 1024 else None

    server = SimulatedServer(respond)
    assert all(map(is_reply, complete_prompts(tmp_path, server).results))
    assert server.bodies[-1]["max_completion_tokens"] == 1024


def test_thinking_is_turned_off_where_even_a_stream_may_not_think(tmp_path):
    def respond(body, index):
        refusal = "parameter.enable_thinking must be set to false for non-streaming calls"
        return error(400, refusal) if body.get("enable_thinking") is not False else None

    server = SimulatedServer(respond)
    assert all(map(is_reply, complete_prompts(tmp_path, server).results))
    before = len(server.bodies)
    complete_prompts(tmp_path, server)
    assert len(server.bodies) == before


def test_another_model_gets_the_complete_request(tmp_path):
    def respond(body, index):
        old = body["model"] == "model"
        return error(400, "Unsupported parameter: 'top_p'") if old and "top_p" in body else None

    server = SimulatedServer(respond)
    complete_with(tmp_path, server)
    complete_with(tmp_path, server, range(6, 8), model="another")
    assert "top_p" not in server.bodies[-3] and "top_p" in server.bodies[-1]


def test_what_was_answered_before_a_refusal_is_not_sent_again(tmp_path):
    """A router: the first requests reach a model that takes temperature, the others do not."""

    def respond(body, index):
        refused = index >= 4 and "temperature" in body
        return error(400, "`temperature` is deprecated for this model.") if refused else None

    server = SimulatedServer(respond)
    first = complete_prompts(tmp_path, server).results
    before = len(server.bodies)
    assert complete_prompts(tmp_path, server).results == first
    assert len(server.bodies) == before


def test_a_moderated_prompt_that_names_a_parameter_is_only_skipped(tmp_path):
    refusal = error(400, "flagged by the content policy: temperature is not allowed here")
    server = SimulatedServer(lambda body, _: refusal if prompt_number(body) == 3 else None)
    run = complete_prompts(tmp_path, server)
    assert "flagged" in parse_reply(run.results[3]).refusal
    assert all("temperature" in body for body in server.bodies)


def test_requests_ask_for_no_stream_which_is_not_part_of_their_key(tmp_path):
    server = SimulatedServer()
    complete_prompts(tmp_path, server)
    assert all(body["stream"] is False for body in server.bodies)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert "stream" not in ledger.answered(0)[0]
