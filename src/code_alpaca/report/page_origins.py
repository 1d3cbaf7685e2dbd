"""Embed in the report page what its rows came from: seed tasks, prompts, replies and decisions."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from typing import Any

from code_alpaca.report.lineage import Exchange, LineageReader, Message

MAX_BYTES = 16_000_000  # of packed requests: the page stays usable
REQUESTS_PER_CHUNK = 40  # unpacked together
MAX_TEXT_LENGTH = 20_000  # characters of one prompt or reply
MAX_TITLE_LENGTH = 200  # characters of the instruction of another candidate


def pack_origins(
    request_ids: Sequence[str], lineage: LineageReader, max_bytes: int = MAX_BYTES
) -> tuple[str, int]:
    """Return the origins for page.js, and for how many requests there was no space.

    Each line is base64 of gzipped JSON, so that the page unpacks only what is opened: seed tasks
    and the chunk of each request, then the chunks. Requests of another run, from which a curated
    row comes, are left out and not counted.
    """
    chunk_of: dict[str, int] = {}
    chunks: list[str] = []
    requests: dict[str, Any] = {}
    size, omitted = 0, 0
    for request_id in request_ids:
        exchange = lineage.exchange(request_id)
        if exchange is None:
            continue
        if size > max_bytes:
            omitted += 1
            continue
        requests[request_id], chunk_of[request_id] = _page_record(exchange), len(chunks)
        if len(requests) == REQUESTS_PER_CHUNK:
            chunks.append(_pack(requests))
            size += len(chunks[-1])
            requests = {}
    index = _pack({"seedTasks": lineage.seed_tasks(), "chunkOf": chunk_of})
    return "\n".join([index, *chunks, _pack(requests)]), omitted


def _pack(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _page_record(exchange: Exchange) -> dict[str, Any]:
    return {
        "prompt": {
            "title": f"Prompt of request {exchange.number}, sent {exchange.sent_at}",
            **_page_message(exchange.request),
        },
        "reply": {
            "title": f"Reply, received {exchange.received_at}",
            **_page_message(exchange.reply),
        },
        "candidates": [
            {
                "id": decision.example.id,
                "reason": decision.reason,
                "instruction": decision.example.instruction[:MAX_TITLE_LENGTH],
            }
            for decision in exchange.decisions
        ],
    }


def _page_message(message: Message) -> dict[str, Any]:
    body = json.dumps(message.body, indent=1, ensure_ascii=False)
    return {"texts": list(map(shorten, message.texts)), "body": shorten(body)}


def shorten(text: str) -> str:
    """Return a text, or its beginning and how many characters are left out."""
    if len(text) <= MAX_TEXT_LENGTH:
        return text
    omitted = len(text) - MAX_TEXT_LENGTH
    return f"{text[:MAX_TEXT_LENGTH]}\n… and {omitted:,} more characters"
