"""The Batch API (https://platform.openai.com/docs/guides/batch): half the price, within a day.

What the engine asks for is gathered, uploaded as one JSONL file and polled for. The batch's id
is in the ledger, and the run's in the batch's metadata, so that a start after a kill collects
what an earlier one submitted instead of paying again. Answers are matched by `custom_id`, which
is the request's key in the ledger: order, missing lines and lines too many do no harm.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import openai

from code_alpaca.core.errors import Stopped
from code_alpaca.core.ledger import Ledger
from code_alpaca.teacher import apis
from code_alpaca.teacher.batch_lines import ENDPOINT, line_of, parse, trouble_in
from code_alpaca.teacher.blame import Blame
from code_alpaca.teacher.budget import Budget
from code_alpaca.teacher.connection import Tally, new_client
from code_alpaca.teacher.dialect import Dialect
from code_alpaca.teacher.refusals import (
    FATAL_CODES,
    Meaning,
    Trouble,
    message_of,
    refusal,
)

RUN = "code_alpaca_run"  # metadata key that names the run
GATHER_S = 0.3  # without a further request, what is there is submitted
MOST_REQUESTS = 50_000  # the API's limit of one batch
MOST_BYTES = 150 << 20  # of 200 MB
MOST_REPLY_BYTES = 2 << 30  # of a batch's output file, which is one body
HICCUPS = 30  # looks at a batch in a row that may fail: it goes on without us
TRIES = 3  # batches that a request may fail to be answered in
ENDED = {"completed", "failed", "expired", "cancelled"}


@dataclass(slots=True)
class Waiting:
    """A request that is not answered yet: its body, and who waits for the reply."""

    payload: dict[str, Any]
    future: asyncio.Future[dict[str, Any]]
    tries: int = 0


class BatchTeacher:
    """A teacher behind the Batch API, with `ask` as the engine wants it.

    Args:
        poll_s: seconds between two looks at a batch.
        say: where progress goes, a line at a time.
    """

    def __init__(
        self,
        base_url: str | None,
        *,
        ledger: Ledger,
        budget: Budget | None,
        timeout_s: float,
        poll_s: float,
        say: Callable[[str], None],
    ) -> None:
        self.tally = Tally()
        self._client = new_client(base_url, timeout_s, 4, MOST_REPLY_BYTES)
        self._ledger, self._budget = ledger, budget
        self._dialect = Dialect(ledger)
        self._poll_s, self._say = poll_s, say
        self._gathered: dict[str, Waiting] = {}
        self._submitted: dict[str, Waiting] = {}
        self._changed = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._blame = Blame(ledger, self.tally, self._closing)

    @property
    def in_flight(self) -> int:
        return len(self._submitted)

    async def start(self) -> None:
        """Collect what earlier starts submitted.

        Raises:
            Stopped: the server refuses or does not answer.
        """
        try:
            await self._adopt_orphans()
            open_batches = self._ledger.open_batches()
            if self._budget:
                self._budget.give_up_lost({key for _, keys in open_batches for key in keys})
            for batch_id, keys in open_batches:
                self._say(f"batch     {batch_id}: collecting {len(keys)} requests sent earlier")
                await self._collect(batch_id, keys)
        except openai.OpenAIError as error:
            raise Stopped(_failed(error)) from None

    async def ask(
        self, number: int, payload: dict[str, Any], asked: dict[str, Any], seed_ids: Sequence[str]
    ) -> tuple[str, dict[str, Any]]:
        """The key and the raw reply of request `number`, from the ledger or from a batch.

        Raises:
            Stopped: the teacher refused for good, or the budget is used up.
        """
        tries = 0
        while True:
            sent = self._dialect.weaken(payload)
            key = self._ledger.request(
                number,
                apis.PATHS["chat"],
                sent,
                seed_ids=seed_ids,
                asked=asked,
                same=apis.question,
            )
            if (reply := self._ledger.reply(key)) is not None:
                return key, reply
            waiting = Waiting(sent, asyncio.get_running_loop().create_future(), tries)
            self._gathered[key] = waiting
            self._wake()
            try:
                return key, await waiting.future
            except AskAgain as again:
                tries = waiting.tries + again.counts
                if tries < TRIES:
                    continue
                trouble = Trouble(Meaning.FAULT, str(again))
                if self._blame.is_this_request(number, trouble, None):
                    return key, self._pass_over(key, str(again), apis.UNANSWERED)
                raise Stopped(
                    f"request {number} was not answered in {TRIES} batches ({again}); "
                    "everything so far is kept: give the same command again"
                ) from None

    def stop_sending(self) -> None:
        """Submit nothing more; what was submitted is collected by the next start."""
        self._closing.set()
        for waiting in [*self._gathered.values(), *self._submitted.values()]:
            if not waiting.future.done():
                waiting.future.cancel()
        if self._worker:
            self._worker.cancel()

    async def close(self) -> None:
        if self._worker:
            await asyncio.gather(self._worker, return_exceptions=True)
        await self._client.close()

    # -- submitting ------------------------------------------------------------------------

    def _wake(self) -> None:
        self._changed.set()
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())

    async def _work(self) -> None:
        """Batch after batch, as long as anything is asked for; errors go to those who wait."""
        try:
            while self._gathered and not self._closing.is_set():
                await self._gather()
                chosen = self._choose()
                batch_id = await self._submit(chosen)
                await self._collect(batch_id, list(chosen))
        except (openai.OpenAIError, Stopped) as error:
            self._tell_all(error if isinstance(error, Stopped) else Stopped(_failed(error)))
            self._gathered.clear()
            self._submitted.clear()
        except Exception as error:  # a defect of ours: whoever waits must hear of it
            self._tell_all(error)
            raise

    def _tell_all(self, error: Exception) -> None:
        for waiting in [*self._gathered.values(), *self._submitted.values()]:
            if not waiting.future.done():
                waiting.future.set_exception(error)

    async def _gather(self) -> None:
        while True:
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), GATHER_S)
            except TimeoutError:
                return

    def _choose(self) -> dict[str, Waiting]:
        """As many of the gathered requests as limits and budget allow, reserved.

        Raises:
            Stopped: the budget has no room for a single one.
        """
        chosen: dict[str, Waiting] = {}
        size = 0
        for key, waiting in self._gathered.items():
            size += len(line_of(key, waiting.payload))
            if len(chosen) == MOST_REQUESTS or (chosen and size > MOST_BYTES):
                break
            if self._budget:
                if not self._budget.fits(waiting.payload):
                    break
                self._budget.reserve(key, waiting.payload)
            chosen[key] = waiting
        if not chosen and self._budget:
            raise Stopped(self._budget.used_up(next(iter(self._gathered.values())).payload))
        for key, waiting in chosen.items():
            self._submitted[key] = waiting
            del self._gathered[key]
        return chosen

    async def _submit(self, chosen: dict[str, Waiting]) -> str:
        lines = "".join(line_of(key, waiting.payload) for key, waiting in chosen.items())
        try:
            file = await self._client.files.create(
                file=("requests.jsonl", lines.encode()), purpose="batch"
            )
        except openai.OpenAIError:
            self._give_up(chosen, free=True, why="not uploaded")
            raise
        try:
            batch = await self._client.batches.create(
                input_file_id=file.id,
                endpoint=ENDPOINT,
                completion_window="24h",
                metadata={RUN: self._ledger.run_id()},
            )
        except openai.APIStatusError as error:
            if error.status_code < 500:
                self._give_up(chosen, free=True, why="batch refused")
            raise
        self._ledger.add_batch(batch.id, list(chosen))
        self._say(f"batch     {batch.id}: {len(chosen)} requests submitted")
        return batch.id

    # -- collecting ------------------------------------------------------------------------

    async def _adopt_orphans(self) -> None:
        """Batches of this run that a kill kept out of the ledger, between submit and record."""
        known = self._ledger.batch_ids()
        run_id = self._ledger.run_id()
        async for batch in self._client.batches.list(limit=100):
            if (batch.metadata or {}).get(RUN) == run_id and batch.id not in known:
                text = (await self._client.files.content(batch.input_file_id)).text
                self._ledger.add_batch(
                    batch.id, [json.loads(line)["custom_id"] for line in text.split("\n") if line]
                )

    async def _collect(self, batch_id: str, keys: Sequence[str]) -> None:
        """Wait for a batch to end and hand out what came of it.

        Raises:
            Stopped: the batch failed as a whole, or a line says that the teacher refuses for good.
        """
        batch = await self._ended(batch_id)
        if batch.status == "failed":
            problems = (batch.errors.data if batch.errors else None) or []
            told = "; ".join(str(problem.message) for problem in problems)
            self._ledger.end_batch(batch_id)
            self._give_up(keys, free=True, why="batch failed")
            raise Stopped(
                f"batch {batch_id} failed ({told[:200] or 'no reason given'}); everything so far "
                "is kept: mend the cause and give the same command again"
            )
        stopped: Stopped | None = None
        left = set(keys)
        for file_id in (batch.output_file_id, batch.error_file_id):
            if file_id is None:
                continue
            for line in (await self._client.files.content(file_id)).text.split("\n"):
                key, result = parse(line)
                if key in left:
                    left.discard(key)
                    stopped = self._take(key, result) or stopped
        self._ledger.end_batch(batch_id)
        self._give_up(left, free=batch.status != "completed", why=f"missing, batch {batch.status}")
        for key in left:
            self._again(key, f"no line for it in batch {batch_id} ({batch.status})", 1)
        if stopped:
            raise stopped

    async def _ended(self, batch_id: str) -> Any:
        shown, hiccups = "", 0
        while True:
            try:
                batch = await self._client.batches.retrieve(batch_id)
            except (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError):
                hiccups += 1
                if hiccups > HICCUPS:
                    raise
                await asyncio.sleep(min(60.0, self._poll_s * 2 ** min(hiccups, 6)))
                continue
            hiccups = 0
            counts = batch.request_counts
            line = f"batch     {batch_id}: {batch.status}"
            if counts and counts.total:
                line += f", {counts.completed + counts.failed}/{counts.total} done"
            if line != shown:
                self._say(line)
                shown = line
            if batch.status in ENDED:
                return batch
            await asyncio.sleep(self._poll_s)

    def _take(self, key: str, result: dict[str, Any]) -> Stopped | None:
        """Record one line of a batch and wake who waits for it."""
        response = result.get("response")
        response = response if isinstance(response, dict) else {}
        status, body = response.get("status_code"), response.get("body")
        status = status if isinstance(status, int) else None
        failed = apis.error_of(body) if status == 200 else None
        if status == 200 and isinstance(body, dict) and failed is None:
            with self._ledger.durable():
                self._ledger.save_reply(key, body, usage=apis.usage(body))
                if self._budget:
                    self._budget.settle(key, body)
            self.tally.answered += 1
            self._answer(key, body)
            return None
        trouble = trouble_in(status, failed or result.get("error") or body)
        if self._budget:
            why = trouble.code or trouble.outcome
            used = apis.usage(body) if failed and isinstance(body, dict) else None
            self._budget.give_up(key, why, free=trouble.free, usage=used)
        waiting = self._submitted.get(key)
        doubtful = trouble.meaning is Meaning.DOUBTFUL
        if trouble.meaning is Meaning.PROMPT:
            self._answer(key, self._pass_over(key, trouble.message, trouble.code))
        elif waiting and self._dialect.learn(trouble, waiting.payload):
            self._again(key, trouble.message, 0)
        elif doubtful and self.tally.answered:  # the teacher answers others
            self._answer(key, self._pass_over(key, trouble.message, trouble.code))
        elif trouble.meaning is Meaning.FATAL or doubtful:
            stopped = Stopped(refusal(trouble.status, trouble.message))
            if waiting and not waiting.future.done():
                waiting.future.set_exception(stopped)
            self._submitted.pop(key, None)
            return stopped
        else:
            self._again(key, trouble.message, 1)
        return None

    def _pass_over(self, key: str, message: str, code: str | None) -> dict[str, Any]:
        """Record an error as the reply to a request: it brings no row, and is not asked again."""
        reply = {"error": {"message": message, "code": code}}
        with self._ledger.durable():
            self._ledger.save_reply(key, reply)
        return reply

    def _answer(self, key: str, reply: dict[str, Any]) -> None:
        waiting = self._submitted.pop(key, None)
        if waiting and not waiting.future.done():
            waiting.future.set_result(reply)

    def _again(self, key: str, why: str, counts: int) -> None:
        waiting = self._submitted.pop(key, None)
        if waiting and not waiting.future.done():
            waiting.future.set_exception(AskAgain(why, counts))

    def _give_up(self, keys: Iterable[str], *, free: bool, why: str) -> None:
        if self._budget:
            for key in keys:
                self._budget.give_up(key, why, free=free)


class AskAgain(Exception):
    """A request that its batch did not answer; `counts` is 1 where that was a try."""

    def __init__(self, why: str, counts: int) -> None:
        super().__init__(why)
        self.counts = counts


def _failed(error: openai.OpenAIError) -> str:
    passing = isinstance(error, openai.RateLimitError | openai.InternalServerError)
    if isinstance(error, openai.APIStatusError) and (not passing or error.code in FATAL_CODES):
        return refusal(error.status_code, message_of(error.body or str(error)))
    return (
        f"the Batch API does not answer ({str(error)[:200]}); everything so far is kept, and what "
        "was submitted is collected when you give the same command again"
    )
