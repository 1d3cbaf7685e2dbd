"""What a reply says, how much of it there is, and what it costs, whatever server wrote it."""

from __future__ import annotations

import json

import pytest
from support.chat_double import Script, ledger_of, reply_to, words
from werkzeug import Response

from code_alpaca.cli import main
from code_alpaca.teacher.reply_parsing import (
    ParsedReply,
    count_billed_tokens,
    find_error,
    parse_reply,
)
from code_alpaca.teacher.sse import assemble_stream


def chat(content, finish="stop", **more):
    return {"choices": [{"message": {"content": content}, "finish_reason": finish, **more}]}


# -- the end of an answer ------------------------------------------------------------------------


@pytest.mark.parametrize("finish", ["stop", "STOP", "eos_token", "stop_sequence", "end_turn"])
def test_an_answer_that_came_to_its_end_is_not_cut(finish):
    assert not parse_reply(chat("text", finish)).truncated


@pytest.mark.parametrize(
    "finish",
    ["length", "max_tokens", "MAX_TOKENS", "model_length", "content_filter", "error", "abort",
     "unheard_of", "", None],
)  # fmt: skip
def test_any_other_end_may_cut_the_answer(finish):
    assert parse_reply(chat("text", finish)).truncated
    assert parse_reply({"choices": [{"text": "text", "finish_reason": finish}]}).truncated


def test_the_responses_api_names_its_end_in_the_status():
    output = [{"type": "message", "content": [{"type": "output_text", "text": "text"}]}]
    assert not parse_reply({"output": output, "status": "completed"}).truncated
    for status in ("incomplete", "failed", "cancelled", None):
        assert parse_reply({"output": output, "status": status}).truncated


@pytest.mark.parametrize("finish", ["content_filter", None])
def test_complete_records_of_a_cut_reply_are_kept_and_the_last_is_truncated(
    httpserver, tmp_path, finish
):
    def answer(body, number):
        reply = reply_to(body)
        text = reply["choices"][0]["message"]["content"]
        reply["choices"][0].update(
            message={"content": text[: -len(text) // 8]}, finish_reason=finish
        )
        return Response(json.dumps(reply))

    script = Script(httpserver, answer)
    assert main(words(tmp_path, script.url, rows=8)) == 0
    with ledger_of(tmp_path) as ledger:
        assert ledger.reasons()["truncated"] >= 2
        assert "malformed" not in ledger.reasons()


# -- the text of an answer -----------------------------------------------------------------------


def test_typed_parts_are_joined_without_the_reasoning():
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
        {"content": None, "function_call": {"name": "tasks", "arguments": json.dumps(TASKS)}},
    ],
)
def test_json_that_the_server_has_parsed_is_read_as_text(message):
    answer = parse_reply({"choices": [{"message": message, "finish_reason": "stop"}]})
    assert json.loads(answer.text) in (TASKS, TASKS["tasks"])
    assert answer.readable and not answer.truncated


def test_reasoning_in_the_text_is_no_part_of_the_answer():
    assert parse_reply(chat("<think>\na draft\n</think>\n\nanswer")).text == "answer"
    assert parse_reply(chat("a draft\n</think>\n\nanswer")).text == "answer"
    unfinished = parse_reply(chat("<think>\na draft", "length"))
    assert unfinished.text == "" and unfinished.truncated


def test_an_answer_given_as_the_arguments_of_a_call():
    call = {"type": "function", "function": {"name": "tasks", "arguments": '{"tasks": []}'}}
    reply = chat(None, "tool_calls")
    reply["choices"][0]["message"]["tool_calls"] = [call]
    assert parse_reply(reply).text == '{"tasks": []}'


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
def test_a_success_without_an_answer_is_an_error(body):
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
def test_text_however_it_ended_and_silence_are_answers(body):
    assert find_error(body) is None


def test_text_beside_an_error_is_kept_as_cut():
    answer = parse_reply({**chat("half a te"), "error": {"message": "upstream"}})
    assert answer.text == "half a te" and answer.truncated and not answer.refusal


# -- streams -------------------------------------------------------------------------------------


def events(*chunks: dict) -> str:
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return ": a comment\n\n" + "".join(lines) + "data: [DONE]\n\n"


def test_a_streamed_chat_completion_is_put_together():
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    text = events(
        {"choices": [{"index": 0, "delta": {"role": "assistant", "reasoning_content": "hm"}}]},
        {"choices": [{"index": 0, "delta": {"content": "an "}, "finish_reason": None}]},
        {"choices": [{"index": 1, "delta": {"content": "other"}}]},
        {"choices": [{"index": 0, "delta": {"content": "answer"}, "finish_reason": "stop"}]},
        {"choices": [], "usage": usage},
    )
    reply = assemble_stream(text)
    assert parse_reply(reply) == ParsedReply(text="an answer")
    assert count_billed_tokens(reply) == (3, 4)


def test_a_stream_that_broke_off_is_cut_and_one_with_an_error_alone_is_one():
    begun = {"choices": [{"index": 0, "delta": {"content": "an "}}]}
    assert parse_reply(assemble_stream(events(begun))).truncated
    error = {"error": {"message": "overloaded", "code": 502}}
    assert parse_reply(assemble_stream(events(begun, error))).truncated
    assert find_error(assemble_stream(events(error))) == error["error"]


def test_other_streams_and_other_texts():
    assert parse_reply(assemble_stream(events({"choices": [{"text": "a"}]}))).text == "a"
    output = [{"type": "message", "content": [{"type": "output_text", "text": "done"}]}]
    last = {"type": "response.completed", "response": {"output": output, "status": "completed"}}
    assert parse_reply(assemble_stream(events({"type": "response.created"}, last))).text == "done"
    assert assemble_stream("<html>Sign in</html>") is None
    assert assemble_stream("data: {broken") is None


def test_a_server_that_streams_to_everyone_brings_rows(httpserver, tmp_path):
    def answer(body, number):
        text = reply_to(body)["choices"][0]["message"]["content"]
        chunks = [
            {"choices": [{"index": 0, "delta": {"content": text[at : at + 500]}}]}
            for at in range(0, len(text), 500)
        ]
        return Response(events(*chunks), mimetype="text/event-stream")

    assert main(words(tmp_path, Script(httpserver, answer).url)) == 0


# -- what is billed ------------------------------------------------------------------------------


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
def test_the_larger_of_what_a_server_counts_is_billed(counts, billed):
    assert count_billed_tokens({**chat("text"), "usage": counts}) == billed
