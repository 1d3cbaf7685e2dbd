"""Create the HTTP client of one server, and decode its responses."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import openai

from code_alpaca.core.errors import InputError
from code_alpaca.teacher.error_classification import classify_error_body
from code_alpaca.teacher.reply_parsing import assemble_stream, count_billed_tokens, find_error

MAX_REPLY_BYTES: Final = 8 << 20  # of one reply, decompressed; 128k tokens are about 1 MB
# One 16 KiB chunk in these encodings expands to 16 MiB at most; a kilobyte of Brotli can expand to
# gigabytes.
ENCODINGS: Final = ("gzip", "x-gzip", "deflate", "identity", "")
MIN_SECRET_LENGTH: Final = 8  # shorter API keys ("none", "EMPTY") are not secret
LOCAL_HOSTS: Final = ("127.0.0.1", "localhost", "::1")


@dataclass(slots=True)
class RequestStats:
    """Counts and times of the requests of this process; times are those of the event loop."""

    answered: int = 0
    retried: int = 0
    rejected: int = 0  # 429 and 503
    first_sent: float = 0.0
    last_answered: float = 0.0


def create_client(
    base_url: str | None,
    max_connections: int,
    timeout_s: float,
    transport: httpx2.AsyncBaseTransport | None = None,
    max_bytes: int = MAX_REPLY_BYTES,
) -> openai.AsyncOpenAI:
    """Create a client of one server.

    Raises:
        InputError: OPENAI_API_KEY is missing or invalid, and the server is not on this machine.
    """
    key = _read_api_key(base_url)
    return openai.AsyncOpenAI(
        base_url=base_url,
        api_key=key,
        max_retries=0,  # `Teacher` retries: it pauses all requests after one 429, and counts
        timeout=timeout_s,
        # aiohttp needs half the CPU time per request of httpx (benchmarks/generation_speed.py).
        # Its default limit is 100 connections.
        http_client=BoundedHttpClient(
            max_bytes=max_bytes,
            secret=key,
            limits=httpx2.Limits(
                max_connections=max_connections, max_keepalive_connections=max_connections
            ),
            follow_redirects=False,  # every request sent must have its own budget reservation
            transport=transport,
        ),
    )


class BoundedHttpClient(openai.DefaultAioHttpClient):
    """An HTTP client that masks a secret in responses and raises only httpx2 errors.

    A decompressed body above `max_bytes` is dropped; the response has the extension `too_large`.
    """

    def __init__(self, *, max_bytes: int, secret: str, **options: Any) -> None:
        super().__init__(**options)
        self._max_bytes = max_bytes
        self._secret = secret.encode() if len(secret) >= MIN_SECRET_LENGTH else b""

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request and read the response completely, or up to the size limit."""
        request.headers["accept-encoding"] = "gzip, deflate"
        try:
            response = await super().send(request, **{**options, "stream": True})
            async with contextlib.aclosing(response):
                body, too_large = await self._read(response)
        except httpx2.HTTPError:
            raise
        except Exception as error:  # of aiohttp: a bad status line, oversized headers, ...
            message = getattr(error, "message", None) or str(error) or type(error).__name__
            raise httpx2.RemoteProtocolError(f"malformed HTTP: {message}") from error
        if self._secret:
            body = body.replace(self._secret, b"***")
        headers = response.headers.copy()
        for name in ("content-encoding", "content-length", "transfer-encoding"):
            headers.pop(name, None)
        return httpx2.Response(
            response.status_code,
            headers=headers,
            content=body,
            request=request,
            extensions={"too_large": too_large},
        )

    async def _read(self, response: httpx2.Response) -> tuple[bytes, bool]:
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in ENCODINGS:
            raise httpx2.DecodingError(f"unexpected content-encoding {encoding}")
        body = bytearray()
        async for part in response.aiter_bytes():
            body += part
            if len(body) > self._max_bytes:
                return b"", True
        return bytes(body), False


def _read_api_key(base_url: str | None) -> str:
    if key := os.environ.get("OPENAI_API_KEY"):
        if key.isascii() and key.isprintable():
            return key
        raise InputError(
            "OPENAI_API_KEY contains characters that are not allowed in an HTTP header; copy the "
            "key again"
        )
    if is_local(base_url):
        return "none"  # local servers need no key, but the client requires one
    raise InputError(
        "OPENAI_API_KEY is not set; set it (to any text if the server needs no key), or set "
        "teacher_base_url: offline to use the embedded teacher"
    )


def is_local(base_url: str | None) -> bool:
    """Return whether a base URL is on this machine; without one, OpenAI's is used."""
    return bool(base_url) and urlsplit(base_url).hostname in LOCAL_HOSTS


def decode_reply(response: httpx2.Response) -> dict[str, Any]:
    """Return the JSON object in a response body.

    A body that is an error (RequestFailure) or not JSON (JSONDecodeError) is raised, because a
    retry can succeed. A body that a retry would repeat (too large, too deeply nested) is returned
    as an unreadable reply.
    """
    if response.extensions.get("too_large"):
        return {"unreadable": "the response exceeds the size limit and was dropped"}
    try:
        reply = json.loads(response.content)
    except json.JSONDecodeError:
        reply = assemble_stream(response.text)  # some servers always stream
        if reply is None:
            raise
    except (ValueError, RecursionError):  # an integer of thousands of digits, or deep nesting
        return {"unreadable": response.text}
    if (error := find_error(reply)) is not None:
        raise classify_error_body(error, count_billed_tokens(reply))
    return reply
