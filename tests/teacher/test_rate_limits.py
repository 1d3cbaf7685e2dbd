"""Rate limits, the concurrency window, and the headers in which servers state their limits."""

from __future__ import annotations

import pytest

from code_alpaca.teacher.rate_limits import (
    ConcurrencyWindow,
    RateLimiter,
    parse_rate_limit,
    parse_retry_after,
)


def test_unused_tokens_are_refunded():
    limiter = RateLimiter(60)
    limiter.consume(5, now=100.0)
    assert limiter.get_delay(now=100.0) == pytest.approx(5 / 0.98 - 0.1)
    limiter.refund(5)
    assert limiter.get_delay(now=100.0) == 0


def test_the_window_halves_once_per_burst_and_grows_back():
    window = ConcurrencyWindow(16)
    for _ in range(5):
        window.shrink(sent_at=100.0, now=101.0)
    assert window.size == 8
    for _ in range(200):
        window.grow()
    assert window.size == 16


def test_a_retry_after_date_is_relative_to_the_servers_clock():
    headers = {
        "retry-after": "Wed, 21 Oct 2015 07:28:09 GMT",
        "date": "Wed, 21 Oct 2015 07:28:02 GMT",
    }
    assert parse_retry_after(headers) == 7
    assert parse_retry_after({"retry-after": "soon"}) is None
    assert parse_retry_after({}) is None


@pytest.mark.parametrize("value", ["-1", "0", "nan", "inf", "1e-300", "many", ""])
def test_an_implausible_rate_limit_is_ignored(value):
    for unit in ("requests", "tokens"):
        assert parse_rate_limit({f"x-ratelimit-limit-{unit}": value}, unit) is None


def test_a_rate_limit_is_read_from_its_header():
    assert parse_rate_limit({"x-ratelimit-limit-requests": "500"}, "requests") == 500
    assert parse_rate_limit({"x-ratelimit-limit-tokens": "2000"}, "tokens", minimum=3000) is None
