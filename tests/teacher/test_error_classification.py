"""Errors are classified by status, code and message, in the formats that servers really send."""

from __future__ import annotations

import pytest

from code_alpaca.teacher.error_classification import (
    ErrorKind,
    classify_error,
    extract_error_code,
    extract_error_message,
)


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
    ("details", "code"),
    [
        ({"error": {"code": 400, "message": "m"}}, "400"),
        ({"code": None, "type": "insufficient_quota"}, "insufficient_quota"),
        ("text", None),
    ],
)
def test_extract_error_code(details, code):
    assert extract_error_code(details) == code


@pytest.mark.parametrize(
    ("details", "message"),
    [
        ([{"error": {"message": "in a list"}}], "in a list"),
        ({"detail": [{"msg": "missing"}]}, '{"detail": [{"msg": "missing"}]}'),
        ({"error": "as text"}, "as text"),
        ("two\nlines", "two lines"),
    ],
)
def test_extract_error_message(details, message):
    assert extract_error_message(details) == message
