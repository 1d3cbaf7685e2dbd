"""The client against servers that refuse, stall, limit and lie; and a budget that holds."""

from __future__ import annotations

import json
import random
import time
import urllib.request
from collections import Counter

import pytest
from support.chat_double import Script, good, ledger_of, refuse, words
from werkzeug import Response

from code_alpaca.cli import main
from code_alpaca.teacher import offline
from code_alpaca.teacher.prices import find_price
from code_alpaca.teacher.rate_limits import (
    ConcurrencyWindow,
    RateLimiter,
    parse_rate_limit,
    parse_retry_after,
)
from code_alpaca.teacher.reply_parsing import ParsedReply, count_billed_tokens, parse_reply


def stats(url: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{url}/stats") as reply:
        return json.load(reply)


# -- forms -------------------------------------------------------------------------------------


def test_output_forms_are_negotiated_once_and_remembered(httpserver, tmp_path):
    def answer(body, number):
        kind = body.get("response_format", {}).get("type")
        return refuse(400, f"response_format {kind} is not supported") if kind else None

    script = Script(httpserver, answer)
    assert main(words(tmp_path, script.url)) == 0
    kinds = Counter(body.get("response_format", {}).get("type") for body in script.bodies)
    assert set(kinds) == {"json_schema", "json_object", None}
    assert kinds["json_schema"] <= 4 and kinds["json_object"] <= 4  # those in flight at once
    before = len(script.bodies)
    assert main(words(tmp_path, script.url, rows=24)) == 0
    assert all("response_format" not in body for body in script.bodies[before:])


def test_servers_that_know_only_max_tokens(httpserver, tmp_path):
    def answer(body, number):
        if "max_completion_tokens" in body:
            return refuse(422, "Extra inputs are not permitted: max_completion_tokens")
        return None

    script = Script(httpserver, answer)
    assert main(words(tmp_path, script.url)) == 0
    assert script.bodies[-1]["max_tokens"] == 4096


@pytest.mark.parametrize("api", ["chat", "responses", "completions"])
def test_every_api_brings_rows(tmp_path, api):
    assert main(words(tmp_path, "offline", "--teacher_api", api)) == 0
    with ledger_of(tmp_path) as ledger:
        assert ledger.accepted_count() >= 12
        assert ledger.usage()["completion_tokens"] > 0


def test_a_cut_response_of_the_responses_api_is_seen():
    reply = {
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "{"}]}],
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
    }
    assert parse_reply(reply) == ParsedReply(text="{", truncated=True)
    refused = [{"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}]
    assert parse_reply({"output": refused}).refusal == "no"


# -- what stops a run ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (401, "invalid_api_key", "check OPENAI_API_KEY"),
        (403, None, "check what this key may use"),
        (404, "model_not_found", "check teacher_model"),
        (429, "insufficient_quota", "top up the account"),
    ],
)
def test_what_waiting_cannot_mend_stops_at_once(httpserver, tmp_path, capsys, status, code, said):
    script = Script(httpserver, lambda body, number: refuse(status, "no", code))
    assert main(words(tmp_path, script.url)) == 3
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert len(script.bodies) <= 4


def test_a_refused_key_does_not_wait_for_slower_requests(httpserver, tmp_path):
    def answer(body, number):
        if number == 1:
            return refuse(401, "no such key")
        time.sleep(8)
        return None

    script = Script(httpserver, answer)
    began = time.monotonic()
    assert main(words(tmp_path, script.url, "--request_timeout_s", "60")) == 3
    assert time.monotonic() - began < 60
    # In flight when the refusal came: given time to land, and kept.
    with ledger_of(tmp_path) as ledger:
        assert ledger.usage()["replies"] >= 1


def test_a_key_that_no_header_can_hold(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k\u00e9y")
    assert main(words(tmp_path, "https://127.0.0.1:1/v1")) == 2
    assert "no HTTP header can" in capsys.readouterr().err


def test_a_content_policy_costs_one_reply_and_not_the_run(httpserver, tmp_path):
    refused = refuse(400, "flagged by the content policy", "content_filter")
    script = Script(httpserver, lambda body, number: refused if number == 1 else None)
    assert main(words(tmp_path, script.url)) == 0
    with ledger_of(tmp_path) as ledger:
        assert ledger.reasons()["refusal"] == 1
    asked = len(script.bodies)
    assert main(words(tmp_path, script.url)) == 0 and len(script.bodies) == asked


def test_a_content_policy_on_everything_stops(httpserver, tmp_path, capsys):
    script = Script(httpserver, lambda body, number: refuse(400, "flagged", "content_filter"))
    assert main(words(tmp_path, script.url, "--patience", "5")) == 3
    assert "5 replies in a row brought no new row" in capsys.readouterr().err


# -- limits ------------------------------------------------------------------------------------


def test_a_429_quiets_every_request_for_as_long_as_it_asks(httpserver, tmp_path):
    busy = {"Retry-After": "1"}
    script = Script(
        httpserver, lambda body, number: refuse(429, "slow", **busy) if number == 2 else None
    )
    assert main(words(tmp_path, script.url, rows=40)) == 0
    after = [at - script.times[2] for at in script.times[3:]]
    early = [gap for gap in after if gap < 0.95]
    assert len(early) <= 3, "only what was on its way already may still arrive"
    assert max(after) > 1


@pytest.mark.parametrize("status", [429, 503, 529])
def test_a_busy_server_is_sat_out_and_not_a_failure(httpserver, tmp_path, status):
    """Refused more often in a row than a failing request has tries."""
    busy = {"Retry-After": "0.02"}
    script = Script(
        httpserver,
        lambda body, number: refuse(status, "slow", **busy) if 1 <= number < 40 else None,
    )
    assert main(words(tmp_path, script.url)) == 0


def test_requests_per_minute_are_spaced(tmp_path):
    with offline.start_server() as url:
        started = time.monotonic()
        assert main(words(tmp_path, url, "--requests_per_minute", "300", rows=60)) == 0
        spent, asked = time.monotonic() - started, stats(url)["answered"]
    assert asked > 10 and spent > (asked - 2) * 60 / 300


def test_limits_are_learned_from_headers(httpserver, tmp_path):
    def answer(body, number):
        reply = good(body)
        reply.headers["x-ratelimit-limit-requests"] = "240"
        return reply

    script = Script(httpserver, answer)
    assert main(words(tmp_path, script.url, rows=60)) == 0
    gaps = [b - a for a, b in zip(script.times[6:], script.times[7:], strict=False)]
    assert sum(gaps) / len(gaps) > 0.2  # four a second


def test_pace_gives_back_what_was_not_used():
    limiter = RateLimiter(60)
    limiter.consume(5, now=100.0)
    assert limiter.get_delay(now=100.0) == pytest.approx(5 / 0.98 - 0.1)
    limiter.refund(5)
    assert limiter.get_delay(now=100.0) == 0


def test_the_window_halves_once_a_burst_and_grows_back():
    window = ConcurrencyWindow(16)
    for _ in range(5):
        window.shrink(sent_at=100.0, now=101.0)
    assert window.size == 8
    for _ in range(200):
        window.grow()
    assert window.size == 16


def test_retry_after_as_a_date_is_read_by_the_servers_clock():
    headers = {
        "retry-after": "Wed, 21 Oct 2015 07:28:09 GMT",
        "date": "Wed, 21 Oct 2015 07:28:02 GMT",
    }
    assert parse_retry_after(headers) == 7
    assert parse_retry_after({"retry-after": "soon"}) is None
    assert parse_retry_after({}) is None


# -- several servers -----------------------------------------------------------------------------


def test_load_goes_to_the_server_with_least_in_flight(tmp_path):
    with offline.start_server("offline?latency=0.4") as slow, offline.start_server() as fast:
        assert main(words(tmp_path, f"{slow},{fast}", rows=120)) == 0
        assert stats(fast)["answered"] > 2 * stats(slow).get("answered", 0)


def test_a_dead_server_among_several_is_rested(tmp_path):
    with offline.start_server() as alive:
        assert main(words(tmp_path, f"http://127.0.0.1:9/v1,{alive}", rows=40)) == 0


# -- money -------------------------------------------------------------------------------------

PRICES = ["--price_per_mtok_input", "3", "--price_per_mtok_output", "15",
          "--max_completion_tokens", "1500"]  # fmt: skip


def cost(counts: dict[str, int]) -> float:
    return (counts.get("prompt_tokens", 0) * 3 + counts.get("completion_tokens", 0) * 15) / 1e6


def test_no_cap_is_ever_passed(tmp_path, capsys):
    """Twenty random caps over a teacher with faults: by the teacher's own count, none is passed."""
    rng = random.Random(7)
    with offline.start_server("offline?rate_500=0.1&drop=0.1&rate_429=0.1&retry_after=0.01") as url:
        before = 0.0
        for number in range(20):
            cap = rng.uniform(0.05, 0.5)
            run_dir = tmp_path / str(number)
            code = main(words(run_dir, url, *PRICES, "--max_cost_usd", f"{cap:.4f}", rows=150))
            after = cost(stats(url))
            spent, before = after - before, after
            assert spent <= cap
            with ledger_of(run_dir) as ledger:
                assert spent <= ledger.spent() + 1e-9 <= cap + 1e-9
                assert code == 3 or ledger.accepted_count() >= 150
    assert "is reached" in capsys.readouterr().err


def test_a_raised_cap_goes_on_and_counts_what_was_spent(tmp_path):
    with offline.start_server() as url:
        capped = words(tmp_path, url, *PRICES, "--max_cost_usd", "0.08", rows=40)
        assert main(capped) == 3
        first = cost(stats(url))
        assert main(capped) == 3
        assert cost(stats(url)) == first, "nothing fits under the same cap"
        capped[capped.index("0.08")] = "5"
        assert main(capped) == 0
        with ledger_of(tmp_path) as ledger:
            assert ledger.spent() == pytest.approx(cost(stats(url)))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--max_cost_usd", "1"], "price of offline-teacher is not known"),
        (["--price_per_mtok_input", "1"], "give both price_per_mtok_input"),
        ([*PRICES, "--max_cost_usd", "0.0001"], "is less than one request may cost"),
        (["--tokens_per_minute", "100"], "less than one reply may have"),
        (["--teacher_api", "completions", "--strategy", "evol_instruct"], "numbered text"),
        (["--strategy", "oss_instruct"], "needs snippets"),
        (["--strategy", "self_instruct=0"], "must be above 0"),
        (["--strategy", "nonsense"], "no strategy 'nonsense'"),
        (["--snippets", "/nowhere", "--strategy", "oss_instruct"], "cannot load snippets"),
    ],
)
def test_limits_that_contradict_are_refused_before_anything_is_sent(tmp_path, capsys, more, said):
    assert main(words(tmp_path / "run", "offline", *more)) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_prices_are_found_by_host_and_undated_name():
    assert find_price("gpt-4o-mini-2024-07-18", None).output == 0.6
    assert find_price("gpt-4o-mini", "https://api.openai.com/v1", batch=True).input == 0.075
    assert find_price("gpt-4o-mini", "http://127.0.0.1:8000/v1") is None
    assert find_price("x", None, configured=(1.0, 2.0)).compute_cost(1_000_000, 500_000) == 2.0


def test_the_dry_run_tells_the_bill_and_sends_nothing(tmp_path, capsys):
    more = ["--teacher_model", "gpt-4o-mini", "--num_examples", "20000", "--dry_run"]
    assert main(["generate", "--run_dir", str(tmp_path / "run"), *more]) == 0
    shown = capsys.readouterr().out
    assert "about 6667 if 60% is accepted" in shown and "price list of" in shown
    assert "nothing was sent" in shown and not (tmp_path / "run").exists()


# -- servers that lie, and prompts that are refused alone ------------------------------------------


def test_equal_prompts_keep_their_replies_while_the_form_is_negotiated(tmp_path, httpserver):
    """One seed task and no pool: all prompts are equal, and are sent again in another form."""
    seeds = tmp_path / "seeds.jsonl"
    seeds.write_text(json.dumps({"instruction": "Add two numbers.", "output": "a + b"}))

    def answer(body, number):
        time.sleep(random.random() * 0.05)
        form = body.get("response_format", {}).get("type")
        return refuse(400, "response_format json_schema") if form == "json_schema" else None

    script = Script(httpserver, answer)
    more = ["--seed_tasks", str(seeds), "--pool_per_request", "0", "--patience", "20"]
    for _ in range(2):  # equal prompts get equal replies: it stops, and can be gone on with
        line = words(tmp_path / "r", script.url, *more, rows=60)
        assert main([*line, "--price_per_mtok_input", "1", "--price_per_mtok_output", "1"]) == 3
    with ledger_of(tmp_path / "r") as ledger:
        numbers = [row[0] for row in ledger._db.execute("SELECT number FROM requests")]
        assert sorted(numbers) == list(range(len(numbers))), "no request took another's place"
        paid = [b for b in script.bodies if b["response_format"]["type"] != "json_schema"]
        assert ledger.usage()["replies"] == len(paid), "no paid reply is lost"


@pytest.mark.parametrize("code", ["context_length_exceeded", "invalid_prompt"])
def test_a_prompt_refused_alone_is_passed_over(tmp_path, httpserver, code):
    script = Script(
        httpserver, lambda _, n: refuse(400, "this one not", code) if n % 3 == 0 else None
    )
    assert main(words(tmp_path / "r", script.url)) == 0
    with ledger_of(tmp_path / "r") as ledger:
        assert ledger.reasons()["refusal"] >= 1


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (refuse(402, "pay"), "top up the account"),
        (Response("", 307, {"Location": "/v1/chat/completions"}), "check teacher_base_url"),
    ],
)
def test_no_money_and_a_moved_server_stop_the_run_at_once(
    tmp_path, httpserver, capsys, response, said
):
    script = Script(httpserver, lambda *_: response)
    assert main(words(tmp_path / "r", script.url)) == 3
    assert said in capsys.readouterr().err
    assert len(script.bodies) <= 4, "what was in flight at once, and no more"


def test_an_error_with_status_200_is_tried_again(tmp_path, httpserver):
    broken = {"error": {"message": "overloaded"}}
    script = Script(httpserver, lambda _, n: Response(json.dumps(broken)) if n == 1 else None)
    assert main(words(tmp_path / "r", script.url)) == 0
    with ledger_of(tmp_path / "r") as ledger:
        assert "refusal" not in ledger.reasons()


def test_retry_after_zero_backs_off_all_the_same(tmp_path, httpserver):
    script = Script(
        httpserver, lambda _, n: refuse(429, "x", **{"Retry-After": "0"}) if n < 8 else None
    )
    assert main(words(tmp_path / "r", script.url, "--max_concurrency", "1")) == 0
    assert script.times[8] - script.times[0] > 0.5


@pytest.mark.parametrize(
    "usage", [{}, {"prompt_tokens": 9}, {"prompt_tokens": 0, "completion_tokens": 0}]
)
def test_usage_that_says_nothing_costs_the_worst_case(usage):
    reply = {"choices": [{"message": {"content": "text"}}], "usage": usage}
    assert count_billed_tokens(reply) is None
    assert count_billed_tokens(
        {**reply, "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
    ) == (3, 4)


@pytest.mark.parametrize("told", ["-1", "0", "nan", "inf", "1e-300", "many", ""])
def test_an_allowance_that_makes_no_sense_is_not_learned(told):
    for what in ("requests", "tokens"):
        assert parse_rate_limit({f"x-ratelimit-limit-{what}": told}, what) is None
    assert parse_rate_limit({"x-ratelimit-limit-requests": "500"}, "requests") == 500


def test_the_price_is_that_of_the_host_that_is_asked(monkeypatch):
    openai_url, other = "https://api.openai.com/v1", "https://other.example/v1"
    assert find_price("gpt-4o-mini", openai_url) is not None
    assert find_price("gpt-4o-mini", f"{openai_url}, {other}") is None
    monkeypatch.setenv("OPENAI_BASE_URL", other)
    assert find_price("gpt-4o-mini", None) is None


def test_a_cap_that_comes_later_counts_what_was_paid_before(tmp_path, capsys):
    with offline.start_server() as url:
        assert main(words(tmp_path / "r", url)) == 0
        price = ["--price_per_mtok_input", "100", "--price_per_mtok_output", "100"]
        assert main(words(tmp_path / "r", url, *price, "--max_cost_usd", "3", rows=500)) == 3
        assert "is reached" in capsys.readouterr().err
        served = stats(url)
    tokens_served = served["prompt_tokens"] + served["completion_tokens"]
    assert tokens_served * 100 / 1e6 <= 3


def test_a_body_that_drips_for_ever_is_ended(tmp_path, httpserver, capsys):
    def drip():
        for _ in range(100):
            time.sleep(0.1)
            yield b" "

    script = Script(httpserver, lambda *_: Response(drip(), mimetype="application/json"))
    began = time.monotonic()
    assert main(words(tmp_path / "r", script.url, "--request_timeout_s", "0.3")) == 3
    assert time.monotonic() - began < 15
    assert "does not answer" in capsys.readouterr().err
