"""Completions of an endpoint: how they ended, and what a refused or malformed reply costs."""

from __future__ import annotations

import json

import pytest
from werkzeug import Request, Response

from code_alpaca.evaluation import endpoint
from code_alpaca.problems import load_problems

PROBLEMS = load_problems("mini")
NUMBERS = {problem.task_id: number for number, problem in enumerate(PROBLEMS)}
KEY = "sk-a-key-that-must-not-be-printed"


def make_reply(text, finish_reason="stop"):
    choice = {"index": 0, "finish_reason": finish_reason, "message": {"content": text}}
    return {"id": "1", "object": "chat.completion", "choices": [choice]}


def make_response(body, status=200):
    text = body if isinstance(body, str) else json.dumps(body)
    return Response(text, status=status, content_type="application/json")


@pytest.fixture
def evaluate(httpserver, run_eval, monkeypatch):
    """Evaluate a server that responds to a problem with `respond(number of the problem)`."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(endpoint, "MAX_RETRIES", 0)
    monkeypatch.setattr(endpoint, "RETRY_DELAY_S", 0.0)

    def evaluate_server(respond, *words):
        def handle(request: Request) -> Response:
            message = request.get_json()["messages"][0]["content"]
            number = next(n for n, p in enumerate(PROBLEMS) if p.instruction in message)
            return respond(number)

        httpserver.clear()
        httpserver.expect_request("/v1/chat/completions").respond_with_handler(handle)
        code = run_eval("--base_url", httpserver.url_for("/v1"), "--model", "m", "--limit", "6",
                        "--batch_size", "2", *words)  # fmt: skip
        return code, {NUMBERS[row["task_id"]]: row for row in run_eval.rows}

    return evaluate_server


def test_how_a_completion_ended_is_recorded_and_counted(evaluate, run_eval):
    replies = [
        make_reply("x", "stop"),
        make_reply("x", "length"),
        make_reply("", "stop"),
        make_reply(None, "content_filter"),
        make_reply("<think>Let me", "length"),
        make_reply("<think>a</think>x", "stop"),
    ]
    code, rows = evaluate(lambda n: make_response(replies[n]))
    assert code == 0
    assert [rows[n]["finish_reason"] for n in range(6)] == [
        "stop", "length", "stop", "content_filter", "length", "stop",
    ]  # fmt: skip
    answers = run_eval.results.answers
    assert (answers.truncated, answers.empty, answers.missing) == (3, 3, 0)


WITHOUT_COMPLETION = [
    ({"error": {"message": "maximum context length is 100 tokens"}}, 400, "refused"),
    ({"error": {"message": "flagged"}}, 403, "refused"),
    ({"choices": None}, 200, "error"),
    ({"choices": []}, 200, "error"),
    ({"error": {"message": "upstream"}}, 200, "error"),
    ({"choices": [{"message": None, "finish_reason": "stop", "index": 0}]}, 200, "error"),
    (make_reply([{"type": "text", "text": "x"}]), 200, "error"),
    ("not JSON", 200, "error"),
]


def test_a_reply_without_completion_costs_one_sample_and_not_the_run(evaluate, run_eval):
    bodies = [body for case in WITHOUT_COMPLETION for body in (case[:2], (make_reply("x"), 200))]
    code, rows = evaluate(lambda n: make_response(*bodies[n]), "--limit", len(bodies))
    assert code == 0
    for n, (_, _, reason) in enumerate(WITHOUT_COMPLETION):
        missing, complete = rows[2 * n], rows[2 * n + 1]
        assert (missing["finish_reason"], missing["completion"]) == (reason, "")
        assert missing["error"]
        assert (complete["finish_reason"], complete["completion"]) == ("stop", "x")
    assert run_eval.results.answers.missing == len(WITHOUT_COMPLETION)


def test_only_a_missing_completion_is_requested_again(evaluate, run_eval):
    evaluate(lambda n: make_response({"choices": []} if n == 1 else make_reply("x")))
    requested = []
    code, rows = evaluate(lambda n: requested.append(n) or make_response(make_reply("y")))
    assert code == 0 and requested == [1] and rows[1]["completion"] == "y"
    assert run_eval.results.answers.missing == 0


@pytest.mark.parametrize(
    ("status", "exit_code", "message"),
    [
        (400, 2, "completes no prompt"),
        (401, 2, "check OPENAI_API_KEY"),
        (404, 2, "check OPENAI_API_KEY, base_url and model"),
        (200, 3, "rerun the same command"),
    ],
)
def test_an_endpoint_that_completes_nothing_is_an_error_without_the_key(
    evaluate, capsys, status, exit_code, message
):
    body = {"error": {"message": f"not with {KEY}"}}
    code, rows = evaluate(lambda n: make_response(body, status))
    assert code == exit_code and not rows
    error = capsys.readouterr().err
    assert message in error and KEY not in error and len(error.strip().splitlines()) == 1
