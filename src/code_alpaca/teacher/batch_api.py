"""Encode and decode the files of the Batch API, and poll a batch until it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final

import openai
from openai.types import Batch

from code_alpaca.teacher.error_classification import FATAL_CODES, classify_exception

ENDPOINT: Final = "/v1/chat/completions"
FINAL_STATUSES = {"completed", "failed", "expired", "cancelled"}
MAX_POLL_FAILURES = 30  # in a row; the batch continues meanwhile
MAX_POLL_BACKOFF_S = 60.0


def encode_request(key: str, payload: dict[str, Any]) -> str:
    """Return the line of a request in a batch's input file; `custom_id` is its ledger key."""
    request = {"custom_id": key, "method": "POST", "url": ENDPOINT, "body": payload}
    return json.dumps(request) + "\n"


def decode_result(line: str) -> tuple[str, dict[str, Any]]:
    """Return the key and the result in a line of an output file, or an empty key."""
    try:
        result = json.loads(line)
    except (ValueError, RecursionError):
        return "", {}
    key = result.get("custom_id") if isinstance(result, dict) else None
    return (key, result) if isinstance(key, str) else ("", {})


async def wait_for_batch(
    client: openai.AsyncOpenAI, batch_id: str, poll_s: float, report: Callable[[str], None]
) -> Batch:
    """Poll a batch until it ends, and report every change of its status."""
    reported, num_failures = "", 0
    while True:
        try:
            batch = await client.batches.retrieve(batch_id)
        except (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError):
            num_failures += 1
            if num_failures > MAX_POLL_FAILURES:
                raise
            await asyncio.sleep(min(MAX_POLL_BACKOFF_S, poll_s * 2 ** min(num_failures, 6)))
            continue
        num_failures = 0
        counts = batch.request_counts
        line = f"{batch_id}: {batch.status}"
        if counts and counts.total:
            line += f", {counts.completed + counts.failed}/{counts.total} done"
        if line != reported:
            report(line)
            reported = line
        if batch.status in FINAL_STATUSES:
            return batch
        await asyncio.sleep(poll_s)


def format_api_error(error: openai.OpenAIError) -> str:
    """Return the line for an error of the Batch API, with the action to take."""
    transient = isinstance(error, openai.RateLimitError | openai.InternalServerError)
    if isinstance(error, openai.APIStatusError) and (not transient or error.code in FATAL_CODES):
        return classify_exception(error).format_fatal()
    return (
        f"the Batch API does not answer ({str(error)[:200]}); all replies so far are kept: rerun "
        "the same command to collect the batches already submitted"
    )
