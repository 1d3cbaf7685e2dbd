"""Send requests through the Batch API: half the price, replies within a day.

https://platform.openai.com/docs/guides/batch. Requests are uploaded as one JSONL file. The ledger
records the id of the batch, and the batch's metadata the id of the run, so that after a kill the
next start collects submitted batches instead of paying again. Results are matched by `custom_id`,
the request's key in the ledger, in any order; missing lines are retried, unknown lines ignored.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import openai

from code_alpaca.core.console import plural
from code_alpaca.core.errors import Stopped
from code_alpaca.core.ledger import Ledger
from code_alpaca.teacher import batch_api
from code_alpaca.teacher.budget import Budget
from code_alpaca.teacher.capabilities import (
    ServerCapabilities,
    get_immutable_part,
    get_question,
)
from code_alpaca.teacher.error_classification import ErrorKind, RequestFailure, classify_batch_error
from code_alpaca.teacher.failure_attribution import FailureAttribution, save_error_reply
from code_alpaca.teacher.http_client import RequestStats, create_client
from code_alpaca.teacher.reply_parsing import UNANSWERED, count_billed_tokens, find_error
from code_alpaca.teacher.scheduling import ConnectionSettings

RUN_ID_KEY = "code_alpaca_run"  # metadata key of a batch with the id of its run
COLLECT_S = 0.3  # a batch is submitted when no further request arrives for this long
MAX_REQUESTS = 50_000  # limit of the API per batch
MAX_INPUT_BYTES = 150 << 20  # the API allows 200 MB
MAX_OUTPUT_BYTES = 2 << 30  # an output file is one response body
MAX_CONNECTIONS = 4
MAX_BATCHES_PER_REQUEST = 3


class BatchTeacher:
    """A teacher behind the Batch API, with the interface of `Teacher`; `report` prints progress."""

    def __init__(
        self,
        base_url: str | None,
        settings: ConnectionSettings,
        *,
        ledger: Ledger,
        budget: Budget | None,
        report: Callable[[str], None],
    ) -> None:
        self.stats = RequestStats()
        few = replace(settings, max_concurrency=MAX_CONNECTIONS)
        self._client = create_client(base_url, few, max_bytes=MAX_OUTPUT_BYTES)
        self._endpoint = settings.endpoint  # in a request's key: the same as without a batch
        self._ledger, self._budget = ledger, budget
        self._poll_s, self._report = settings.batch_poll_s, report
        self._queued: dict[str, dict[str, Any]] = {}  # payloads by request key
        self._submitted: dict[str, dict[str, Any]] = {}
        self._futures: dict[str, asyncio.Future[dict[str, Any]]] = {}  # of the replies
        self._arrived = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._attribution = FailureAttribution(ledger, self.stats, self._stopping)
        self._capabilities = ServerCapabilities(ledger, [base_url])

    @property
    def in_flight(self) -> int:
        """The number of requests submitted and not yet answered."""
        return len(self._submitted)

    async def start(self) -> None:
        """Collect the batches that earlier starts submitted."""
        try:
            await self._adopt_unrecorded_batches()
            open_batches = self._ledger.open_batches()
            if self._budget:
                self._budget.close_lost_attempts({key for _, keys in open_batches for key in keys})
            for batch_id, keys in open_batches:
                self._report(
                    f"{batch_id}: collecting {plural(len(keys), 'request')} submitted earlier"
                )
                await self._collect_results(batch_id, keys)
        except openai.OpenAIError as error:
            raise Stopped(batch_api.format_api_error(error)) from None

    async def complete(
        self,
        index: int,
        payload: dict[str, Any],
        asked: dict[str, Any],
        seed_ids: Sequence[str],
        *,
        revises: str | None = None,
    ) -> tuple[str, dict[str, Any]]:
        """Return the key and the raw reply of request `index`; see `Teacher.complete`."""
        num_batches = 0
        about = {"seed_ids": seed_ids, "asked": asked, "question": get_question(payload)}
        about |= {"immutable_part": get_immutable_part, "revises": revises}
        with self._attribution.track_request(index):
            while True:
                sent = self._capabilities.adapt(payload)
                key = self._ledger.request(index, self._endpoint, sent, **about)
                if (reply := self._ledger.reply(key)) is not None:
                    return key, reply
                try:
                    return key, await self._enqueue(key, sent)
                except RetryInNextBatch as retry:
                    num_batches += retry.counts
                    if num_batches < MAX_BATCHES_PER_REQUEST:
                        continue
                    failure = RequestFailure(ErrorKind.TRANSIENT, str(retry))
                    if self._attribution.is_request_at_fault(index, failure):
                        return key, save_error_reply(self._ledger, key, str(retry), UNANSWERED)
                    raise Stopped(
                        f"request {index} was not answered in {num_batches} batches ({retry}); all "
                        "replies so far are kept: rerun the same command to resume"
                    ) from None

    async def fetch_context_length(self, model: str) -> int | None:
        """Return None: servers with a Batch API do not report context lengths."""
        return None

    def can_afford(self, payload: dict[str, Any]) -> bool:
        """Return whether a request fits under the cap now, besides those submitted."""
        return self._budget is None or self._budget.can_afford(payload)

    def stop_sending(self) -> None:
        """Submit no more batches; the next start collects the submitted ones."""
        self._stopping.set()
        for future in self._futures.values():
            future.cancel()
        if self._worker:
            self._worker.cancel()

    async def close(self) -> None:
        if self._worker:
            await asyncio.gather(self._worker, return_exceptions=True)
        await self._client.close()

    def _enqueue(self, key: str, payload: dict[str, Any]) -> asyncio.Future[dict[str, Any]]:
        """Queue a request for the next batch, and start the worker if it does not run."""
        self._queued[key] = payload
        self._futures[key] = asyncio.get_running_loop().create_future()
        self._arrived.set()
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._process_queue())
        return self._futures[key]

    async def _process_queue(self) -> None:
        """Submit and collect one batch after another until the queue is empty."""
        try:
            while self._queued and not self._stopping.is_set():
                await self._wait_for_arrivals()
                lines = self._select_requests()
                batch_id = await self._submit(lines)
                await self._collect_results(batch_id, lines)
        except Exception as error:  # every pending request must raise it, also a bug
            if isinstance(error, openai.OpenAIError):
                error = Stopped(batch_api.format_api_error(error))
            for key in list(self._futures):
                self._resolve(key, error)
            self._queued.clear()
            if not isinstance(error, Stopped):
                raise

    async def _wait_for_arrivals(self) -> None:
        """Return once no request was queued for COLLECT_S seconds."""
        with contextlib.suppress(TimeoutError):
            while True:
                self._arrived.clear()
                await asyncio.wait_for(self._arrived.wait(), COLLECT_S)

    def _select_requests(self) -> dict[str, str]:
        """Move requests from the queue to the next batch; return their input lines by key."""
        lines: dict[str, str] = {}
        size = 0
        for key, payload in self._queued.items():
            line = batch_api.encode_request(key, payload)
            size += len(line)
            if len(lines) == MAX_REQUESTS or (lines and size > MAX_INPUT_BYTES):
                break
            if self._budget:
                if not self._budget.can_afford(payload):
                    break
                self._budget.reserve(key, payload)
            lines[key] = line
        if not lines and self._budget:
            raise Stopped(self._budget.format_exhausted(next(iter(self._queued.values()))))
        self._submitted.update((key, self._queued.pop(key)) for key in lines)
        return lines

    async def _submit(self, lines: dict[str, str]) -> str:
        """Upload the requests and create a batch of them; return its id."""
        upload = ("requests.jsonl", "".join(lines.values()).encode())
        try:
            file = await self._client.files.create(file=upload, purpose="batch")
        except openai.OpenAIError:
            self._release(lines, "not uploaded", not_billed=True)
            raise
        try:
            batch = await self._client.batches.create(
                input_file_id=file.id,
                endpoint=batch_api.ENDPOINT,
                completion_window="24h",
                metadata={RUN_ID_KEY: self._ledger.run_id()},
            )
        except openai.APIStatusError as error:
            if error.status_code < 500:
                self._release(lines, "batch refused", not_billed=True)
            raise
        self._ledger.add_batch(batch.id, list(lines))
        self._report(f"{batch.id}: {plural(len(lines), 'request')} submitted")
        return batch.id

    async def _adopt_unrecorded_batches(self) -> None:
        """Record batches of this run that were submitted just before a kill."""
        recorded, run_id = self._ledger.batch_ids(), self._ledger.run_id()
        async for batch in self._client.batches.list(limit=100):
            if (batch.metadata or {}).get(RUN_ID_KEY) == run_id and batch.id not in recorded:
                lines = await self._read_file(batch.input_file_id)
                keys = [json.loads(line)["custom_id"] for line in lines if line]
                self._ledger.add_batch(batch.id, keys)

    async def _read_file(self, file_id: str) -> list[str]:
        return (await self._client.files.content(file_id)).text.split("\n")

    async def _collect_results(self, batch_id: str, keys: Iterable[str]) -> None:
        """Wait for a batch to end, record its results and resolve the pending requests."""
        batch = await batch_api.wait_for_batch(self._client, batch_id, self._poll_s, self._report)
        if batch.status == "failed":
            errors = (batch.errors.data if batch.errors else None) or []
            reason = "; ".join(str(error.message) for error in errors)[:200]
            self._ledger.end_batch(batch_id)
            self._release(keys, "batch failed", not_billed=True)
            raise Stopped(
                f"batch {batch_id} failed ({reason or 'no reason given'}); all replies so far are "
                "kept: fix the cause and rerun the same command"
            )
        stopped: Stopped | None = None
        missing = set(keys)
        for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
            for line in await self._read_file(file_id):
                key, result = batch_api.decode_result(line)
                if key in missing:
                    missing.discard(key)
                    stopped = self._record_result(key, result) or stopped
        self._ledger.end_batch(batch_id)
        was_cancelled = batch.status != "completed"
        self._release(missing, f"missing, batch {batch.status}", not_billed=was_cancelled)
        reason = f"no line for it in batch {batch_id} ({batch.status})"
        for key in missing:
            self._resolve(key, RetryInNextBatch(reason))
        if stopped:
            raise stopped

    def _record_result(self, key: str, result: dict[str, Any]) -> Stopped | None:
        """Record one line of a batch; return the error if it must stop the run."""
        response = result.get("response")
        response = response if isinstance(response, dict) else {}
        status, body = response.get("status_code"), response.get("body")
        status = status if isinstance(status, int) else None
        error = find_error(body) if status == 200 else None
        usage = count_billed_tokens(body) if status == 200 else None
        if status == 200 and error is None:
            with self._ledger.durable():
                self._ledger.save_reply(key, body, usage=usage)
                if self._budget:
                    self._budget.settle(key, body)
            self.stats.answered += 1
            self._resolve(key, body)
            return None
        failure = classify_batch_error(status, error or result.get("error") or body)
        if self._budget:
            outcome = failure.code or failure.outcome
            self._budget.release(key, outcome, failure.not_billed, usage)
        return self._handle_failure(key, failure)

    def _handle_failure(self, key: str, failure: RequestFailure) -> Stopped | None:
        """Skip or retry a failed request; return the error if it must stop the run."""
        payload = self._submitted.get(key)
        ambiguous = failure.kind is ErrorKind.AMBIGUOUS
        stopped: Stopped | None = None
        rejected = failure.kind is ErrorKind.PROMPT_REJECTED
        if payload and self._capabilities.downgrade(failure, payload):
            result = RetryInNextBatch(failure.message, counts=False)
        elif rejected or (ambiguous and self.stats.answered):  # other prompts succeed
            result = save_error_reply(self._ledger, key, failure.message, failure.code)
        elif failure.kind is ErrorKind.FATAL or ambiguous:
            result = stopped = Stopped(failure.format_fatal())
        else:
            result = RetryInNextBatch(failure.message)
        self._resolve(key, result)
        return stopped

    def _resolve(self, key: str, result: dict[str, Any] | Exception) -> None:
        self._submitted.pop(key, None)
        future = self._futures.pop(key, None)
        if future is None or future.done():
            return
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)

    def _release(self, keys: Iterable[str], outcome: str, *, not_billed: bool) -> None:
        if self._budget:
            for key in keys:
                self._budget.release(key, outcome, not_billed)


class RetryInNextBatch(Exception):
    """A batch ended without a reply to a request; `counts` is whether this was an attempt."""

    def __init__(self, reason: str, *, counts: bool = True) -> None:
        super().__init__(reason)
        self.counts = counts
