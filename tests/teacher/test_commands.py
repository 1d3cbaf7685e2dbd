"""`generate` against teachers on loopback: what a command prints, writes and returns."""

from __future__ import annotations

import json
import urllib.request

import pytest
from support.chat_double import ChatServer, generate_args, http_error, open_ledger
from support.simulated_teacher import build_reply
from werkzeug import Response

from code_alpaca.cli import main
from code_alpaca.teacher import offline


@pytest.fixture(scope="module")
def offline_url():
    with offline.start_server() as url:
        yield url


@pytest.mark.parametrize("api", ["chat", "responses", "completions"])
def test_every_api_produces_rows(offline_url, tmp_path, api):
    assert main(generate_args(tmp_path, offline_url, "--teacher_api", api)) == 0
    with open_ledger(tmp_path) as ledger:
        assert ledger.accepted_count() >= 12
        assert ledger.usage()["completion_tokens"] > 0


def test_a_fatal_error_is_exit_3_and_one_line(httpserver, tmp_path, capsys):
    server = ChatServer(httpserver, lambda *_: http_error(401, "no", "invalid_api_key"))
    assert main(generate_args(tmp_path, server.url)) == 3
    message = capsys.readouterr().err
    assert "check OPENAI_API_KEY" in message and message.count("\n") == 1
    assert len(server.bodies) <= 4, "no more than were in flight"


def test_a_prompt_rejected_by_a_content_policy_is_recorded_and_not_sent_again(httpserver, tmp_path):
    rejected = http_error(400, "flagged by the content policy", "content_filter")
    server = ChatServer(httpserver, lambda body, index: rejected if index == 1 else None)
    assert main(generate_args(tmp_path, server.url)) == 0
    with open_ledger(tmp_path) as ledger:
        assert ledger.reasons()["refusal"] == 1
    num_sent = len(server.bodies)
    assert main(generate_args(tmp_path, server.url)) == 0
    assert len(server.bodies) == num_sent


def test_a_content_policy_that_rejects_every_prompt_stops_the_run(httpserver, tmp_path, capsys):
    server = ChatServer(httpserver, lambda *_: http_error(400, "flagged", "content_filter"))
    assert main(generate_args(tmp_path, server.url, "--patience", "5")) == 3
    assert "5 replies in a row yielded no accepted row" in capsys.readouterr().err


def test_complete_tasks_of_a_truncated_reply_are_kept(httpserver, tmp_path):
    def respond(body, index):
        reply = build_reply(body)
        text = reply["choices"][0]["message"]["content"]
        truncated = {"message": {"content": text[: -len(text) // 8]}, "finish_reason": None}
        reply["choices"][0].update(truncated)
        return Response(json.dumps(reply))

    server = ChatServer(httpserver, respond)
    assert main(generate_args(tmp_path, server.url, rows=8)) == 0
    with open_ledger(tmp_path) as ledger:
        assert ledger.reasons()["truncated"] >= 2
        assert "malformed" not in ledger.reasons()


# -- the form of a request -----------------------------------------------------------------------

FORM = ["--temperature", "null", "--top_p", "null", "--reasoning_effort", "low",
        "--extra_body", "{chat_template_kwargs: {enable_thinking: false}}"]  # fmt: skip


def test_null_is_not_sent_and_extra_keys_are(httpserver, tmp_path):
    server = ChatServer(httpserver, lambda body, index: None)
    assert main(generate_args(tmp_path, server.url, *FORM)) == 0
    for body in server.bodies:
        assert not {"temperature", "top_p"} & body.keys()
        assert body["reasoning_effort"] == "low"
        assert body["chat_template_kwargs"] == {"enable_thinking": False}


def test_the_values_of_extra_headers_are_sent_and_stored_nowhere(httpserver, tmp_path, capsys):
    secret = "a-secret-of-the-team"
    server = ChatServer(httpserver, lambda body, index: http_error(401, f"who is {secret}?"))
    words = ["--extra_headers", f"{{X-Team: {secret}}}"]
    assert main(generate_args(tmp_path, server.url, *words)) == 3
    assert httpserver.log[0][0].headers["X-Team"] == secret
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert secret not in capsys.readouterr().err and secret.encode() not in written
    assert main(["generate", "--config", str(tmp_path / "config.yaml")]) == 2
    assert "values are not stored; give it again" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["messages", "max_tokens", "max_completion_tokens", "n", "stream"])
def test_extra_body_cannot_replace_the_prompt_or_a_limit(tmp_path, capsys, key):
    words = ["--extra_body", f"{{{key}: 1}}"]
    assert main(generate_args(tmp_path, "http://127.0.0.1:9/v1", *words)) == 2
    assert f"sets {key}" in capsys.readouterr().err


# -- money ---------------------------------------------------------------------------------------

PRICES = ["--price_per_mtok_input", "3", "--price_per_mtok_output", "15",
          "--max_completion_tokens", "1500"]  # fmt: skip


def billed(url: str) -> float:
    """US dollars by the teacher's own token counts."""
    with urllib.request.urlopen(f"{url}/stats") as response:
        counts = json.load(response)
    return (counts.get("prompt_tokens", 0) * 3 + counts.get("completion_tokens", 0) * 15) / 1e6


def test_a_run_stopped_by_its_cap_resumes_with_a_higher_cap(tmp_path, capsys):
    with offline.start_server() as url:
        args = generate_args(tmp_path, url, *PRICES, "--max_cost_usd", "0.08", rows=40)
        assert main(args) == 3
        message = capsys.readouterr().err
        assert "max_cost_usd 0.08 is reached" in message and message.count("\n") == 1
        before = billed(url)
        assert before <= 0.08
        assert main(args) == 3
        assert billed(url) == before, "no further request fits under the same cap"
        args[args.index("0.08")] = "5"
        assert main(args) == 0
        with open_ledger(tmp_path) as ledger:
            assert ledger.spent() == pytest.approx(billed(url))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--max_cost_usd", "1"], "price of offline-teacher is unknown"),
        ([*PRICES, "--max_cost_usd", "0.0001"], "is less than one request may cost"),
        (["--strategy", "self_instruct=0"], "must be positive"),
        (["--snippets", "/nowhere", "--strategy", "oss_instruct"], "cannot load snippets"),
    ],
)
def test_contradictory_options_are_refused_before_anything_is_sent(tmp_path, capsys, more, message):
    assert main(generate_args(tmp_path / "run", "offline", *more)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_card_states_the_source_of_the_prices(httpserver, tmp_path):
    server = ChatServer(httpserver, lambda body, index: None)
    assert main(generate_args(tmp_path, server.url, *PRICES)) == 0
    assert "(prices: `as configured`)" in (tmp_path / "dataset/README.md").read_text()


def test_a_dry_run_prints_the_estimated_cost_and_sends_nothing(tmp_path, capsys):
    more = ["--teacher_model", "gpt-4o-mini", "--num_examples", "20000", "--dry_run"]
    assert main(["generate", "--run_dir", str(tmp_path / "run"), *more]) == 0
    output = capsys.readouterr().out
    assert "about 6667 if 60% is accepted" in output and "genai-prices" in output
    assert "nothing was sent" in output and not (tmp_path / "run").exists()
