"""The loop: send ahead, decide in order, until enough is accepted.

Requests are answered in any order but *decided* in the order of their numbers, and request k may
show only rows accepted from requests up to k - lookahead. So the dataset depends on the config,
the seed tasks and the teacher's replies alone: not on concurrency, retries or kills.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from code_alpaca.core.errors import Refused, Stopped
from code_alpaca.core.ledger import Decision, Ledger, now
from code_alpaca.core.schema import Example, content_id
from code_alpaca.curation.pipeline import Curator
from code_alpaca.generation.parsing import Candidate
from code_alpaca.generation.plan import Plan, Request
from code_alpaca.generation.quotas import Quotas
from code_alpaca.generation.screen import Screen, Totals
from code_alpaca.generation.signals import ended_by_signals
from code_alpaca.teacher.reply_parsing import count_billed_tokens, parse_reply

PULSE_S = 0.2  # between two looks at whether the screen wants news
# How long an ending run waits for the replies still in flight: less than the 30 s that Slurm and
# Kubernetes leave between SIGTERM and SIGKILL.
LANDING_S = 25.0
SILENT_S = 0.5  # of this wait pass before it is announced


class Asks(Protocol):
    """What the engine wants of a teacher; see `teacher.client.Teacher`."""

    @property
    def in_flight(self) -> int: ...

    async def start(self) -> None: ...

    async def complete(
        self, number: int, payload: dict[str, Any], asked: dict[str, Any], seed_ids: Sequence[str]
    ) -> tuple[str, dict[str, Any]]: ...

    def stop_sending(self) -> None: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a run goes, and when it gives up or writes in between."""

    num_examples: int
    lookahead: int
    patience: int
    checkpoint_every: int


class Accepted(Sequence[Example]):
    """The accepted rows in order; on disk, with twelve bytes a row in memory.

    Asked by number alone, as `random` does: without slices, hence the `type: ignore`.
    """

    def __init__(self, ledger: Ledger, numbers: array, positions: array, length: int) -> None:
        self._ledger, self._numbers, self._positions = ledger, numbers, positions
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Example:  # type: ignore[override]
        if not 0 <= index < self._length:
            raise IndexError(index)
        return self._ledger.row(self._numbers[index], self._positions[index])


class Engine:
    """One run of `generate`, over a ledger that may hold earlier starts of it."""

    def __init__(
        self,
        plan: Plan,
        limits: Limits,
        *,
        ledger: Ledger,
        curator: Curator,
        screen: Screen,
        checkpoint: Callable[[], None],
    ) -> None:
        self.plan, self.limits = plan, limits
        self.ledger, self.curator, self.screen = ledger, curator, screen
        self._write_dataset = checkpoint
        self.totals = Totals(limits.num_examples)
        self._numbers, self._positions = array("q"), array("i")
        self._quotas = Quotas(plan.quotas, limits.lookahead)
        self._examined: dict[int, asyncio.Task[list[Decision]]] = {}
        self._decided = ledger.next_undecided()
        self._barren = 0
        self._refused: asyncio.Future[Refused] | None = None  # needs a running loop
        self._restore()

    @property
    def done(self) -> bool:
        return self.totals.accepted >= self.limits.num_examples

    async def run(self, teacher: Asks) -> None:
        """Send and decide until enough is accepted.

        Raises:
            Stopped: the teacher gave up, the budget is used, nothing new comes any more, or the
                process was asked to end.
        """
        with ended_by_signals():
            await self._run(teacher)

    async def _run(self, teacher: Asks) -> None:
        threads = ThreadPoolExecutor(self.curator.num_workers)  # wait for the sandboxes
        pulse = asyncio.create_task(self._pulse())
        self._refused = asyncio.get_running_loop().create_future()
        try:
            await teacher.start()
            while not self.done:
                self._send_ahead(teacher, threads)
                self._decide(await self._oldest())
                await asyncio.sleep(0)  # many may be ready at once: let others send between them
                await self._checkpoint()
        finally:
            pulse.cancel()
            await self._let_answers_land(teacher)
            threads.shutdown(wait=False, cancel_futures=True)
            await teacher.close()

    async def _oldest(self) -> list[Decision]:
        """What the request whose turn it is brought; a refusal of any other ends the wait."""
        assert self._refused is not None
        oldest = self._examined[self._decided]
        await asyncio.wait({oldest, self._refused}, return_when=asyncio.FIRST_COMPLETED)
        if not oldest.done():
            raise self._refused.result()
        return self._examined.pop(self._decided).result()

    async def _pulse(self) -> None:
        """Keep the screen alive, also while replies are long in coming."""
        while True:
            self.screen.show(self.totals)
            await asyncio.sleep(PULSE_S)

    def _restore(self) -> None:
        """Bring curation, pool, quotas and sums to where the last start left them."""
        self.curator.add_to_pool(self.plan.seed_tasks)
        self.curator.add_to_pool(self._accepted_before())
        for asked, languages in self.ledger.asked():
            wish = {key: label for key, label in asked.items() if key in self.plan.quotas}
            self._quotas.restore(wish, languages)
        usage = self.ledger.usage(decided=True)  # what waits for its decision is counted then
        self.totals.accepted = len(self._numbers)
        self.totals.rejected.update(self.ledger.reasons())
        self.totals.replies = usage["replies"]
        self.totals.tokens = usage["prompt_tokens"] + usage["completion_tokens"]
        self.totals.begin()

    def _accepted_before(self) -> Iterator[Example]:
        for number, position, example in self.ledger.accepted_places():
            self._numbers.append(number)
            self._positions.append(position)
            yield example

    def _send_ahead(self, teacher: Asks, threads: ThreadPoolExecutor) -> None:
        """Send every request that may be sent now and is likely to be needed."""
        number = self._decided + len(self._examined)
        while number < self._decided + self.limits.lookahead and self._worth_sending(number):
            request = self._build(number)
            self._examined[number] = asyncio.create_task(
                self._answer(teacher, threads, number, request)
            )
            number += 1

    def _worth_sending(self, number: int) -> bool:
        """Whether the requests on their way leave something to do, at the yield seen so far.

        Replies cost money; prompts depend on their number alone, so holding one back changes
        the bill and not the dataset.
        """
        rows = self.totals.accepted
        rate = rows / self._decided if self._decided and rows else self.plan.count
        ahead = number - self._decided
        return ahead == 0 or rows + ahead * rate < self.limits.num_examples

    def _build(self, number: int) -> Request:
        wish = self._quotas.wish(number)  # once for every request, in order
        if (sent := self.ledger.answered(number)) is not None:
            return self.plan.answered(*sent)
        seen = bisect.bisect_right(self._numbers, number - self.limits.lookahead)
        return self.plan.request(
            number, Accepted(self.ledger, self._numbers, self._positions, seen), wish
        )

    async def _answer(
        self, teacher: Asks, threads: ThreadPoolExecutor, number: int, request: Request
    ) -> list[Decision]:
        try:
            key, reply = await teacher.complete(
                number, request.payload, request.asked, request.seed_ids
            )
        except Refused as error:
            if self._refused and not self._refused.done():
                self._refused.set_result(error)
            raise
        await asyncio.sleep(0)  # the request that waited for this one's place leaves first
        self.totals.replies += 1
        self.totals.tokens += sum(count_billed_tokens(reply) or ())
        read = [
            self._examine(candidate, key, request)
            for candidate in request.parse(parse_reply(reply))
        ]
        run = asyncio.get_running_loop().run_in_executor
        return [
            await run(threads, self.curator.verify, decision)
            if self.curator.needs_sandbox(decision)
            else self.curator.verify(decision)
            for decision in read
        ]

    def _examine(self, candidate: Candidate, key: str, request: Request) -> Decision:
        example = Example(
            instruction=candidate.instruction,
            input=candidate.input,
            output=candidate.output,
            id=content_id(candidate.instruction, candidate.input, candidate.output),
            language=candidate.language,
            strategy=request.asked["strategy"],
            teacher=request.payload["model"],
            prompt_version=request.prompt_version,
            seed_ids=request.seed_ids,
            request_id=key[:16],
            tests=candidate.tests,
            created_at=now(),
        )
        if candidate.reason:
            return Decision(example, candidate.reason)
        return self.curator.check_row(example)

    def _decide(self, decisions: list[Decision]) -> None:
        """Settle one reply's rows in their order and commit them together."""
        settled = [self.curator.check_pool(decision) for decision in decisions]
        self.ledger.decide(self._decided, settled)
        fresh = 0
        for position, decision in enumerate(settled):
            if decision.reason:
                self.totals.rejected[decision.reason] += 1
                continue
            self._numbers.append(self._decided)
            self._positions.append(position)
            fresh += 1
        self.totals.accepted += fresh
        self._quotas.decided([d.example.language for d in settled if not d.reason])
        self._decided += 1
        self._barren = 0 if fresh else self._barren + 1
        if self._barren >= self.limits.patience:
            raise Stopped(self._why_barren(settled))

    def _why_barren(self, last: list[Decision]) -> str:
        reasons = ", ".join(f"{n} {reason}" for reason, n in self.totals.rejected.most_common())
        refusals = [item.example.output for item in last if item.reason == "refusal"]
        said = f"; the last one: {refusals[-1][:200]!r}" if refusals else ""
        return (
            f"{self._barren} replies in a row brought no new row (rejected so far: {reasons}"
            f"{said}); the {self.totals.accepted} accepted rows are kept: look at the replies in "
            f"{self.ledger.path}, then change the teacher or raise patience and rerun the same "
            "command"
        )

    async def _checkpoint(self) -> None:
        """Write the dataset folder now and then, while requests are under way."""
        every = self.limits.checkpoint_every
        if every and self.totals.checkpoint_due(every) and not self.done:
            await asyncio.to_thread(self._write_dataset)

    async def _let_answers_land(self, teacher: Asks) -> None:
        """Requests in flight are paid for: give their replies a moment to reach the ledger."""
        teacher.stop_sending()
        tasks = list(self._examined.values())
        with contextlib.suppress(asyncio.CancelledError):
            if tasks:
                await asyncio.wait(tasks, timeout=SILENT_S)
            pending = [task for task in tasks if not task.done()]
            if pending and teacher.in_flight:
                self.screen.say(
                    f"generate  waiting up to {LANDING_S:.0f} s for {teacher.in_flight} replies in "
                    "flight (they may be billed); interrupt once more to leave them"
                )
            if pending:
                await asyncio.wait(pending, timeout=LANDING_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
