"""Output format, token-limit key and streaming are negotiated once per run."""

from __future__ import annotations

from collections import Counter

import httpx2
import pytest
from support.simulated_teacher import (
    SimulatedServer,
    complete_prompts,
    error,
    is_reply,
    prompt_number,
)

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
