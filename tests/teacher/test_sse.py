"""Streamed replies are assembled into the format of a reply without streaming."""

from __future__ import annotations

import json

import httpx2
from support.simulated_teacher import SimulatedServer, build_reply, complete_prompts, is_reply

from code_alpaca.teacher.reply_parsing import (
    ParsedReply,
    count_billed_tokens,
    find_error,
    parse_reply,
)
from code_alpaca.teacher.reply_parsing import assemble_stream


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
    assert parse_reply(reply) == ParsedReply(text="an answer")
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
