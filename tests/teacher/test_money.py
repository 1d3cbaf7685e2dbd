"""A cap holds against servers that count more than was asked for, or count in odd ways."""

from __future__ import annotations

import json

import pytest
from support.chat_double import Script, ledger_of, reply_to, words
from werkzeug import Response

from code_alpaca.cli import main

PRICES = ["--price_per_mtok_input", "1", "--price_per_mtok_output", "10"]
LIMIT = 1500


def capped(run_dir, url, cap, *more, rows=400):
    limit = ["--max_completion_tokens", str(LIMIT)]
    return words(run_dir, url, *PRICES, *limit, "--max_cost_usd", str(cap), *more, rows=rows)


def counting(httpserver, **counts):
    """A server whose `usage` says `counts`, or what a function of the true counts says."""

    def answer(body, number):
        reply = reply_to(body)
        counted = {key: make(reply["usage"], number) for key, make in counts.items()}
        reply["usage"].update(counted)
        return Response(json.dumps(reply))

    return Script(httpserver, answer)


def test_reasoning_beside_the_completion_counts_towards_the_cap(httpserver, tmp_path, capsys):
    script = counting(
        httpserver,
        total_tokens=lambda u, _: u["prompt_tokens"] + u["completion_tokens"] + 3000,
    )
    assert main(capped(tmp_path, script.url, 0.5)) == 3
    with ledger_of(tmp_path) as ledger:
        assert ledger.usage()["completion_tokens"] >= 3000 * len(script.bodies)
        assert ledger.spent() <= 0.5
    assert "is reached" in capsys.readouterr().err


def test_a_server_that_exceeds_its_limit_is_known_by_its_first_reply(httpserver, tmp_path, capsys):
    script = counting(httpserver, completion_tokens=lambda *_: 10 * LIMIT)
    assert main(capped(tmp_path, script.url, 0.5)) == 3
    cost = 10 * LIMIT * 10 / 1e6
    with ledger_of(tmp_path) as ledger:
        assert 0.5 - 2 * cost < ledger.spent() <= 0.5
    before = len(script.bodies)
    assert main(capped(tmp_path, script.url, 0.5)) == 3 and len(script.bodies) == before
    # A later start remembers, and four at once do not pass a cap that leaves room for one.
    assert main(capped(tmp_path, script.url, 0.5 + 1.5 * cost)) == 3
    assert len(script.bodies) == before + 1
    assert "is reached" in capsys.readouterr().err


def test_a_cap_is_passed_by_what_was_in_flight_at_most_and_the_message_says_so(
    httpserver, tmp_path, capsys
):
    """The first replies are honest, so that four requests are in flight when one is not."""
    script = counting(
        httpserver, completion_tokens=lambda u, n: u["completion_tokens"] if n < 6 else 40 * LIMIT
    )
    assert main(capped(tmp_path, script.url, 0.5)) == 3
    with ledger_of(tmp_path) as ledger:
        assert 0.5 < ledger.spent() <= 0.5 + 4 * 40 * LIMIT * 10 / 1e6
    assert len(script.bodies) <= 6 + 4
    error = capsys.readouterr().err
    assert "was passed by $" in error and "40.0 times" in error and error.count("\n") == 1


@pytest.mark.parametrize("tokens", [2**39, None])
def test_a_count_that_cannot_be_costs_the_worst_case(httpserver, tmp_path, tokens):
    script = counting(httpserver, completion_tokens=lambda *_: tokens)
    assert main(capped(tmp_path, script.url, 1, rows=12)) == 0
    with ledger_of(tmp_path) as ledger:
        worst = LIMIT * 10 / 1e6
        assert worst * len(script.bodies) <= ledger.spent() <= 1
