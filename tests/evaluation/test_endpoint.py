"""Completions of an endpoint: how they ended, and what a refused or malformed reply costs."""

from __future__ import annotations

import json

import pytest
from werkzeug import Request, Response

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

    def evaluate_server(respond, *words):
        def handle(request: Request) -> Response:
            message = request.get_json()["messages"][0]["content"]
            number = next(n for n, p in enumerate(PROBLEMS) if p.instruction in message)
            return respond(number)

        httpserver.clear()
        httpserver.expect_request("/v1/chat/completions").respond_with_handler(handle)
        code = run_eval("--base_url", httpserver.url_for("/v1"), "--model", "m", "--limit", "6",
                        "--batch_size", "16", *words)  # fmt: skip
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
    (make_reply(5), 200, "error"),
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


def test_a_parameter_that_the_endpoint_refuses_is_dropped(httpserver, run_eval, capsys):
    bodies = []

    def handle(request: Request) -> Response:
        bodies.append(body := request.get_json())
        if "temperature" not in body:
            return make_response(make_reply("x"))
        message = "Unsupported value: 'temperature' does not support 0.0 with this model."
        return make_response({"error": {"message": message, "param": "temperature"}}, 400)

    httpserver.expect_request("/v1/chat/completions").respond_with_handler(handle)
    url = httpserver.url_for("/v1")
    assert run_eval("--base_url", url, "--model", "m", "--limit", 4, "--batch_size", 1) == 0
    assert ["temperature" in body for body in bodies] == [True, False, False, False, False]
    assert "the server refuses temperature=0.0" in capsys.readouterr().out
    assert run_eval.results.sampling["temperature"] is None, "it was not greedy decoding"


def test_null_is_not_sent_and_extra_keys_and_headers_are(httpserver, run_eval):
    requests = []

    def handle(request: Request) -> Response:
        requests.append(request)
        return make_response(make_reply("x"))

    httpserver.expect_request("/v1/chat/completions").respond_with_handler(handle)
    words = ("--base_url", httpserver.url_for("/v1"), "--model", "m", "--limit", 1,
             "--temperature", "null", "--reasoning_effort", "low", "--extra_body", "{top_k: 20}",
             "--extra_headers", "{X-Team: a-secret-team}")  # fmt: skip
    assert run_eval(*words) == 0
    body = requests[0].get_json()
    assert "temperature" not in body
    assert (body["reasoning_effort"], body["top_k"], body["stream"]) == ("low", 20, False)
    assert requests[0].headers["X-Team"] == "a-secret-team"
    written = [path for path in run_eval.output_dir.rglob("*") if path.is_file()]
    assert not [path for path in written if b"a-secret-team" in path.read_bytes()]
    assert run_eval(*words) == 0 and len(requests) == 1, "completions are reused"


def test_an_endpoint_that_streams_and_one_that_sends_parts_are_read(httpserver, run_eval):
    chunks = [{"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]}]
    stream = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    replies = [
        stream,
        make_reply([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "x"}]),
    ]
    httpserver.expect_request("/v1/chat/completions").respond_with_handler(
        lambda request: make_response(replies.pop())
    )
    url = httpserver.url_for("/v1")
    assert run_eval("--base_url", url, "--model", "m", "--limit", 2, "--batch_size", 1) == 0
    assert [(row["completion"], row["finish_reason"]) for row in run_eval.rows] == [
        ("x", "stop")
    ] * 2


@pytest.mark.parametrize("words", [("--temperature", "null"), ("--extra_body", "{a: 1}")])
def test_keys_of_an_endpoint_are_refused_without_one(run_eval, capsys, words):
    assert run_eval("--model", "somewhere", *words) == 2
    assert "base_url" in capsys.readouterr().err
