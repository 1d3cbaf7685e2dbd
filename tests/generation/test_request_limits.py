"""Requests are revised to fit a teacher's context length and the room that its reasoning needs."""

from __future__ import annotations

import itertools
import json

import pytest
from support.chat_double import ChatServer, generate_args, http_error, open_ledger
from support.generation_runs import read_rows
from support.simulated_teacher import build_reply
from werkzeug import Response

from code_alpaca.cli import main


def read_prompt(body):
    return body["messages"][0]["content"]


# -- reasoning -----------------------------------------------------------------------------------

NEEDED = 9_000  # tokens of a reply, reasoning included


def reasoning_reply(body, reasoning="Let me think.", **message):
    """Return a reply of a teacher that needs NEEDED tokens, or that ran out of them."""
    reply = build_reply(body)
    limit = body["max_completion_tokens"]
    reply["usage"]["completion_tokens"] = min(limit, NEEDED)
    content = reply["choices"][0]["message"]["content"]
    message = {"content": content, "reasoning_content": reasoning, **message}
    finish_reason = "stop"
    if limit < NEEDED:
        message["content"], finish_reason = None, "length"
    reply["choices"][0] |= {"message": message, "finish_reason": finish_reason}
    return Response(json.dumps(reply))


def test_the_limit_is_raised_once_if_replies_end_in_reasoning(httpserver, tmp_path, capsys):
    server = ChatServer(httpserver, lambda body, index: reasoning_reply(body))
    assert main(generate_args(tmp_path, server.url, rows=60)) == 0
    limits = [body["max_completion_tokens"] for body in server.bodies]
    assert set(limits) == {4096, 16384}
    assert limits.count(4096) <= 8, "the lookahead: then the raised limit is sent at once"
    notes = [line for line in capsys.readouterr().out.splitlines() if "16384" in line]
    assert len(notes) == 1 and "from request 8 on" in notes[0]
    with open_ledger(tmp_path) as ledger:
        usage = ledger.usage()
    assert usage["replies"] == len(server.bodies), "also replies without a response were billed"


def test_a_teacher_whose_reasoning_never_ends_is_asked_twice(httpserver, tmp_path):
    def respond(body, index):
        reply = {"message": {"content": "<think>Hm"}, "finish_reason": "length"}
        return Response(json.dumps({"choices": [reply]}))

    server = ChatServer(httpserver, respond)
    assert main(generate_args(tmp_path, server.url, "--patience", "4")) == 3
    asked = [read_prompt(body) for body in server.bodies]
    assert max(map(asked.count, asked)) == 2
    with open_ledger(tmp_path) as ledger:
        assert set(ledger.reasons()) == {"truncated"}


def test_a_filtered_reply_does_not_raise_the_limit(httpserver, tmp_path):
    def respond(body, index):
        reply = {"message": {"content": ""}, "finish_reason": "content_filter"}
        return Response(json.dumps({"choices": [reply]})) if index == 2 else None

    server = ChatServer(httpserver, respond)
    assert main(generate_args(tmp_path, server.url)) == 0
    assert {body["max_completion_tokens"] for body in server.bodies} == {4096}


def test_the_limit_is_not_raised_beyond_the_cap(httpserver, tmp_path):
    server = ChatServer(httpserver, lambda body, index: reasoning_reply(body))
    money = [
        "--price_per_mtok_input",
        "0",
        "--price_per_mtok_output",
        "10",
        "--max_cost_usd",
        "0.1",
    ]
    assert main(generate_args(tmp_path, server.url, *money)) == 3
    assert {body["max_completion_tokens"] for body in server.bodies} == {4096}
    with open_ledger(tmp_path) as ledger:
        assert ledger.spent() <= 0.1


def test_reasoning_is_kept_in_a_column_if_the_run_keeps_it(httpserver, tmp_path, without_plots):
    server = ChatServer(httpserver, lambda body, index: reasoning_reply(body, "Lists\0first."))
    for name, words in (("without", []), ("with", ["--keep_reasoning", "true"])):
        assert main(generate_args(tmp_path / name, server.url, *words)) == 0
    dataset = load_rows(tmp_path / "with/dataset")
    assert set(dataset["reasoning"]) == {"Lists\ufffdfirst."}
    plain = load_rows(tmp_path / "without/dataset")
    assert "reasoning" not in plain.column_names
    assert list(dataset["output"]) == list(plain["output"])
    assert "reasoning" in (tmp_path / "with/dataset/README.md").read_text()


def load_rows(folder):
    import datasets

    return datasets.load_dataset(str(folder), "default", split="train")


# -- context length ------------------------------------------------------------------------------

VLLM = (
    "This model's maximum context length is {length} tokens. However, you requested 9999 tokens. "
    "Please reduce the length of the messages or completion."
)
LLAMA = "request (9999 tokens) exceeds the available context size ({length} tokens), try increasing"
SERVERS = {
    "vllm": (400, VLLM),
    "llama.cpp": (400, LLAMA),
    "llama.cpp without a number": (500, "Context size has been exceeded."),
}


def count_context(body):
    """Return the tokens that a request needs: of its prompt and of the longest reply."""
    return len(read_prompt(body)) // 4 + body["max_completion_tokens"]


@pytest.mark.parametrize("name", SERVERS)
def test_a_prompt_that_the_teacher_refuses_as_too_long_shows_fewer_tasks(
    httpserver, tmp_path, capsys, name
):
    status, message = SERVERS[name]
    length = 2048

    def respond(body, index):
        prompt = len(read_prompt(body)) // 4
        too_long = count_context(body) > length if name == "vllm" else prompt > 900
        return http_error(status, message.format(length=length)) if too_long else None

    server = ChatServer(httpserver, respond)
    assert main(generate_args(tmp_path, server.url, rows=40)) == 0
    with open_ledger(tmp_path) as ledger:
        assert "refusal" not in ledger.reasons()
    later = [body for body in server.bodies if body["max_completion_tokens"] != 4096]
    assert later or name == "llama.cpp without a number"
    assert "did not fit the teacher" in capsys.readouterr().out


def test_the_context_length_that_a_server_reports_is_used_at_once(httpserver, tmp_path, capsys):
    def respond(body, index):
        too_long = count_context(body) > 2048
        return http_error(400, VLLM.format(length=2048)) if too_long else None

    models = {"data": [{"id": "org/model", "max_model_len": 2048}]}
    httpserver.expect_request("/v1/models").respond_with_json(models)
    server = ChatServer(httpserver, respond)
    assert main(generate_args(tmp_path, server.url)) == 0
    assert all(count_context(body) <= 2048 for body in server.bodies)
    assert "context length is 2048 tokens" in capsys.readouterr().out


def test_max_prompt_tokens_bounds_every_prompt(httpserver, tmp_path):
    server = ChatServer(httpserver, lambda body, index: None)
    assert main(generate_args(tmp_path, server.url, "--max_prompt_tokens", "800", rows=60)) == 0
    assert max(len(read_prompt(body).encode()) for body in server.bodies) <= 800 * 3


# -- determinism ---------------------------------------------------------------------------------


def respond_unevenly(body, index):
    """Refuse long prompts; think too long about some of the others."""
    if len(read_prompt(body)) > 3_000:
        return http_error(400, LLAMA.format(length=9_999))
    thinks = len(read_prompt(body)) % 3 == 0
    return reasoning_reply(body) if thinks else None


def test_revised_requests_make_the_same_dataset_at_any_concurrency(httpserver, tmp_path):
    server = ChatServer(httpserver, respond_unevenly)
    for concurrency in ("1", "8"):
        words = ["--max_concurrency", concurrency]
        assert main(generate_args(tmp_path / concurrency, server.url, *words, rows=40)) == 0
    assert read_rows(tmp_path / "1") == read_rows(tmp_path / "8")


def test_a_run_stopped_between_a_reply_and_its_revision_resumes_to_the_same_rows(
    httpserver, tmp_path
):
    server = ChatServer(httpserver, respond_unevenly)
    assert main(generate_args(tmp_path / "whole", server.url, rows=40)) == 0
    for stop_at in (3, 9):
        counter = itertools.count()

        def respond(body, index, counter=counter, stop_at=stop_at):
            invalid_key = http_error(401, "no", "invalid_api_key")
            return invalid_key if next(counter) == stop_at else respond_unevenly(body, index)

        httpserver.clear()
        server = ChatServer(httpserver, respond)
        run_dir = tmp_path / str(stop_at)
        assert main(generate_args(run_dir, server.url, rows=40)) == 3
        assert main(generate_args(run_dir, server.url, rows=40)) == 0
        assert read_rows(run_dir) == read_rows(tmp_path / "whole")
        answered = [json.dumps(body, sort_keys=True) for body in server.bodies]
        assert len(answered) - len(set(answered)) <= 4, "only requests in flight are sent again"


def test_the_same_run_extended_sends_nothing_that_was_answered(httpserver, tmp_path):
    server = ChatServer(httpserver, respond_unevenly)
    assert main(generate_args(tmp_path, server.url, rows=20)) == 0
    sent = len(server.bodies)
    assert main(generate_args(tmp_path, server.url, rows=20)) == 0
    assert len(server.bodies) == sent
