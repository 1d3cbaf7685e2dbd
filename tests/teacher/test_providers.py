"""`generate` with the forms of each provider: parameters, errors, shapes of replies, token counts.

Each double answers as the provider's documentation or public error reports show. The table in
docs/customize.md lists the same providers.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from datasets import load_dataset
from support.chat_double import ChatServer, generate_args, http_error, open_ledger
from support.simulated_teacher import build_reply
from werkzeug import Response

from code_alpaca.cli import main

GUIDE = Path(__file__).parents[2] / "docs/customize.md"
REASONING_TOKENS = 700


def as_json(reply, status=200):
    return Response(json.dumps(reply), status, mimetype="application/json")


def with_message(body, **message):
    """Return the embedded teacher's reply with more, or other, fields of its message."""
    reply = build_reply(body)
    reply["choices"][0]["message"] |= message
    return reply


def answer(body):
    return build_reply(body)["choices"][0]["message"]["content"]


def openai(body, index):
    for key in ("temperature", "top_p"):
        if key in body:
            message = f"Unsupported parameter: '{key}' is not supported with this model."
            return http_error(400, message, "unsupported_parameter")
    reply = build_reply(body)
    reply["usage"]["completion_tokens"] += REASONING_TOKENS
    reply["usage"]["completion_tokens_details"] = {"reasoning_tokens": REASONING_TOKENS}
    return as_json(reply)


def gemini(body, index):
    if "json_schema" in str(body.get("response_format")):
        message = 'Invalid JSON payload received. Unknown name "additionalProperties" at schema'
        error = {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}
        return as_json([{"error": error}], 400)
    reply = with_message(body, content=f"<thought>A plan.</thought>{answer(body)}")
    usage = reply["usage"]
    usage["total_tokens"] = sum(usage.values()) + REASONING_TOKENS
    return as_json(reply)


def groq(body, index):
    if index % 5 == 2:
        return http_error(400, "Failed to validate JSON. See 'failed_generation'",
                          "json_validate_failed")  # fmt: skip
    response = as_json(with_message(body, reasoning="A plan."))
    response.headers["x-ratelimit-limit-requests"] = "14400"  # per day
    return response


def mistral(body, index):
    if "max_completion_tokens" in body:
        detail = {"type": "extra_forbidden", "loc": ["body", "max_completion_tokens"],
                  "msg": "Extra inputs are not permitted", "input": 4096}  # fmt: skip
        return as_json({"detail": [detail]}, 422)
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "A plan."}]}
    return as_json(with_message(body, content=[thinking, {"type": "text", "text": answer(body)}]))


def deepseek(body, index):
    if "json_schema" in str(body.get("response_format")):
        return http_error(400, "This response_format type is unavailable now")
    if body["max_completion_tokens"] > 2048:
        return http_error(
            400, "Invalid max_tokens value, the valid range of max_tokens is [1, 2048]"
        )
    reply = with_message(body, reasoning_content="A plan.")
    return Response("\n\n\n" + json.dumps(reply))  # blank lines keep the connection alive


def dashscope(body, index):
    if not body.get("stream"):
        message = "parameter.enable_thinking must be set to false for non-streaming calls"
        return http_error(400, message, "invalid_parameter_error")
    deltas = [{"reasoning_content": "A plan."}, {"content": answer(body)}]
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks[-1]["choices"][0]["finish_reason"] = "stop"
    chunks.append({"choices": [], "usage": build_reply(body)["usage"]})
    events = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
    return Response(f"{events}data: [DONE]\n\n", mimetype="text/event-stream")


def openrouter(body, index):
    if index % 4 == 1:
        error = {"code": 429, "message": "Provider returned error", "metadata": {"raw": "busy"}}
        return as_json({"error": error, "user_id": "u"})
    if index % 4 == 2:
        failed = {"finish_reason": "error", "error": {"code": 502, "message": "Upstream"}}
        return as_json({"choices": [{"index": 0, "message": {"content": ""}, **failed}]})
    return as_json(with_message(body, reasoning="A plan."))


def xai(body, index):
    reply = with_message(body, reasoning_content="A plan.")
    usage = reply["usage"]
    usage["completion_tokens_details"] = {"reasoning_tokens": REASONING_TOKENS}
    usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"] + REASONING_TOKENS
    return as_json(reply)


def anthropic(body, index):
    if "temperature" in body and "top_p" in body:
        message = "`temperature` and `top_p` cannot both be specified for this model."
        details = {"type": "invalid_request_error", "message": message}
        return as_json({"type": "error", "error": details}, 400)
    if index % 5 == 3:
        overloaded = {"type": "overloaded_error", "message": "Overloaded"}
        return as_json({"type": "error", "error": overloaded}, 529)
    plain = {key: value for key, value in body.items() if key != "response_format"}
    return as_json(with_message(plain, content=f"Here they are:\n```json\n{answer(body)}\n```"))


# Keys of the last request that show what was learned; None: not sent.
PROVIDERS = {
    "OpenAI": (openai, {"temperature": None, "top_p": None, "max_completion_tokens": 4096}),
    "Gemini": (gemini, {"response_format": {"type": "json_object"}}),
    "Groq": (groq, {"temperature": 1.0}),
    "Mistral": (mistral, {"max_completion_tokens": None, "max_tokens": 4096}),
    "DeepSeek": (deepseek, {"response_format": {"type": "json_object"},
                            "max_completion_tokens": 2048}),
    "DashScope": (dashscope, {"stream": True}),
    "OpenRouter": (openrouter, {"stream": False}),
    "xAI": (xai, {"top_p": 1.0}),
    "Anthropic": (anthropic, {"temperature": 1.0, "top_p": None}),
}  # fmt: skip
KEEP = ["--keep_reasoning", "true"]


@pytest.mark.parametrize("name", PROVIDERS)
def test_rows_are_generated_with_each_provider(httpserver, tmp_path, name):
    respond, learned = PROVIDERS[name]
    server = ChatServer(httpserver, respond)
    assert main(generate_args(tmp_path, server.url, *KEEP, rows=20)) == 0
    assert {key: server.bodies[-1].get(key) for key in learned} == learned
    with open_ledger(tmp_path) as ledger:
        assert not {"malformed", "refusal", "truncated", "no_reply"} & ledger.reasons().keys()
        rows, usage = list(ledger.accepted()), ledger.usage()
    if name in ("OpenAI", "Gemini", "xAI"):
        assert usage["completion_tokens"] > REASONING_TOKENS * usage["replies"]
    if name in ("OpenAI", "Anthropic"):  # they do not send reasoning in this API
        assert {row.reasoning for row in rows} == {""}
    else:
        assert {row.reasoning for row in rows} == {"A plan."}
    conversations = load_dataset(str(tmp_path / "dataset"), "messages", split="train")["messages"]
    thoughts = [[m["reasoning_content"] for m in messages] for messages in conversations]
    assert thoughts == [[None, row.reasoning or None] for row in rows[: len(thoughts)]]


@pytest.mark.parametrize("name", [*PROVIDERS, "Azure"])
def test_the_guide_lists_each_provider(name):
    assert f"| {name}" in GUIDE.read_text(encoding="utf-8")


# -- Azure ---------------------------------------------------------------------------------------

KEY = "an-azure-key-of-32-characters-ok"


@pytest.fixture
def azure(httpserver, monkeypatch):
    """A resource of Azure with one deployment; the requests that it received."""
    requests = []

    def handle(request):
        requests.append(request)
        if request.headers.get("api-key") != KEY or "api-version" not in request.args:
            return http_error(401, "Access denied due to missing subscription key.", "401")
        return as_json(build_reply(request.get_json()))

    path = "/openai/deployments/my-gpt/chat/completions"
    httpserver.expect_request(path).respond_with_handler(handle)
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", httpserver.url_for("/"))
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    return requests


def test_azure_is_addressed_by_deployment_key_and_api_version(httpserver, azure, tmp_path):
    words = generate_args(tmp_path, httpserver.url_for("/?api-version=2024-10-21"),
                          "--teacher_model", "my-gpt")  # fmt: skip
    assert main(words) == 0
    assert {request.args["api-version"] for request in azure} == {"2024-10-21"}


def test_azures_variables_are_enough(azure, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_VERSION", "2025-01-01-preview")
    words = ["--run_dir", str(tmp_path), "--teacher_model", "my-gpt", "--verify", "false"]
    assert main(["generate", *words, "--num_examples", "4"]) == 0
    assert {request.args["api-version"] for request in azure} == {"2025-01-01-preview"}


def test_azure_without_an_api_version_is_an_error(httpserver, azure, tmp_path, capsys):
    assert main(generate_args(tmp_path, httpserver.url_for("/"))) == 2
    assert "set OPENAI_API_VERSION" in capsys.readouterr().err and not azure


def test_azures_newer_api_is_that_of_openai(httpserver, azure, tmp_path):
    def handle(request):
        assert request.headers["authorization"] == f"Bearer {KEY}"
        return as_json(build_reply(request.get_json()))

    httpserver.expect_request("/openai/v1/chat/completions").respond_with_handler(handle)
    assert main(generate_args(tmp_path, httpserver.url_for("/openai/v1"))) == 0
