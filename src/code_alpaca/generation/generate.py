"""Ask a teacher for new tasks until enough are accepted; everything lands in the run's ledger.

Requests are sent ahead and answered in any order, but *decided* in the order of their
numbers, and request k may show only rows accepted from requests up to k - lookahead. So the
dataset depends on the config, the seed tasks and the teacher's replies alone: not on
concurrency, retries or how often the run was killed. The same command goes on where it was.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, field_validator

from code_alpaca.config import StageConfig
from code_alpaca.curation.curate import Curator
from code_alpaca.curation.filters import FILTERS
from code_alpaca.dataset.build import build
from code_alpaca.errors import Stopped
from code_alpaca.generation.folder import open_run
from code_alpaca.generation.parsing import Candidate, parse_reply
from code_alpaca.generation.screen import Screen
from code_alpaca.generation.self_instruct import Request, build_request, prompt_version
from code_alpaca.ledger import Decision, Ledger, now
from code_alpaca.schema import Example, SeedTask, content_id, load_seed_tasks
from code_alpaca.teacher import offline
from code_alpaca.teacher.client import ENDPOINT, Teacher

EXAMINERS = 2  # threads that filter and start the sandbox's processes
LANDING_S = 10.0  # how long an ending run waits for the replies still in flight


class Config(StageConfig):
    """The keys of `code-alpaca generate`."""

    run_dir: Path = Field(description="folder of this run; the same command resumes it")
    seed_tasks: Path | None = Field(None, description="JSONL of seed tasks; none: the built-in")
    num_examples: PositiveInt = Field(1000, description="accepted rows wanted; may grow later")
    strategy: Literal["self_instruct"] = Field("self_instruct", description="how to ask")
    seed: int = Field(0, description="seed of every random choice")
    teacher_model: str = Field("offline-teacher", description="model name sent to the teacher")
    teacher_base_url: str | None = Field(
        None, description="OpenAI-compatible URL; offline: the embedded teacher; none: OpenAI"
    )
    teacher_api: Literal["chat"] = Field("chat", description="which API of the teacher")
    temperature: float = Field(1.0, ge=0, le=2, description="sampling temperature")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus sampling mass")
    max_completion_tokens: PositiveInt = Field(4096, description="limit of one reply, in tokens")
    tasks_per_request: PositiveInt = Field(5, description="tasks asked for in one request")
    seeds_per_request: PositiveInt = Field(3, description="seed tasks shown in one request")
    pool_per_request: int = Field(2, ge=0, description="accepted rows shown in one request")
    lookahead: PositiveInt = Field(64, description="requests that may be ahead of the decisions")
    max_concurrency: PositiveInt = Field(16, description="requests in flight at once")
    request_timeout_s: float = Field(120.0, gt=0, description="seconds before a silent try ends")
    novelty: Literal["rouge_l"] = Field("rouge_l", description="similarity of instructions")
    novelty_threshold: float = Field(0.7, ge=0, le=1, description="drop above this similarity")
    filters: list[str] = Field(list(FILTERS), description="filters by name, or none")
    decontaminate: list[str] = Field(["mini"], description="benchmarks or files, or none")
    verify: bool = Field(True, description="run Python answers with their tests")
    patience: PositiveInt = Field(
        50, description="stop after so many replies in a row without an accepted row"
    )
    dataset_version: str = Field("0.1.0", description="SemVer of the dataset made from this run")
    dry_run: bool = Field(False, description="print the plan and one prompt, send nothing")

    @field_validator("filters", "decontaminate", mode="before")
    @classmethod
    def _none_is_empty(cls, value: Any) -> Any:
        return [] if value in (None, "none") else value

    @field_validator("filters")
    @classmethod
    def _known_filters(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in FILTERS:
                raise ValueError(f"no filter {name!r}; there are {', '.join(FILTERS)}")
        return names


def run(config: Config) -> None:
    """Generate until `num_examples` rows are accepted.

    Raises:
        InputError: a bad seed file, a run folder of another config, no key.
        Stopped: the teacher refused or does not answer, or nothing new comes any more.
    """
    seed_tasks = load_seed_tasks(config.seed_tasks)
    if config.dry_run:
        _print_plan(config, seed_tasks)
        return
    with (
        open_run(config.run_dir, config, seed_tasks) as ledger,
        Screen(config.num_examples) as screen,
    ):
        curator = _curator(config)
        state = _State.restore(ledger, curator, seed_tasks)
        screen.show(state.accepted, ledger)
        if len(state.accepted) < config.num_examples:
            with _teacher_url(config) as url:
                loop = _Loop(config, seed_tasks, ledger, curator, state, screen)
                asyncio.run(loop.run(url))
        screen.finish(ledger)
    build(config.run_dir)


def _curator(config: Config) -> Curator:
    return Curator(
        filters=config.filters,
        decontaminate=config.decontaminate,
        verify=config.verify,
        threshold=config.novelty_threshold,
    )


@contextlib.contextmanager
def _teacher_url(config: Config) -> Iterator[str | None]:
    if offline.is_offline(config.teacher_base_url):
        with offline.serving(config.teacher_base_url or "offline", config.seed) as url:
            yield url
    else:
        yield config.teacher_base_url


@dataclass(slots=True)
class _State:
    """What was accepted, in order, and from which request each row came."""

    accepted: list[Example]
    numbers: list[int]

    @classmethod
    def restore(cls, ledger: Ledger, curator: Curator, seed_tasks: list[SeedTask]) -> _State:
        for task in seed_tasks:
            curator.keep(task.id, task.instruction)
        state = cls([], [])
        for number, example in ledger.accepted():
            curator.keep(example.id, example.instruction)
            state.add(number, example)
        return state

    def add(self, number: int, example: Example) -> None:
        self.accepted.append(example)
        self.numbers.append(number)

    def pool_for(self, number: int, lookahead: int) -> list[Example]:
        """The rows that request `number` may show: from requests up to number - lookahead."""
        return self.accepted[: bisect.bisect_right(self.numbers, number - lookahead)]


class _Loop:
    """Sends ahead, decides in order, until enough is accepted."""

    def __init__(
        self,
        config: Config,
        seed_tasks: list[SeedTask],
        ledger: Ledger,
        curator: Curator,
        state: _State,
        screen: Screen,
    ) -> None:
        self.config, self.seed_tasks, self.ledger = config, seed_tasks, ledger
        self.curator, self.state, self.screen = curator, state, screen
        self.examined: dict[int, asyncio.Task[list[Decision]]] = {}
        self.decided = ledger.next_undecided()
        self.barren = 0

    async def run(self, url: str | None) -> None:
        teacher = Teacher(
            url,
            max_concurrency=self.config.max_concurrency,
            timeout_s=self.config.request_timeout_s,
        )
        threads = ThreadPoolExecutor(EXAMINERS)
        try:
            while len(self.state.accepted) < self.config.num_examples:
                self._send_ahead(teacher, threads)
                decisions = await self.examined.pop(self.decided)
                self._decide(decisions)
                self.screen.show(self.state.accepted, self.ledger, teacher.retried)
        finally:
            await self._let_answers_land(teacher)
            threads.shutdown(wait=False, cancel_futures=True)
            await teacher.close()

    def _send_ahead(self, teacher: Teacher, threads: ThreadPoolExecutor) -> None:
        """Send every request that may be sent now and is likely to be needed."""
        number = self.decided + len(self.examined)
        while number < self.decided + self.config.lookahead and self._worth_sending(number):
            request = self._build(number)
            key = self.ledger.request(number, ENDPOINT, request.payload, request.seed_ids)
            self.examined[number] = asyncio.create_task(
                self._answer(teacher, threads, key, request)
            )
            number += 1

    def _worth_sending(self, number: int) -> bool:
        """Whether the requests on their way leave something to do, at the yield seen so far.

        Replies cost money; prompts depend on their number alone, so holding one back changes
        the bill and not the dataset.
        """
        rows = len(self.state.accepted)
        rate = rows / self.decided if self.decided and rows else self.config.tasks_per_request
        ahead = number - self.decided
        return ahead == 0 or rows + ahead * rate < self.config.num_examples

    def _build(self, number: int) -> Request:
        config = self.config
        return build_request(
            number,
            seed=config.seed,
            seed_tasks=self.seed_tasks,
            pool=self.state.pool_for(number, config.lookahead),
            seeds_per_request=config.seeds_per_request,
            pool_per_request=config.pool_per_request,
            tasks_per_request=config.tasks_per_request,
            settings={
                "model": config.teacher_model,
                "temperature": config.temperature,
                "top_p": config.top_p,
                "max_completion_tokens": config.max_completion_tokens,
            },
        )

    async def _answer(
        self, teacher: Teacher, threads: ThreadPoolExecutor, key: str, request: Request
    ) -> list[Decision]:
        reply = self.ledger.reply(key)
        if reply is None:
            reply = await teacher.ask(request.payload)
            self.ledger.save_reply(key, reply)
        examine = asyncio.get_running_loop().run_in_executor
        return await asyncio.gather(
            *(
                examine(threads, self._examine, candidate, key, request)
                for candidate in parse_reply(reply)
            )
        )

    def _examine(self, candidate: Candidate, key: str, request: Request) -> Decision:
        example = Example(
            instruction=candidate.instruction,
            input=candidate.input,
            output=candidate.output,
            id=content_id(candidate.instruction, candidate.input, candidate.output),
            language=candidate.language,
            strategy=self.config.strategy,
            teacher=self.config.teacher_model,
            prompt_version=prompt_version(),
            seed_ids=request.seed_ids,
            request_id=key[:16],
            tests=candidate.tests,
            created_at=now(),
        )
        if candidate.reason:
            return Decision(example, candidate.reason)
        return self.curator.examine(example)

    def _decide(self, decisions: list[Decision]) -> None:
        """Settle one reply's rows in their order and commit them together."""
        settled = [self.curator.settle(decision) for decision in decisions]
        self.ledger.decide(self.decided, settled)
        fresh = [decision.example for decision in settled if not decision.reason]
        for example in fresh:
            self.state.add(self.decided, example)
        self.decided += 1
        self.barren = 0 if fresh else self.barren + 1
        if self.barren >= self.config.patience:
            reasons = ", ".join(f"{n} {reason}" for reason, n in self.ledger.reasons().items())
            raise Stopped(
                f"{self.barren} replies in a row brought no new row (rejected so far: {reasons}); "
                f"the {len(self.state.accepted)} accepted rows are kept: look at the replies in "
                f"{self.ledger.path}, then change the teacher or raise patience and go on"
            )

    async def _let_answers_land(self, teacher: Teacher) -> None:
        """Requests in flight are paid for: give their replies a moment to reach the ledger."""
        teacher.stop_sending()
        if self.examined:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait(self.examined.values(), timeout=LANDING_S)
        for task in self.examined.values():
            task.cancel()
        await asyncio.gather(*self.examined.values(), return_exceptions=True)


def _print_plan(config: Config, seed_tasks: list[SeedTask]) -> None:
    least = -(-config.num_examples // config.tasks_per_request)
    state = _State([], [])
    request = build_request(
        0,
        seed=config.seed,
        seed_tasks=seed_tasks,
        pool=state.accepted,
        seeds_per_request=config.seeds_per_request,
        pool_per_request=config.pool_per_request,
        tasks_per_request=config.tasks_per_request,
        settings={"model": config.teacher_model},
    )
    print(request.payload["messages"][0]["content"])
    print(
        f"plan: {config.num_examples} rows from {config.teacher_model} at "
        f"{config.teacher_base_url or 'OpenAI'}: at least {least} requests like the one above, "
        f"up to {config.max_completion_tokens} completion tokens each; nothing was sent"
    )
