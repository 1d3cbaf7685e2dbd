"""Replies of every server, also streamed ones, are parsed into text, errors and billed tokens."""

from __future__ import annotations

import json

import httpx2
import pytest
from support.simulated_teacher import SimulatedServer, build_reply, complete_prompts, is_reply

from code_alpaca.teacher.reply_parsing import (
    ParsedReply,
    assemble_stream,
    count_billed_tokens,
    find_error,
    parse_reply,
)


def chat(content, finish="stop", **more):
    return {"choices": [{"message": {"content": content}, "finish_reason": finish, **more}]}


# -- truncation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("finish", ["stop", "STOP", "eos_token", "stop_sequence", "end_turn"])
def test_a_complete_output_is_not_truncated(finish):
    assert not parse_reply(chat("text", finish)).truncated


@pytest.mark.parametrize(
    "finish",
    ["length", "max_tokens", "MAX_TOKENS", "model_length", "content_filter", "error", "abort",
     "unheard_of", "", None],
)  # fmt: skip
def test_any_other_finish_reason_means_truncated(finish):
    assert parse_reply(chat("text", finish)).truncated
    assert parse_reply({"choices": [{"text": "text", "finish_reason": finish}]}).truncated


def test_the_responses_api_reports_truncation_in_the_status():
    output = [{"type": "message", "content": [{"type": "output_text", "text": "text"}]}]
    assert parse_reply({"output": output, "status": "completed"}) == ParsedReply("text")
    for status in ("incomplete", "failed", "cancelled", None):
        reply = {"output": output, "status": status}
        assert parse_reply(reply) == ParsedReply("text", truncated=True)


# -- text ----------------------------------------------------------------------------------------


def test_typed_content_parts_are_joined_without_the_reasoning():
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Let me think."}]},
        {"type": "text", "text": "an "},
        {"type": "text", "text": "answer"},
    ]
    assert parse_reply(chat(parts)).text == "an answer"


TASKS = {"tasks": [{"instruction": "Add.", "output": "a + b"}]}


@pytest.mark.parametrize(
    "message",
    [
        {"content": TASKS},
        {"content": TASKS["tasks"]},
        {"content": {"type": "text", "text": json.dumps(TASKS)}},
        {"content": [{"type": "text", "text": None}, {"text": json.dumps(TASKS)}]},
        {"content": None, "tool_calls": [{"function": {"arguments": TASKS}}]},
        {"content": None, "tool_calls": [{"function": {"arguments": json.dumps(TASKS)}}]},
        {"content": None, "function_call": {"name": "tasks", "arguments": json.dumps(TASKS)}},
    ],
)
def test_output_that_the_server_parsed_as_json_is_serialized(message):
    for finish in ("stop", "tool_calls"):
        parsed = parse_reply({"choices": [{"message": message, "finish_reason": finish}]})
        assert json.loads(parsed.text) in (TASKS, TASKS["tasks"])
        assert parsed.readable and not parsed.truncated


def test_reasoning_in_the_text_is_removed():
    assert parse_reply(chat("<think>\na draft\n</think>\n\nanswer")).text == "answer"
    assert parse_reply(chat("a draft\n</think>\n\nanswer")).text == "answer"
    unfinished = parse_reply(chat("<think>\na draft", "length"))
    assert unfinished.text == "" and unfinished.truncated


@pytest.mark.parametrize(
    "body",
    [
        "service unavailable",
        None,
        [],
        [{"error": {"message": "no"}}],
        {"error": "overloaded"},
        {"error": {"message": "overloaded"}, "choices": None},
        {"error": {"message": "overloaded"}, "choices": []},
        {"choices": None},
        {"choices": []},
        {"choices": [None]},
        chat("", "error"),
        chat("", "stop", error={"code": 502, "message": "upstream"}),
        {"detail": "try later"},
    ],
)
def test_a_body_without_output_is_an_error(body):
    assert find_error(body) is not None


@pytest.mark.parametrize(
    "body",
    [
        chat("text"),
        chat(None, "length"),
        chat("half a te", "error", error={"message": "upstream"}),
        {**chat("half a te"), "error": {"message": "upstream"}},
        {"output": [], "status": "completed"},
    ],
)
def test_partial_text_and_an_empty_output_are_valid_replies(body):
    assert find_error(body) is None


def test_text_next_to_an_error_is_kept_as_truncated():
    parsed = parse_reply({**chat("half a te"), "error": {"message": "upstream"}})
    assert parsed.text == "half a te" and parsed.truncated and not parsed.refusal


# -- billed tokens -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "billed"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}, (10, 20)),
        ({"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 3030}, (10, 3020)),
        ({"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 5}, (10, 20)),
        ({"input_tokens": 10, "output_tokens": 20, "total_tokens": 99}, (10, 89)),
        (
            {"prompt_tokens": 10, "completion_tokens": 20,
             "completion_tokens_details": {"reasoning_tokens": 3000}},
            (10, 3020),
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 20,
             "completion_tokens_details": {"reasoning_tokens": 15}},
            (10, 20),
        ),
        ({"prompt_tokens": 10.0, "completion_tokens": 20.0}, (10, 20)),
        ({"prompt_tokens": 10, "completion_tokens": 2**39}, None),
        ({"prompt_tokens": True, "completion_tokens": True}, None),
        ({"prompt_tokens": "10", "completion_tokens": "20"}, None),
        ({"prompt_tokens": -1, "completion_tokens": 5}, None),
        ({"prompt_tokens": float("nan"), "completion_tokens": 1e300}, None),
        (None, None),
    ],
)  # fmt: skip
def test_the_largest_consistent_token_count_is_billed(counts, billed):
    assert count_billed_tokens({**chat("text"), "usage": counts}) == billed


@pytest.mark.parametrize(
    "usage", [{}, {"prompt_tokens": 9}, {"prompt_tokens": 0, "completion_tokens": 0}]
)
def test_missing_token_counts_are_unknown(usage):
    reply = {"choices": [{"message": {"content": "text"}}], "usage": usage}
    assert count_billed_tokens(reply) is None


def test_a_refusal_of_the_responses_api():
    refused = [{"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}]
    assert parse_reply({"output": refused}).refusal == "no"


# -- streams -------------------------------------------------------------------------------------


def stream(*chunks: dict) -> str:
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return ": a comment\n\n" + "".join(lines) + "data: [DONE]\n\n"


def test_a_streamed_chat_completion_is_assembled():
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    text = stream(
        {"choices": [{"index": 0, "delta": {"role": "assistant", "reasoning_content": "hm"}}]},
        {"choices": [{"index": 0, "delta": {"content": "an "}, "finish_reason": None}]},
        {"choices": [{"index": 1, "delta": {"content": "other"}}]},
        {"choices": [{"index": 0, "delta": {"content": "answer"}, "finish_reason": "stop"}]},
        {"choices": [], "usage": usage},
    )
    reply = assemble_stream(text)
    assert parse_reply(reply) == ParsedReply(text="an answer", reasoning="hm")
    assert count_billed_tokens(reply) == (3, 4)


def test_an_interrupted_stream_is_truncated():
    first_chunk = {"choices": [{"index": 0, "delta": {"content": "an "}}]}
    assert parse_reply(assemble_stream(stream(first_chunk))).truncated
    error = {"error": {"message": "overloaded", "code": 502}}
    assert parse_reply(assemble_stream(stream(first_chunk, error))).truncated
    assert find_error(assemble_stream(stream(error))) == error["error"]


def test_streams_of_the_other_apis():
    assert parse_reply(assemble_stream(stream({"choices": [{"text": "a"}]}))).text == "a"
    output = [{"type": "message", "content": [{"type": "output_text", "text": "done"}]}]
    last = {"type": "response.completed", "response": {"output": output, "status": "completed"}}
    assert parse_reply(assemble_stream(stream({"type": "response.created"}, last))).text == "done"
    assert assemble_stream("<html>Sign in</html>") is None
    assert assemble_stream("data: {broken") is None


def test_a_server_that_streams_without_being_asked_brings_replies(tmp_path):
    def respond(body, index):
        text = build_reply(body)["choices"][0]["message"]["content"]
        chunks = [
            {"choices": [{"index": 0, "delta": {"content": text[start : start + 500]}}]}
            for start in range(0, len(text), 500)
        ]
        return httpx2.Response(200, text=stream(*chunks))

    results = complete_prompts(tmp_path, SimulatedServer(respond)).results
    assert all(is_reply(result) and parse_reply(result).text for result in results)
