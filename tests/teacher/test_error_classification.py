"""Errors are classified by status, code and message, in the formats that servers really send."""

from __future__ import annotations

import pytest

from code_alpaca.teacher.error_classification import ErrorKind, classify_error, parse_error


@pytest.mark.parametrize(
    ("status", "code", "message", "kind"),
    [
        (400, None, "prompt is too long: 210000 tokens > 200000 maximum", "PROMPT_REJECTED"),
        (400, "context_length_exceeded", "", "PROMPT_REJECTED"),
        (400, "data_inspection_failed", "Input data may contain inappropriate", "PROMPT_REJECTED"),
        (400, None, "max_tokens is too large: 4096; at most 2048 are supported", "AMBIGUOUS"),
        (500, None, "Internal Server Error", "TRANSIENT"),
        (502, None, "Bad gateway", "TRANSIENT"),
        (429, None, "slow down", "OVERLOADED"),
        (429, "insufficient_quota", "You exceeded your current quota", "FATAL"),
        (403, None, "insufficient balance", "FATAL"),
        (401, None, "no", "FATAL"),
        (404, None, "no such model", "FATAL"),
        (303, None, "", "FATAL"),
    ],
)
def test_classify_error(status, code, message, kind):
    assert classify_error(status, code, message) is ErrorKind[kind]


@pytest.mark.parametrize(
    ("details", "code", "message"),
    [
        ({"error": {"code": 400, "message": "m"}}, "400", "m"),
        ({"code": None, "type": "insufficient_quota", "msg": "m"}, "insufficient_quota", "m"),
        ([{"error": {"message": "in a list"}}], None, "in a list"),
        ({"detail": [{"msg": "missing"}]}, None, '{"detail": [{"msg": "missing"}]}'),
        ({"error": "as text", "type": ["no code"]}, None, "as text"),
        ("two\nlines", None, "two lines"),
    ],
)
def test_parse_error(details, code, message):
    assert parse_error(details) == (code, message)
