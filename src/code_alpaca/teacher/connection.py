"""The connection to one server: its client and key, and the reply in a response."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import openai

from code_alpaca.core.errors import InputError
from code_alpaca.teacher import apis
from code_alpaca.teacher.refusals import NoReply
from code_alpaca.teacher.streams import assemble

MAX_REPLY_BYTES: Final = 8 << 20  # of one answer, decompressed; 128k tokens are about 1 MB
# Compressions of which 16 KiB, the chunk that is read, cannot hold more than 16 MiB. A kilobyte
# of Brotli can hold gigabytes.
ENCODINGS: Final = ("gzip", "x-gzip", "deflate", "identity", "")
SHORTEST_KEY: Final = 8  # a shorter one ("none", "EMPTY") is no secret, and may occur in any text
MASK: Final = b"***"


@dataclass(slots=True)
class Tally:
    """What happened on the wire since this start."""

    answered: int = 0
    retried: int = 0
    turned_away: int = 0
    first_sent: float = 0.0
    last_answered: float = 0.0


class BoundedClient(openai.DefaultAioHttpClient):
    """An HTTP client that bounds what it reads, and raises httpx2's errors alone.

    Args:
        max_bytes: of one body, decompressed. A longer one is cut off, and its response has the
            extension `too_long`.
        secret: a key that is masked wherever a body repeats it.
    """

    def __init__(self, *, max_bytes: int, secret: str = "", **options: Any) -> None:
        super().__init__(**options)
        self._max_bytes = max_bytes
        self._secret = secret.encode() if len(secret) >= SHORTEST_KEY else b""

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request and read the response to its end, or to the bound."""
        request.headers["accept-encoding"] = "gzip, deflate"
        try:
            response = await super().send(request, **{**options, "stream": True})
            try:
                body, too_long = await self._read(response)
            finally:
                await response.aclose()
        except httpx2.HTTPError:
            raise
        except Exception as error:  # aiohttp's own: a bad status line, huge headers, ...
            message = getattr(error, "message", None) or str(error) or type(error).__name__
            raise httpx2.RemoteProtocolError(f"malformed HTTP: {message}") from error
        if self._secret:
            body = body.replace(self._secret, MASK)
        headers = [
            (name, value)
            for name, value in response.headers.multi_items()
            if name not in ("content-encoding", "content-length", "transfer-encoding")
        ]
        return httpx2.Response(
            response.status_code,
            headers=headers,
            content=body,
            request=request,
            extensions={"too_long": too_long},
        )

    async def _read(self, response: httpx2.Response) -> tuple[bytes, bool]:
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in ENCODINGS:
            raise httpx2.DecodingError(f"content-encoding {encoding} was not asked for")
        parts, size = [], 0
        async for part in response.aiter_bytes():
            parts.append(part)
            size += len(part)
            if size > self._max_bytes:
                return b"", True
        return b"".join(parts), False


def new_client(
    url: str | None, timeout_s: float, most: int, max_bytes: int = MAX_REPLY_BYTES
) -> openai.AsyncOpenAI:
    """A client of one server, with at most `most` connections and replies of `max_bytes`.

    Raises:
        InputError: no OPENAI_API_KEY that can be sent, and the server is not on this machine.
    """
    key = _api_key(url)
    return openai.AsyncOpenAI(
        base_url=url,
        api_key=key,
        max_retries=0,  # ours, so that one 429 quiets all and every try is counted
        timeout=timeout_s,
        # Half the CPU time a request of the default transport (benchmarks/generation_speed.py);
        # "no limit" would mean aiohttp's own, a hundred connections.
        http_client=BoundedClient(
            max_bytes=max_bytes,
            secret=key,
            limits=httpx2.Limits(max_connections=most, max_keepalive_connections=most),
            follow_redirects=False,  # one reservation pays for one sending
        ),
    )


def _api_key(base_url: str | None) -> str:
    key = os.environ.get("OPENAI_API_KEY")
    if key:
        if not (key.isascii() and key.isprintable()):
            raise InputError(
                "OPENAI_API_KEY holds characters that no HTTP header can; copy it once more"
            )
        return key
    host = urlsplit(base_url).hostname if base_url else None
    if host in ("127.0.0.1", "localhost", "::1"):
        return "none"  # a server of one's own asks for no key, but the client insists on one
    raise InputError(
        "OPENAI_API_KEY is not set; set it (any text if your server asks for none), or set "
        "teacher_base_url: offline to use the embedded teacher"
    )


def object_of(response: httpx2.Response) -> dict[str, Any]:
    """The reply's object.

    A body that is cut off is a fault of the line, and an error in place of an answer one of the
    server: both are tried again. What can only come back in the same way is a reply, unreadable.

    Raises:
        NoReply: the body holds an error and no answer.
        json.JSONDecodeError: the body is not JSON.
    """
    if response.extensions.get("too_long"):
        return {"unreadable": "longer than any answer; it was not read to its end"}
    try:
        reply = json.loads(response.content)
    except json.JSONDecodeError:
        reply = assemble(response.text)  # some servers stream to everyone
        if reply is None:
            raise
    except (ValueError, RecursionError):  # an integer of thousands of digits, or endless brackets
        return {"unreadable": response.text}
    if (error := apis.error_of(reply)) is not None:
        raise NoReply(error, apis.usage(reply) if isinstance(reply, dict) else None)
    return reply
