"""A refusal costs one request where it is about one prompt, and stops the run where it is not."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from support.chat_double import Script, ask, ledger_of, number_of, refuse, words
from werkzeug import Response

from code_alpaca.cli import main
from code_alpaca.core.errors import TeacherRefused
from code_alpaca.core.ledger import Ledger
from code_alpaca.teacher.error_classification import (
    ErrorKind,
    RequestFailure,
    classify_error,
    extract_error_code,
    extract_error_message,
)
from code_alpaca.teacher.failure_attribution import FailureAttribution
from code_alpaca.teacher.http_client import RequestStats
from code_alpaca.teacher.reply_parsing import (
    parse_reply,
)

LONG = {
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
}  # fmt: skip
MODERATED = {
    "openrouter": (403, {"error": {"code": 403, "message": "Your chosen model requires moderation "
        "and your input was flagged", "metadata": {"reasons": ["violence"]}}}),
    "azure": (400, {"error": {"code": "content_filter", "status": 400, "message": "The response "
        "was filtered due to the prompt triggering the content management policy."}}),
    "list": (400, [{"error": {"code": 400, "message": "Prompt was blocked: prohibited content"}}]),
}  # fmt: skip
PRICE = ["--price_per_mtok_input", "1", "--price_per_mtok_output", "1"]
UNKNOWN = {
    "in words of its own": (400, {"error": {"code": 400, "message": "nope"}}),
    "in no words": (422, {}),
    "in plain text": (400, "demande non conforme"),
}


def respond(status, body) -> Response:
    text = body if isinstance(body, str) else json.dumps(body)
    return Response(text, status, mimetype="application/json")


def is_answer(reply) -> bool:
    return isinstance(reply, dict) and "error" not in reply


# -- one prompt ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*LONG, *MODERATED, *UNKNOWN])
def test_a_prompt_that_is_always_refused_costs_its_request(httpserver, tmp_path, name):
    refusal = {**LONG, **MODERATED, **UNKNOWN}[name]
    odd = {1, 2, 7}
    script = Script(httpserver, lambda b, _: respond(*refusal) if number_of(b) in odd else None)
    replies = ask(tmp_path, script.url)
    assert [is_answer(reply) for reply in replies] == [n not in odd for n in range(12)]
    assert all(parse_reply(replies[n]).refusal for n in odd)
    assert len(script.bodies) == 12, "each was asked once"


def test_a_refused_prompt_brings_no_row_and_the_run_ends_well(httpserver, tmp_path):
    refusal = respond(*UNKNOWN["in no words"])
    script = Script(httpserver, lambda _, n: refusal if n % 3 == 1 else None)
    assert main(words(tmp_path, script.url)) == 0
    with ledger_of(tmp_path) as ledger:
        assert ledger.reasons()["refusal"] >= 1


def test_the_only_open_request_of_a_run_may_be_the_one_that_is_refused(httpserver, tmp_path):
    """Nothing else is asked, so no answer can tell; but an earlier start had some."""
    script = Script(httpserver, lambda b, _: respond(400, "nope") if number_of(b) == 5 else None)
    ask(tmp_path, script.url, range(5))
    (reply,) = ask(tmp_path, script.url, [5])
    assert parse_reply(reply).refusal == "nope"


@pytest.mark.parametrize("status", [400, 422])
def test_a_setting_that_every_request_is_refused_for_stops_the_run(
    httpserver, tmp_path, capsys, status
):
    script = Script(httpserver, lambda *_: refuse(status, "Unsupported parameter: 'top_p'"))
    assert main(words(tmp_path, script.url, *PRICE)) == 3
    error = capsys.readouterr().err
    assert "Unsupported parameter: 'top_p'" in error and error.count("\n") == 1
    assert len(script.bodies) <= 12
    with ledger_of(tmp_path) as ledger:
        assert ledger.usage()["replies"] == 0 and ledger.spent() == 0


def test_settings_that_a_resumed_run_is_refused_for_stop_it_too(httpserver, tmp_path):
    bad = refuse(400, "this model was retired")
    script = Script(httpserver, lambda b, _: bad if number_of(b) >= 12 else None)
    ask(tmp_path, script.url)
    replies = ask(tmp_path, script.url, range(12, 40))
    assert all(isinstance(reply, TeacherRefused) for reply in replies)
    assert "this model was retired" in str(replies[0])


@pytest.mark.parametrize("status", [400, 403])
def test_a_key_that_is_not_valid_is_named(httpserver, tmp_path, status):
    error = [{"error": {"code": status, "message": "API key not valid. Please pass a valid key."}}]
    script = Script(httpserver, lambda *_: respond(status, error))
    (refused,) = ask(tmp_path, script.url, [0])
    assert isinstance(refused, TeacherRefused) and "check OPENAI_API_KEY" in str(refused)


# -- one reply -----------------------------------------------------------------------------------


def rejected_reply() -> Response:
    said = "Failed to validate JSON. See 'failed_generation' for more details."
    return refuse(400, said, "json_validate_failed")


def test_a_reply_that_the_server_itself_rejects_is_asked_for_again(httpserver, tmp_path):
    script = Script(httpserver, lambda _, n: rejected_reply() if n % 4 == 1 else None)
    assert all(is_answer(reply) for reply in ask(tmp_path, script.url))
    assert all(body["response_format"]["type"] == "json_schema" for body in script.bodies)


def test_a_reply_that_the_server_rejected_may_have_been_billed(httpserver, tmp_path):
    script = Script(httpserver, lambda _, n: rejected_reply() if n == 1 else None)
    assert main(words(tmp_path, script.url, *PRICE)) == 0
    with ledger_of(tmp_path) as ledger:
        assert ledger.spent() > 4096 / 1e6


def test_a_prompt_whose_replies_are_always_rejected_costs_its_request(httpserver, tmp_path):
    script = Script(httpserver, lambda b, _: rejected_reply() if number_of(b) == 3 else None)
    replies = ask(tmp_path, script.url)
    assert [is_answer(reply) for reply in replies] == [n != 3 for n in range(12)]
    assert not parse_reply(replies[3]).readable
    assert len(script.bodies) == 11 + 3


# -- faults that stick to one prompt -------------------------------------------------------------


def test_a_request_that_fails_at_every_start_is_passed_over_at_the_second(httpserver, tmp_path):
    broken = Response("upstream broke", 500)
    script = Script(httpserver, lambda b, _: broken if number_of(b) == 5 else None)
    ask(tmp_path, script.url, range(5))
    (first,) = ask(tmp_path, script.url, [5])
    assert isinstance(first, TeacherRefused), "the server may be down"
    (second,) = ask(tmp_path, script.url, [5])
    assert not parse_reply(second).readable
    asked = len(script.bodies)
    assert ask(tmp_path, script.url, [5]) == [second] and len(script.bodies) == asked


FAULT = RequestFailure(ErrorKind.TRANSIENT, "upstream broke", 500)


@pytest.mark.parametrize(
    ("trouble", "others_answered", "blamed"),
    [
        (FAULT, 3, True),
        (FAULT, 0, False),
        (replace(FAULT, reached_server=False), 3, False),
        (replace(FAULT, kind=ErrorKind.OVERLOADED), 3, False),
    ],
)
def test_a_request_is_to_blame_if_others_are_answered(tmp_path, trouble, others_answered, blamed):
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        blame = FailureAttribution(
            ledger, RequestStats(answered=9 + others_answered), asyncio.Event()
        )
        assert blame.is_request_at_fault(1, trouble, answered_before=9) is blamed


# -- what a server cannot read -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (500, "[{'type': 'literal_error', 'loc': ('body', 'response_format', 'type'), 'msg': "
         "\"Input should be 'text' or 'json_object'\", 'input': 'json_schema'}]"),
        (400, 'Grammar error: Unimplemented keys: ["minItems"]'),
        (422, "body.response_format: value is not a valid enumeration member"),
    ],
)  # fmt: skip
def test_a_schema_that_is_refused_in_any_words_steps_down(httpserver, tmp_path, status, message):
    def answer(body, number):
        form = body.get("response_format", {}).get("type")
        return refuse(status, message) if form == "json_schema" else None

    script = Script(httpserver, answer)
    assert all(is_answer(reply) for reply in ask(tmp_path, script.url))
    assert script.bodies[-1]["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize("key", ["flagged_input", "input"])
def test_words_of_our_own_prompt_are_no_reason_to_step_down(httpserver, tmp_path, key):
    """A prompt about a JSON schema that is refused, in an error that repeats it."""
    refusal = respond(400, {"error": {"message": "nope", key: "a response_format with a schema"}})
    script = Script(httpserver, lambda b, _: refusal if number_of(b) == 3 else None)
    assert parse_reply(ask(tmp_path, script.url)[3]).refusal == "nope"
    assert all(body["response_format"]["type"] == "json_schema" for body in script.bodies)


def test_an_error_of_the_server_is_no_reason_to_step_down(httpserver, tmp_path):
    script = Script(
        httpserver,
        lambda _, n: refuse(500, "the schema of table jobs is locked") if n == 1 else None,
    )
    assert main(words(tmp_path, script.url)) == 0
    assert script.bodies[-1]["response_format"]["type"] == "json_schema"


def test_a_server_that_only_streams_is_asked_to(httpserver, tmp_path):
    def answer(body, number):
        return None if body.get("stream") else refuse(400, "This model only support stream mode")

    script = Script(httpserver, answer)
    assert all(is_answer(reply) for reply in ask(tmp_path, script.url))
    before = len(script.bodies)
    assert all(is_answer(reply) for reply in ask(tmp_path, script.url, range(12, 18)))
    assert all(body["stream"] for body in script.bodies[before:]), "it is remembered"


# -- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "message", "meaning"),
    [
        (
            400,
            None,
            "prompt is too long: 210000 tokens > 200000 maximum",
            ErrorKind.PROMPT_REJECTED,
        ),
        (400, "context_length_exceeded", "", ErrorKind.PROMPT_REJECTED),
        (
            400,
            "data_inspection_failed",
            "Input data may contain inappropriate",
            ErrorKind.PROMPT_REJECTED,
        ),
        (
            400,
            None,
            "max_tokens is too large: 4096; at most 2048 are supported",
            ErrorKind.AMBIGUOUS,
        ),
        (500, None, "Internal Server Error", ErrorKind.TRANSIENT),
        (502, None, "Bad gateway", ErrorKind.TRANSIENT),
        (429, None, "slow down", ErrorKind.OVERLOADED),
        (429, "insufficient_quota", "You exceeded your current quota", ErrorKind.FATAL),
        (403, None, "insufficient balance", ErrorKind.FATAL),
        (401, None, "no", ErrorKind.FATAL),
        (404, None, "no such model", ErrorKind.FATAL),
        (303, None, "", ErrorKind.FATAL),
    ],
)
def test_what_a_refusal_means(status, code, message, meaning):
    assert classify_error(status, code, message) is meaning


def test_errors_are_read_in_every_usual_form():
    assert extract_error_code({"error": {"code": 400, "message": "m"}}) == "400"
    assert extract_error_code({"code": None, "type": "insufficient_quota"}) == "insufficient_quota"
    assert extract_error_code("text") is None
    assert extract_error_message([{"error": {"message": "in a list"}}]) == "in a list"
    assert (
        extract_error_message({"detail": [{"msg": "missing"}]})
        == '{"detail": [{"msg": "missing"}]}'
    )
    assert extract_error_message({"error": "as text"}) == "as text"
    assert extract_error_message("two\nlines") == "two lines"
