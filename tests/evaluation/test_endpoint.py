"""An endpoint's answers: how they ended, and what a refused or broken reply costs."""

from __future__ import annotations

import json

import pytest
from werkzeug import Request, Response

from code_alpaca.cli import main
from code_alpaca.problems import load_problems

PROBLEMS = load_problems("mini")
KEY = "sk-a-key-that-must-not-be-printed"


def reply(text, finish="stop", **message):
    choice = {"index": 0, "finish_reason": finish, "message": {"content": text, **message}}
    return {"id": "1", "object": "chat.completion", "choices": [choice]}


def respond(body, status=200):
    text = body if isinstance(body, str) else json.dumps(body)
    return Response(text, status=status, content_type="application/json")


@pytest.fixture
def ask(httpserver, tmp_path, monkeypatch):
    """Evaluate against a server that answers each problem by `answers(number of the problem)`."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def run(answers, *more):
        def handle(request: Request) -> Response:
            words = request.get_json()["messages"][0]["content"]
            number = next(n for n, p in enumerate(PROBLEMS) if p.instruction in words)
            return answers(number)

        httpserver.expect_request("/v1/chat/completions").respond_with_handler(handle)
        code = main(["eval", "--base_url", httpserver.url_for("/v1"), "--model", "m",
                     "--limit", "6", "--batch_size", "2",
                     "--output_dir", str(tmp_path), *more])  # fmt: skip
        lines = (tmp_path / "samples.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines if line]
        return code, {PROBLEMS.index(_problem(row)): row for row in rows}

    run.results = lambda: json.loads((tmp_path / "results.json").read_text())
    run.server = httpserver
    return run


def _problem(row):
    return next(problem for problem in PROBLEMS if problem.task_id == row["task_id"])


def test_how_an_answer_ended_is_kept_and_counted(ask):
    bodies = [
        reply("x", "stop"), reply("x", "length"), reply("", "stop"), reply(None, "content_filter"),
        reply("<think>Let me", "length"), reply("<think>a</think>x", "stop"),
    ]  # fmt: skip
    code, rows = ask(lambda n: respond(bodies[n]))
    assert code == 0
    assert [rows[n]["finish_reason"] for n in range(6)] == [
        "stop", "length", "stop", "content_filter", "length", "stop",
    ]  # fmt: skip
    answers = ask.results()["answers"]
    assert (answers["truncated"], answers["empty"], answers["missing"]) == (3, 3, 0)


WITHOUT_AN_ANSWER = [
    ({"error": {"message": "maximum context length is 100 tokens"}}, 400, "refused"),
    ({"error": {"message": "flagged"}}, 403, "refused"),
    ({"choices": None}, 200, "error"),
    ({"choices": []}, 200, "error"),
    ({"error": {"message": "upstream"}}, 200, "error"),
    ({"choices": [{"message": None, "finish_reason": "stop", "index": 0}]}, 200, "error"),
    (reply([{"type": "text", "text": "x"}]), 200, "error"),
    ("no JSON", 200, "error"),
]


def test_a_reply_without_an_answer_costs_that_answer_and_not_the_run(ask):
    bodies = [body for case in WITHOUT_AN_ANSWER for body in (case[:2], (reply("x"), 200))]
    code, rows = ask(lambda n: respond(*bodies[n]), "--limit", str(len(bodies)))
    assert code == 0
    for n, (_, _, reason) in enumerate(WITHOUT_AN_ANSWER):
        bad, good = rows[2 * n], rows[2 * n + 1]
        assert (bad["finish_reason"], bad["completion"]) == (reason, "") and bad["error"]
        assert (good["finish_reason"], good["completion"]) == ("stop", "x")
    assert ask.results()["answers"]["missing"] == len(WITHOUT_AN_ANSWER)


def test_an_answer_that_was_missing_is_asked_for_again_and_no_other(ask):
    ask(lambda n: respond({"choices": []}) if n == 1 else respond(reply("x")))
    ask.server.clear()
    asked = []
    code, rows = ask(lambda n: asked.append(n) or respond(reply("y")))
    assert code == 0 and asked == [1] and rows[1]["completion"] == "y"
    assert ask.results()["answers"]["missing"] == 0


@pytest.mark.parametrize(
    ("status", "exit_code", "said"),
    [
        (400, 2, "answers no prompt"),
        (401, 2, "check OPENAI_API_KEY"),
        (404, 2, "check OPENAI_API_KEY, base_url and model"),
        (200, 3, "rerun the same command"),
    ],
)
def test_an_endpoint_that_answers_nothing_is_no_score(ask, capsys, status, exit_code, said):
    body = {"error": {"message": f"not with {KEY}"}}
    code, rows = ask(lambda n: respond(body, status))
    assert code == exit_code and not rows
    error = capsys.readouterr().err
    assert said in error and KEY not in error and len(error.strip().splitlines()) == 1
