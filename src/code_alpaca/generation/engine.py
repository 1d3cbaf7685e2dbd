"""The generation loop: send requests ahead, decide replies in order, until enough is accepted.

Replies arrive in any order but are *decided* in the order of their request numbers, and request k
may show only rows accepted from requests up to k - lookahead. So the dataset does not depend on
concurrency, retries or kills.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
from array import array
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from code_alpaca.core import console
from code_alpaca.core.errors import Stopped, TeacherRefused
from code_alpaca.core.ledger import Decision, Ledger, utc_now
from code_alpaca.core.plugins import PluginError
from code_alpaca.core.row_checks import make_text
from code_alpaca.core.schema import Example, content_id
from code_alpaca.curation.pipeline import Curator
from code_alpaca.generation.candidates import Candidate
from code_alpaca.generation.fruitless_replies import FruitlessReplies
from code_alpaca.generation.progress import RunProgress, RunTotals
from code_alpaca.generation.quotas import Quotas
from code_alpaca.generation.request_limits import LimitTracker, RequestLimits
from code_alpaca.generation.request_plan import RequestPlan, TeacherRequest
from code_alpaca.generation.signals import stop_on_signals
from code_alpaca.teacher.batch import BatchTeacher
from code_alpaca.teacher.client import Teacher
from code_alpaca.teacher.reply_parsing import count_billed_tokens, parse_reply

AnyTeacher = Teacher | BatchTeacher
Rebuild = Callable[[RequestLimits], TeacherRequest]

PROGRESS_INTERVAL_S = 0.2
# A stopping run waits this long for replies in flight: less than the 30 s that Slurm and Kubernetes
# leave between SIGTERM and SIGKILL.
MAX_WAIT_S = 25.0
QUIET_WAIT_S = 0.5  # of this wait pass before it is reported


class GenerationEngine:
    """One start of a run, over a ledger that may contain earlier starts."""

    def __init__(
        self, plan: RequestPlan, ledger: Ledger, curator: Curator, progress: RunProgress
    ) -> None:
        self.plan, self.config = plan, plan.config
        self.ledger, self.curator, self.progress = ledger, curator, progress
        self.totals = RunTotals(self.config.num_examples)
        # Of every accepted row: its request number and its position in the reply.
        self._numbers, self._positions = array("q"), array("i")
        self._quotas = Quotas(self.config.quotas, self.config.lookahead)
        self._threads = ThreadPoolExecutor(curator.num_workers)  # they wait for the sandboxes
        self._pending: dict[int, asyncio.Task[list[Decision]]] = {}  # sent and not decided
        self._limits = LimitTracker(self.config, ledger)
        self._answered: dict[int, TeacherRequest] = {}  # not decided, in the form that was answered
        self._next = ledger.next_undecided()
        self._fruitless: list[Counter[str]] = []  # reasons by reply since the last accepted row
        self._stop: asyncio.Future[Exception] | None = None  # needs a running loop
        self._restore()

    @property
    def done(self) -> bool:
        return self.totals.accepted >= self.config.num_examples

    async def run(
        self, create_teacher: Callable[[], AnyTeacher], write_checkpoint: Callable[[], None]
    ) -> None:
        """Send and decide until enough rows are accepted.

        Args:
            create_teacher: called inside the event loop, which the client's locks need.
            write_checkpoint: writes the dataset so far; called in a thread.

        Raises:
            Stopped: the run cannot or should not continue now (see `generate_dataset`).
        """
        with stop_on_signals():
            await self._run(create_teacher(), write_checkpoint)

    async def _run(self, teacher: AnyTeacher, write_checkpoint: Callable[[], None]) -> None:
        progress = asyncio.create_task(self._update_progress(teacher))
        self._stop = asyncio.get_running_loop().create_future()
        try:
            await teacher.start()
            await self._read_context_length(teacher)
            while not self.done:
                self._send_ahead(teacher)
                self._decide(await self._wait_for_next())
                await asyncio.sleep(0)  # several may be ready: send requests in between
                if not self.done and self.totals.checkpoint_due(self.config.checkpoint_every):
                    await asyncio.to_thread(write_checkpoint)
        finally:
            progress.cancel()
            await self._collect_in_flight(teacher)
            self._threads.shutdown(wait=False, cancel_futures=True)
            await teacher.close()

    async def _wait_for_next(self) -> list[Decision]:
        """Return the rows of the next request in order; some errors of any other end the wait."""
        assert self._stop is not None
        task = self._pending[self._next]
        await asyncio.wait({task, self._stop}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise self._stop.result()
        return self._pending.pop(self._next).result()

    async def _read_context_length(self, teacher: AnyTeacher) -> None:
        """Ask the server of a new run for its context length: earlier requests stay as they are."""
        if self.config.max_prompt_tokens is None and self.ledger.is_empty():
            model = self.config.teacher_model
            self._limits.set_context_length(await teacher.fetch_context_length(model))

    async def _update_progress(self, teacher: AnyTeacher) -> None:
        """Keep the progress current while no reply arrives."""
        while True:
            self.totals.in_flight = teacher.in_flight
            self.totals.busy = teacher.stats.rejected
            self.progress.update(self.totals)
            await asyncio.sleep(PROGRESS_INTERVAL_S)

    def _restore(self) -> None:
        """Restore curation, pool, quotas and totals from the ledger."""
        self.curator.add_to_pool(self.plan.seed_tasks)
        self.curator.add_to_pool(self._restore_accepted())
        for requested, languages in self.ledger.requested():
            self._quotas.restore(requested, languages)
        usage = self.ledger.usage(decided=True)  # replies without a decision are counted with it
        self.totals.accepted = len(self._numbers)
        self.totals.rejected.update(self.ledger.reasons(self.config.num_examples))
        self.totals.replies = usage["replies"]
        self.totals.tokens = usage["prompt_tokens"] + usage["completion_tokens"]
        self.totals.start()

    def _restore_accepted(self) -> Iterator[Example]:
        for number, position, example in self.ledger.accepted_places():
            self._numbers.append(number)
            self._positions.append(position)
            yield example

    def _send_ahead(self, teacher: AnyTeacher) -> None:
        """Send every request that may be sent now and will probably be needed."""
        number = self._next + len(self._pending)
        while number < self._next + self.config.lookahead and self._is_needed(number):
            process = self._stop_on_error(
                self._process(teacher, number, *self._build_request(number))
            )
            self._pending[number] = asyncio.create_task(process)
            number += 1

    def _is_needed(self, number: int) -> bool:
        """Return whether a request will be needed, at the yield so far.

        A request that is not sent changes the bill and not the dataset.
        """
        accepted, ahead = self.totals.accepted, number - self._next
        rows_per_reply = accepted / self._next if self._next else 0
        expected = accepted + ahead * (rows_per_reply or self.config.tasks_per_request)
        return ahead == 0 or expected < self.config.num_examples

    def _build_request(self, number: int) -> tuple[TeacherRequest, Rebuild]:
        """Return request `number`, and a function that builds it within other limits."""
        labels = self._quotas.next_labels(number)  # once for every request, in order
        visible = bisect.bisect_right(self._numbers, number - self.config.lookahead)
        pool = AcceptedRows(self.ledger, self._numbers, self._positions, visible)
        rebuild = partial(self.plan.build_request, number, pool, labels)
        if (sent := self.ledger.answered(number)) is not None:
            return self.plan.restore_request(number, *sent), rebuild
        return rebuild(self._limits.get(number)), rebuild

    async def _process(
        self, teacher: AnyTeacher, number: int, request: TeacherRequest, rebuild: Rebuild
    ) -> list[Decision]:
        """Send a request and return its candidates, each checked by the rules for a single row."""
        key, reply = await self._send(teacher, number, request)
        while (revised := self._limits.revise(number, request, reply, rebuild)) is not None:
            if not teacher.can_afford(revised.payload):
                break
            request = revised
            key, reply = await self._send(teacher, number, request, revises=key)
        self._answered[number] = request
        parsed = parse_reply(reply)
        reasoning = make_text(parsed.reasoning) if self.config.keep_reasoning else ""
        decisions = [
            self._check(candidate, key, request, reasoning) for candidate in request.parse(parsed)
        ]
        run_in_thread = asyncio.get_running_loop().run_in_executor
        return [
            await run_in_thread(self._threads, self.curator.verify, decision)
            if self.curator.needs_sandbox(decision)
            else self.curator.verify(decision)
            for decision in decisions
        ]

    async def _send(
        self, teacher: AnyTeacher, number: int, request: TeacherRequest, revises: str | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Return the key and the reply of a request, and count it."""
        sent = request.payload, request.requested, request.seed_ids
        key, reply = await teacher.complete(number, *sent, revises=revises)
        await asyncio.sleep(0)  # the request that waited for this connection is sent first
        self.totals.replies += 1
        self.totals.tokens += sum(count_billed_tokens(reply) or ())
        return key, reply

    async def _stop_on_error(self, process: Awaitable[list[Decision]]) -> list[Decision]:
        """Await a request; if the teacher refuses, or a user's file fails, stop the run."""
        try:
            return await process
        except (TeacherRefused, PluginError) as error:
            if self._stop and not self._stop.done():
                self._stop.set_result(error)
            raise

    def _check(
        self, candidate: Candidate, key: str, request: TeacherRequest, reasoning: str
    ) -> Decision:
        texts = candidate.instruction, candidate.input, candidate.output
        example = Example(
            *texts,
            id=content_id(*texts),
            language=candidate.language,
            strategy=request.requested["strategy"],
            teacher=request.payload["model"],
            prompt_version=request.prompt_version,
            seed_ids=request.seed_ids,
            request_id=key[:16],
            tests=candidate.tests,
            created_at=utc_now(),
            reasoning=reasoning,
        )
        reason = candidate.reason
        return Decision(example, reason) if reason else self.curator.check_row(example)

    def _decide(self, decisions: list[Decision]) -> None:
        """Finish one reply's rows in their order and commit them together."""
        decisions = [self.curator.check_pool(decision) for decision in decisions]
        self._limits.record(self._next, self._answered.pop(self._next))
        self.ledger.decide(self._next, decisions)
        accepted = [place for place, decision in enumerate(decisions) if not decision.reason]
        self._numbers.extend([self._next] * len(accepted))
        self._positions.extend(accepted)
        self.totals.accepted += len(accepted)
        reasons = Counter(decision.reason for decision in decisions if decision.reason)
        self.totals.rejected.update(reasons)
        self._quotas.record_decision([decisions[place].example.language for place in accepted])
        self._next += 1
        self._fruitless.append(reasons)
        if accepted:
            self._fruitless.clear()
        if len(self._fruitless) >= self.config.patience:
            raise Stopped(self._describe_fruitless(decisions))

    def _describe_fruitless(self, decisions: list[Decision]) -> str:
        reasons = ", ".join(f"{n} {reason}" for reason, n in self.totals.rejected.most_common())
        refusals = [item.example.output for item in decisions if item.reason == "refusal"]
        last = f"; the last one: {refusals[-1][:200]!r}" if refusals else ""
        replies = console.plural(len(self._fruitless), "reply", "replies")
        accepted = console.plural(self.totals.accepted, "accepted row is", "accepted rows are")
        return (
            f"{replies} in a row yielded no accepted row (rejected so far: {reasons}{last}); the "
            f"{accepted} kept: {self._advise()}"
        )

    def _advise(self) -> str:
        """Return the likely cause of replies without an accepted row, and what to do about it."""
        return FruitlessReplies(
            self.plan,
            self.ledger,
            range(self._next - len(self._fruitless), self._next),
            sum(self._fruitless, Counter()),
            self.curator.users_reasons,
        ).advise()

    async def _collect_in_flight(self, teacher: AnyTeacher) -> None:
        """Wait a moment for replies in flight: they are paid for and belong in the ledger."""
        teacher.stop_sending()
        tasks = list(self._pending.values())
        with contextlib.suppress(asyncio.CancelledError):
            _, pending = await asyncio.wait(tasks, timeout=QUIET_WAIT_S) if tasks else ((), ())
            if pending and teacher.in_flight:
                console.stage("generate").print(
                    f"waiting up to {MAX_WAIT_S:.0f} s for "
                    f"{console.plural(teacher.in_flight, 'reply', 'replies')} in flight (they may "
                    "be billed); interrupt again to leave them"
                )
            if pending:
                await asyncio.wait(pending, timeout=MAX_WAIT_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class AcceptedRows(Sequence[Example]):
    """The first accepted rows in order, read from the ledger: twelve bytes of memory per row."""

    def __init__(self, ledger: Ledger, numbers: array, positions: array, length: int) -> None:
        self._ledger, self._numbers, self._positions = ledger, numbers, positions
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._length))]
        index = range(self._length)[index]
        return self._ledger.row(self._numbers[index], self._positions[index])
