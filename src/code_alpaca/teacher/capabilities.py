"""Learn what a server supports: send the complete request, and remember what it refuses.

A refusal of a parameter or value costs one request and nothing else: the parameter is dropped or
replaced in this and all later requests to the same model, and one line reports it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from code_alpaca.core import console
from code_alpaca.teacher.error_classification import ErrorKind, RequestFailure
from code_alpaca.teacher.request_body import TOKEN_LIMIT_KEYS, get_token_limit

OUTPUT_FORMATS = ("json_schema", "json_object", "text")  # strictest first
# Keys that are dropped, in this order if an error names several: some models accept temperature
# or top_p, but not both.
DROPPABLE_KEYS = ("top_p", "temperature", "stop", "seed", "n")
# Keys that may differ between two bodies with the same prompt and sampling parameters.
NEGOTIABLE_KEYS = ("response_format", "text", "max_tokens", "max_completion_tokens")
STREAMING_KEYS = {"stream": True, "stream_options": {"include_usage": True}}
# llama-cpp-python returns 500 for a body that does not fit its schema.
UNSUPPORTED_STATUS = (400, 422, 500, 501)
OUTPUT_FORMAT_PATTERN = re.compile(
    r"response_format|json_object|json_schema|structured|text\.format|grammar|guided|m(ax|in)items"
)
STREAM_ONLY_PATTERN = re.compile(r"\bstream.{0,20}\b(mode|only)|only.{0,40}\bstream|\bnon-stream")
# "at most 4096 completion tokens", "valid range is [1, 8192]", "9999 > 8192, which is the maximum"
MAXIMUM_PATTERN = re.compile(
    r"(?:at most|up to|less than or equal to|<=|\d >|\[\d+,|between \d+ and"
    r"|maximum (?:value|allowed)\D{0,30})\W{0,3}(\d+)"
)
REFUSAL_PATTERN = re.compile(
    r"support|unknown|unrecogni|unexpected|extra|permitted|allowed|invalid|deprecated|default"
    r"|not available|cannot|must|should be"
)
ECHOED_KEYS = {"input", "flagged_input", "failed_generation", "ctx"}  # repeat parts of the request


class Memory(Protocol):
    """Where refusals are remembered: the ledger of a run."""

    def meta(self, key: str) -> str | None: ...

    def set_meta(self, key: str, value: str) -> None: ...


class ProcessMemory(dict[str, str]):
    """A memory without a file, for a command that has no ledger."""

    def meta(self, key: str) -> str | None:
        return self.get(key)

    def set_meta(self, key: str, value: str) -> None:
        self[key] = value


@dataclass(slots=True)
class Learned:
    """What a model at an endpoint refused."""

    output_format: str = OUTPUT_FORMATS[0]
    token_limit_key: str = "max_completion_tokens"  # in place of this key
    max_tokens: int | None = None  # of a reply
    stream: bool = False  # whether only streams are sent
    dropped: list[str] = field(default_factory=list)
    thinking_off: bool = False  # DashScope's key, for a model that does not think in any other form


class ServerCapabilities:
    """The parameters, output format and streaming mode that the servers accept, by model.

    What was learned is stored, so that it happens once per run, endpoint and model.

    Args:
        base_urls: of the servers, of the same model; a port is no part of an endpoint.
    """

    def __init__(self, memory: Memory, base_urls: Iterable[str | None] = ()) -> None:
        self._memory = memory
        hosts = (urlsplit(url or "").hostname or "" for url in base_urls)
        self._endpoint = ",".join(sorted(set(hosts)))
        self._learned: dict[str, Learned] = {}  # by model

    def adapt(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the request body in the form that the servers accept."""
        learned = self._of(body["model"])
        adapted = {key: value for key, value in body.items() if key not in learned.dropped}
        if learned.stream and not adapted.get("stream"):
            adapted.update(STREAMING_KEYS)
        if learned.thinking_off:
            adapted["enable_thinking"] = False
        if "max_completion_tokens" in adapted and learned.token_limit_key == "max_tokens":
            adapted["max_tokens"] = adapted.pop("max_completion_tokens")
        for key in TOKEN_LIMIT_KEYS:
            if learned.max_tokens and key in adapted:
                adapted[key] = min(adapted[key], learned.max_tokens)
        if learned.output_format != "json_schema":
            for key in ("response_format", "text"):
                if adapted.pop(key, None) and learned.output_format == "json_object":
                    json_object = {"type": "json_object"}
                    adapted[key] = {"format": json_object} if key == "text" else json_object
        return adapted

    def downgrade(self, failure: RequestFailure, sent: dict[str, Any]) -> bool:
        """Stop using what a server refused in `sent`; return whether to send it again."""
        unclear = failure.kind in (ErrorKind.AMBIGUOUS, ErrorKind.TRANSIENT)
        message = json.dumps(_drop_echoes(failure.details)).lower()
        maximum = _find_maximum(message, get_token_limit(sent))
        if failure.status not in UNSUPPORTED_STATUS or not (unclear or maximum):
            return False
        if self.adapt(sent) != sent:  # sent before an earlier refusal, which may be the same one
            return True
        learned, model = self._of(sent["model"]), sent["model"]
        before = asdict(learned)
        if maximum:
            learned.max_tokens = maximum
        else:
            _learn(learned, message, failure, sent)
        if asdict(learned) != before:
            stored = self._stored() | {self._name(model): asdict(learned)}
            self._memory.set_meta("teacher_capabilities", json.dumps(stored))
            console.note(f"{_describe(before, learned, sent)} ({failure.message})")
        return asdict(learned) != before

    def _of(self, model: str) -> Learned:
        """Return what a model refused, also as an earlier version recorded it: for every model."""
        if model not in self._learned:
            if (stored := self._stored().get(self._name(model))) is not None:
                self._learned[model] = Learned(**stored)
            else:
                self._learned[model] = Learned(
                    self._memory.meta("teacher_form") or OUTPUT_FORMATS[0],
                    self._memory.meta("teacher_limit_key") or "max_completion_tokens",
                    stream=self._memory.meta("teacher_stream") == "true",
                )
        return self._learned[model]

    def _stored(self) -> dict[str, Any]:
        return json.loads(self._memory.meta("teacher_capabilities") or "{}")

    def _name(self, model: str) -> str:
        return f"{model} at {self._endpoint}"


def get_question(body: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a body by which repeated questions are counted.

    It is that of the complete body, before `ServerCapabilities` adapts it.
    """
    streaming = STREAMING_KEYS if body.get("stream") is True else {}
    return {k: v for k, v in body.items() if k not in NEGOTIABLE_KEYS and k not in streaming}


def get_immutable_part(body: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a body that `ServerCapabilities` never changes."""
    changeable = (*DROPPABLE_KEYS, "enable_thinking")
    return {k: v for k, v in get_question(body).items() if k not in changeable}


def _learn(learned: Learned, message: str, failure: RequestFailure, sent: dict[str, Any]) -> None:
    """Record the first of these that an error refuses: key, output format, streaming."""
    details = failure.details if isinstance(failure.details, dict) else {}
    keys = [key for key in DROPPABLE_KEYS if key in sent]
    if details.get("param") in keys:
        learned.dropped.append(details["param"])
        return
    if "max_completion_tokens" in sent and "max_completion_tokens" in message:
        learned.token_limit_key = "max_tokens"
        return
    about_schema = failure.status < 500 and "schema" in message  # a 5xx may mean a database's
    constraint = sent.get("response_format") or (sent.get("text") or {}).get("format")
    if constraint and (about_schema or OUTPUT_FORMAT_PATTERN.search(message)):
        learned.output_format = OUTPUT_FORMATS[OUTPUT_FORMATS.index(constraint["type"]) + 1]
    elif named := _find_named_keys(keys, message):
        learned.dropped.append(named[0])
    elif not sent.get("stream") and STREAM_ONLY_PATTERN.search(message):
        learned.stream = True
    elif "enable_thinking" in message and "false" in message:
        learned.thinking_off = True


def _find_named_keys(keys: Iterable[str], message: str) -> list[str]:
    """Return the keys that an error refuses in words."""
    if not REFUSAL_PATTERN.search(message):
        return []
    return [key for key in keys if re.search(_name_pattern(key), message)]


def _name_pattern(key: str) -> str:
    """Return a pattern of a key in a lower-case message; a common word must be marked as a key."""
    if key in ("top_p", "temperature"):
        return rf"\b{key}\b"
    mark = r"['\"`\\]"
    return (
        rf"{mark}{key}{mark}|\b{key} (?:parameter|sequence|is not|are not)"
        rf"|\b(?:parameter|argument)s?\b(?:[^:.]{{0,40}}:)? ?(?:\w+, )*{key}\b"
    )


def _find_maximum(message: str, limit: int) -> int | None:
    """Return the largest reply that a server allows, if an error names it."""
    about_replies = re.search(
        r"max_(completion_|output_)?tokens|(completion|output) tokens", message
    )
    if not about_replies or "context length" in message:
        return None
    maxima = [int(number) for number in MAXIMUM_PATTERN.findall(message)]
    return max((maximum for maximum in maxima if 0 < maximum < limit), default=None)


def _describe(before: dict[str, Any], learned: Learned, sent: dict[str, Any]) -> str:
    """Return what a server refused, and what is sent instead."""
    if learned.max_tokens != before["max_tokens"]:
        limit = get_token_limit(sent)
        return (
            f"the server refuses a limit of {limit} tokens; it is lowered to {learned.max_tokens}"
        )
    if learned.dropped != before["dropped"]:
        key = learned.dropped[-1]
        return f"the server refuses {key}={sent[key]!r}; requests are sent without it"
    if learned.output_format != before["output_format"]:
        old, new = before["output_format"], learned.output_format
        return f"the server refuses response_format {old}; requests are sent with {new}"
    if learned.stream != before["stream"]:
        return "the server only streams; streams are requested"
    if learned.thinking_off != before["thinking_off"]:
        return "the server refuses to think; requests are sent with enable_thinking: false"
    return "the server refuses max_completion_tokens; max_tokens is sent instead"


def _drop_echoes(details: Any) -> Any:
    """Remove the parts of an error that repeat the request: they do not describe the server."""
    if isinstance(details, dict):
        return {k: _drop_echoes(v) for k, v in details.items() if k not in ECHOED_KEYS}
    return [_drop_echoes(item) for item in details] if isinstance(details, list) else details
