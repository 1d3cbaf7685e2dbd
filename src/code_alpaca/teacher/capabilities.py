"""Negotiate what a server supports: start with the strictest request, remember what it rejects."""

from __future__ import annotations

import json
import re
from typing import Any

from code_alpaca.core.ledger import Ledger
from code_alpaca.teacher.error_classification import ErrorKind, RequestFailure

OUTPUT_FORMATS = ("json_schema", "json_object", "text")  # strictest first
# Keys that may differ between two bodies with the same prompt and sampling parameters.
NEGOTIABLE_KEYS = ("response_format", "text", "max_tokens", "max_completion_tokens")
STREAMING_KEYS = {"stream": True, "stream_options": {"include_usage": True}}
# llama-cpp-python returns 500 for a body that does not fit its schema.
UNSUPPORTED_STATUS = (400, 422, 500, 501)
OUTPUT_FORMAT_PATTERN = re.compile(
    r"response_format|json_object|json_schema|structured|text\.format|grammar|guided|m(ax|in)items"
)
STREAM_ONLY_PATTERN = re.compile(r"\bstream.{0,20}\b(mode|only)|only.{0,40}\bstream|\bnon-stream")
ECHOED_KEYS = {"input", "flagged_input", "failed_generation", "ctx"}  # repeat parts of the request


class ServerCapabilities:
    """The output format, token-limit key and streaming mode that the run's servers accept.

    The result of the negotiation is stored in the ledger, so that it happens once per run.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._output_format = ledger.meta("teacher_form") or OUTPUT_FORMATS[0]
        self._token_limit_key = ledger.meta("teacher_limit_key") or "max_completion_tokens"
        self._stream = ledger.meta("teacher_stream") == "true"

    def adapt(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the request body in the form that the servers accept."""
        adapted = dict(body)
        if self._stream and "stream" not in adapted:
            adapted.update(STREAMING_KEYS)
        if "max_completion_tokens" in adapted and self._token_limit_key == "max_tokens":
            adapted[self._token_limit_key] = adapted.pop("max_completion_tokens")
        if self._output_format != "json_schema":
            for key in ("response_format", "text"):
                if adapted.pop(key, None) and self._output_format == "json_object":
                    json_object = {"type": "json_object"}
                    adapted[key] = {"format": json_object} if key == "text" else json_object
        return adapted

    def downgrade(self, failure: RequestFailure, sent: dict[str, Any]) -> bool:
        """Stop using a feature that a server rejected in `sent`; return whether to retry."""
        unclear = failure.kind in (ErrorKind.AMBIGUOUS, ErrorKind.TRANSIENT)
        if failure.status not in UNSUPPORTED_STATUS or not unclear:
            return False
        message = json.dumps(_drop_echoes(failure.details)).lower()
        if "max_completion_tokens" in sent and "max_completion_tokens" in message:
            self._token_limit_key = "max_tokens"
            self._ledger.set_meta("teacher_limit_key", self._token_limit_key)
            return True
        about_schema = failure.status < 500 and "schema" in message  # a 5xx may mean a database's
        constraint = sent.get("response_format") or (sent.get("text") or {}).get("format")
        if constraint and (about_schema or OUTPUT_FORMAT_PATTERN.search(message)):
            self._relax_output_format(constraint["type"])
            return True
        if "stream" not in sent and STREAM_ONLY_PATTERN.search(message):
            self._stream = True
            self._ledger.set_meta("teacher_stream", "true")
            return True
        return False

    def _relax_output_format(self, rejected: str) -> None:
        next_index = OUTPUT_FORMATS.index(rejected) + 1
        if next_index > OUTPUT_FORMATS.index(self._output_format):
            self._output_format = OUTPUT_FORMATS[next_index]
            self._ledger.set_meta("teacher_form", self._output_format)


def get_question(body: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a body that stays the same when `ServerCapabilities` adapts it."""
    streaming = STREAMING_KEYS if body.get("stream") is True else {}
    return {k: v for k, v in body.items() if k not in NEGOTIABLE_KEYS and k not in streaming}


def _drop_echoes(details: Any) -> Any:
    """Remove the parts of an error that repeat the request: they do not describe the server."""
    if isinstance(details, dict):
        return {k: _drop_echoes(v) for k, v in details.items() if k not in ECHOED_KEYS}
    return [_drop_echoes(item) for item in details] if isinstance(details, list) else details
