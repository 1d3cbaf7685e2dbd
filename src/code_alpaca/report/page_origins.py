"""Embed in the report page what its rows came from: seed tasks, prompts, replies and decisions."""

from __future__ import annotations

import base64
import gzip
import io
import json
from collections.abc import Sequence
from typing import Any

from code_alpaca.report.lineage import Exchange, LineageReader, Message

MAX_BYTES = 12_000_000  # of compressed requests: the page stays usable
MAX_TEXT_LENGTH = 20_000  # characters of one prompt or reply
MAX_TITLE_LENGTH = 200  # characters of the instruction of another candidate


def pack_origins(
    request_ids: Sequence[str], lineage: LineageReader, max_bytes: int = MAX_BYTES
) -> tuple[str, int]:
    """Return the origins as base64 of gzipped JSON, and for how many requests there was no space.

    Requests of another run, from which a curated row comes, are not counted.
    """
    buffer, separator, omitted = io.BytesIO(), "", 0
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as file:
        seed_tasks = json.dumps(lineage.seed_tasks(), separators=(",", ":"))
        file.write(f'{{"seedTasks":{seed_tasks},"requests":{{'.encode())
        for request_id in request_ids:
            exchange = lineage.exchange(request_id)
            if exchange is None:
                continue
            if buffer.tell() > max_bytes:
                omitted += 1
                continue
            record = json.dumps(_page_record(exchange), separators=(",", ":"))
            file.write(f"{separator}{json.dumps(request_id)}:{record}".encode())
            separator = ",\n"
        file.write(b"}}")
    return base64.b64encode(buffer.getvalue()).decode(), omitted


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
