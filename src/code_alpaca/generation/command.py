"""Ask a teacher for new tasks until enough are accepted; everything lands in the run's ledger.

The same command resumes where it was: no answered request is paid for twice, and the dataset
does not depend on concurrency, retries or kills. A larger num_examples extends the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator
from rich.console import Console

from code_alpaca.core.config import Version, Words, base_urls
from code_alpaca.core.errors import InputError, Stopped
from code_alpaca.core.key_roles import Role
from code_alpaca.core.ledger import Ledger
from code_alpaca.core.redact import secret_in
from code_alpaca.core.run_folder import open_run
from code_alpaca.core.schema import load_seed_tasks
from code_alpaca.curation.rules import CurationRules, open_curator
from code_alpaca.dataset.build import build
from code_alpaca.dataset.push import prepare, preupload, push
from code_alpaca.generation.engine import Engine, Limits
from code_alpaca.generation.plan import Plan, weights
from code_alpaca.generation.quotas import Quotas
from code_alpaca.generation.screen import Screen
from code_alpaca.generation.seed_check import check_seeds
from code_alpaca.generation.strategies.oss_instruct import load_snippets
from code_alpaca.teacher import offline
from code_alpaca.teacher.batch import BatchTeacher
from code_alpaca.teacher.budget import Budget
from code_alpaca.teacher.client import Teacher
from code_alpaca.teacher.prices import Price, find_price
from code_alpaca.teacher.request_body import SamplingParams
from code_alpaca.teacher.scheduling import ConnectionSettings

USUAL_ACCEPTANCE = 0.6  # of candidates, for the plan of a dry run
USUAL_TASK_TOKENS = 250
USUAL_REPLY_S = 15.0


class GenerateConfig(CurationRules):
    """The keys of `code-alpaca generate`."""

    run_dir: Annotated[Path, Role.FREE] = Field(
        description="folder of this run; the same command resumes it"
    )
    seed_tasks: Path | None = Field(None, description="JSONL of seed tasks; none: the built-in")
    num_examples: Annotated[PositiveInt, Role.FREE] = Field(
        1000, description="accepted rows wanted; may grow later"
    )
    strategy: str = Field(
        "self_instruct",
        description="self_instruct, evol_instruct, oss_instruct, seed_compat; or a mix by weight: "
        "self_instruct=3,evol_instruct=1",
    )
    seed: int = Field(0, description="seed of every random choice")
    teacher_model: Annotated[str, Role.REQUEST] = Field(
        "offline-teacher", description="model name sent to the teacher"
    )
    teacher_base_url: Annotated[str | None, Role.FREE] = Field(
        None,
        description="OpenAI-compatible URL, or several with commas between; offline: the embedded "
        "teacher; none: OpenAI",
    )
    teacher_api: Literal["chat", "responses", "completions", "batch"] = Field(
        "chat",
        description="which API of the teacher; completions is for base models, batch is half the "
        "price within a day",
    )
    batch_poll_s: Annotated[float, Role.FREE] = Field(
        30.0, gt=0, description="seconds between two looks at a batch"
    )
    temperature: Annotated[float, Role.REQUEST] = Field(
        1.0, ge=0, le=2, description="sampling temperature"
    )
    top_p: Annotated[float, Role.REQUEST] = Field(
        1.0, gt=0, le=1, description="nucleus sampling mass"
    )
    max_completion_tokens: Annotated[PositiveInt, Role.REQUEST] = Field(
        4096, description="limit of one reply, in tokens"
    )
    tasks_per_request: Annotated[PositiveInt, Role.REQUEST] = Field(
        5, description="tasks asked for in one request"
    )
    seeds_per_request: Annotated[PositiveInt, Role.REQUEST] = Field(
        6, description="seed tasks shown in one request"
    )
    pool_per_request: Annotated[int, Role.REQUEST] = Field(
        2, ge=0, description="accepted rows shown in one request"
    )
    snippets: str | None = Field(
        None, description="for oss_instruct: a folder (say, your repository), a file or a dataset"
    )
    snippets_column: str = Field("content", description="the column of that dataset with the code")
    quotas: dict[str, dict[str, float]] = Field(
        {}, description="shares by language, task_type and difficulty (in the YAML file)"
    )
    seed_compat_defects: bool = Field(
        False, description="seed_compat: bring back what was wrong with the 2023 algorithm, too"
    )
    lookahead: PositiveInt = Field(64, description="requests that may be ahead of the decisions")
    max_concurrency: Annotated[PositiveInt, Role.FREE] = Field(
        16, description="requests in flight at once"
    )
    requests_per_minute: Annotated[PositiveFloat | None, Role.FREE] = Field(
        None, description="allowance of requests; none: as the server's headers say"
    )
    tokens_per_minute: Annotated[PositiveFloat | None, Role.FREE] = Field(
        None, description="allowance of tokens; none: as the server's headers say"
    )
    request_timeout_s: Annotated[float, Role.FREE] = Field(
        120.0, gt=0, description="seconds before a silent try ends"
    )
    max_cost_usd: Annotated[PositiveFloat | None, Role.FREE] = Field(
        None, description="hard cap on what the run may cost in all its starts; none: no cap"
    )
    price_per_mtok_input: Annotated[float | None, Role.FREE] = Field(
        None, ge=0, description="dollars for a million input tokens; none: the price list"
    )
    price_per_mtok_output: Annotated[float | None, Role.FREE] = Field(
        None, ge=0, description="dollars for a million output tokens; none: the price list"
    )
    patience: Annotated[PositiveInt, Role.FREE] = Field(
        50, description="stop after this many replies in a row without an accepted row"
    )
    checkpoint_every: Annotated[int, Role.FREE] = Field(
        5000,
        ge=0,
        description="write dataset/ each time this many rows were added; 0: only at the end",
    )
    report_to: Annotated[Literal["none", "trackio"], Role.FREE] = Field(
        "none", description="where to log the numbers"
    )
    dataset_version: Annotated[Version, Role.FREE] = Field(
        "0.1.0", description="SemVer of the dataset made from this run"
    )
    hub_dataset_id: Annotated[Words | None, Role.FREE] = Field(
        None, description="ORG/NAME on the Hub, for push_to_hub"
    )
    push_to_hub: Annotated[bool, Role.FREE] = Field(
        False, description="release the dataset when the run is done; full shards go ahead of it"
    )
    private: Annotated[bool, Role.FREE] = Field(
        False, description="of a repository that is made now: only for you"
    )
    dry_run: Annotated[bool, Role.FREE] = Field(
        False, description="print the plan and one prompt, send nothing"
    )

    def breaks_resume(self, key: str, old: Any, new: Any) -> bool:
        # A real teacher may move to another host; the embedded one is another teacher.
        return key == "teacher_base_url" and offline.is_offline(old) != offline.is_offline(new)

    @field_validator("strategy", mode="before")
    @classmethod
    def _mix_as_text(cls, value: Any) -> Any:
        if isinstance(value, dict):
            value = ",".join(f"{name}={weight}" for name, weight in value.items())
        weights(str(value))
        return value

    @field_validator("teacher_base_url", mode="before")
    @classmethod
    def _urls_as_text(cls, value: Any) -> Any:
        if value == "" or value == []:
            raise ValueError("is empty; leave it out for OpenAI, or give a URL or offline")
        return ",".join(value) if isinstance(value, list) else value

    @field_validator("teacher_base_url")
    @classmethod
    def _offline_or_urls(cls, value: str | None) -> str | None:
        if offline.is_offline(value):
            offline.parse_options(value)
            return value
        return base_urls(value) if value else None


def generate_dataset(config: GenerateConfig) -> None:
    """Generate until `num_examples` rows are accepted.

    Raises:
        InputError: bad input, a run folder of another config, no key, a cap without a price.
        Stopped: the budget is used, the teacher refused or does not answer, nothing new comes.
    """
    _check_environment(config)
    plan = _plan(config)
    price = _price(config)
    _check_limits(config, plan, price)
    if config.push_to_hub and not config.hub_dataset_id:
        raise InputError("push_to_hub needs hub_dataset_id: ORG/NAME on the Hub")
    if config.dry_run:
        print(_dry_run(config, plan, price))
        return
    release_as = config.hub_dataset_id if config.push_to_hub else None
    if release_as:  # what is wrong with the Hub is better known before money is spent
        prepare(release_as, config.dataset_version, config.run_dir, private=config.private)
    # The algorithm of 2023 with its defects has its own filters and its own rule.
    changes = {"filters": ["alpaca_2023"], "novelty": "rouge_l"}
    with (
        open_curator(config, **(changes if config.seed_compat_defects else {})) as (curator, facts),
        open_run(config.run_dir, config, plan.facts() | config.filter_facts()) as ledger,
    ):
        ledger.set_meta("contamination", facts)
        if config.verify:
            check_seeds(plan.seed_tasks, curator, refuse=ledger.holds_nothing())
        new_version = ledger.meta("dataset_version") != config.dataset_version
        ledger.set_meta("dataset_version", config.dataset_version)
        budget = Budget(ledger, price, config.max_cost_usd) if price else None
        lane = _Lane(config, ledger, budget)
        screen = Screen(
            spent=lambda: budget.spent if budget else None,
            wire=lane.told,
            report_to=config.report_to,
            name=config.run_dir.name,
        )
        with screen:
            engine = Engine(
                plan,
                Limits(
                    config.num_examples, config.lookahead, config.patience, config.checkpoint_every
                ),
                ledger=ledger,
                curator=curator,
                screen=screen,
                checkpoint=_checkpoint(config.run_dir, release_as, screen.say),
            )
            screen.show(engine.totals)
            if not engine.done:
                # A full collection over all the libraries' objects takes 0.1 s, the teacher idle.
                gc.collect()
                gc.freeze()
                with _teacher_urls(config) as urls, _rejected_rows_shown(config, engine):
                    asyncio.run(lane.drive(engine, urls))
            screen.finish(engine.totals)
        Console(highlight=False, soft_wrap=True).print(
            f"generate  writing {config.run_dir / 'dataset'}", markup=False
        )
    folder = build(
        config.run_dir,
        dataset_version=config.dataset_version if new_version else None,
        repository=release_as,
    )
    if release_as:
        push(folder, release_as, private=config.private)


@contextlib.contextmanager
def _rejected_rows_shown(config: GenerateConfig, engine: Engine) -> Iterator[None]:
    """Write the rejected rows of a run that stops without an accepted one, to be looked at."""
    try:
        yield
    except Stopped:
        if engine.totals.rejected and not engine.totals.accepted:
            try:
                build(config.run_dir, draw=False)
            except InputError as error:
                engine.screen.say(f"generate  {error}")
        raise


def _checkpoint(
    run_dir: Path, release_as: str | None, say: Callable[[str], None]
) -> Callable[[], None]:
    """Write the dataset as it is so far, and send its full shards ahead of the release."""
    uploaded: set[str] = set()

    def write() -> None:
        folder = build(run_dir, draw=False)
        if release_as:
            try:
                preupload(folder, release_as, uploaded)
            except (InputError, Stopped) as error:  # the release sends what is missing
                say(f"generate  shards were not sent ahead: {error}")

    return write


class _Lane:
    """The teacher of this start, made inside the event loop, and what it tells the screen."""

    def __init__(self, config: GenerateConfig, ledger: Ledger, budget: Budget | None) -> None:
        self._config, self._ledger, self._budget = config, ledger, budget
        self._teacher: Teacher | BatchTeacher | None = None

    async def drive(self, engine: Engine, urls: list[str]) -> None:
        config = self._config
        batch = config.teacher_api == "batch"
        settings = ConnectionSettings(
            api="chat" if batch else config.teacher_api,
            max_concurrency=config.max_concurrency,
            timeout_s=config.request_timeout_s,
            requests_per_minute=config.requests_per_minute,
            tokens_per_minute=config.tokens_per_minute,
            batch_poll_s=config.batch_poll_s,
        )
        if batch:
            if len(urls) > 1:
                raise InputError("teacher_api batch takes one teacher_base_url")
            self._teacher = BatchTeacher(
                urls[0] if urls else None,
                settings,
                ledger=self._ledger,
                budget=self._budget,
                report=lambda line: engine.screen.say(f"batch     {line}"),
            )
        else:
            self._teacher = Teacher(urls, settings, ledger=self._ledger, budget=self._budget)
        await engine.run(self._teacher)

    def told(self) -> tuple[int, int]:
        teacher = self._teacher
        return (teacher.in_flight, teacher.stats.rejected) if teacher else (0, 0)


def _plan(config: GenerateConfig) -> Plan:
    mix = weights(config.strategy)
    snippets: list[str] = []
    if "oss_instruct" in mix and config.snippets:
        snippets = load_snippets(config.snippets, config.snippets_column)
    return Plan(
        weights=mix,
        api="chat" if config.teacher_api == "batch" else config.teacher_api,
        sampling=SamplingParams(
            config.teacher_model, config.temperature, config.top_p, config.max_completion_tokens
        ),
        seed=config.seed,
        seed_tasks=load_seed_tasks(config.seed_tasks),
        snippets=snippets,
        count=config.tasks_per_request,
        seeds_per_request=config.seeds_per_request,
        pool_per_request=config.pool_per_request,
        quotas=config.quotas,
        defects=config.seed_compat_defects,
    )


def _check_environment(config: GenerateConfig) -> None:
    """Refuse a base URL of the environment that the config would refuse."""
    url = os.environ.get("OPENAI_BASE_URL")
    if config.teacher_base_url is not None or not url:
        return
    if found := secret_in(url):
        raise InputError(
            f"OPENAI_BASE_URL is a URL with credentials ({found}); put the key in OPENAI_API_KEY"
        )
    try:
        base_urls(url)
    except ValueError as error:
        raise InputError(f"OPENAI_BASE_URL is {error}") from None


def _price(config: GenerateConfig) -> Price | None:
    given = (config.price_per_mtok_input, config.price_per_mtok_output)
    if given.count(None) == 1:
        raise InputError("give both price_per_mtok_input and price_per_mtok_output, or neither")
    price = find_price(
        config.teacher_model,
        config.teacher_base_url,
        configured=given,
        batch=config.teacher_api == "batch",
    )
    if price is None and config.max_cost_usd is not None:
        raise InputError(
            f"max_cost_usd is set and the price of {config.teacher_model} is not known; set "
            "price_per_mtok_input and price_per_mtok_output"
        )
    return price


def _check_limits(config: GenerateConfig, plan: Plan, price: Price | None) -> None:
    """Refuse limits under which nothing could ever be sent, and keys that would do nothing."""
    if config.seed_compat_defects and "seed_compat" not in plan.weights:
        raise InputError("seed_compat_defects goes with strategy seed_compat; leave it out")
    if config.quotas and ("seed_compat" in plan.weights or plan.api == "completions"):
        raise InputError("quotas need a prompt that names them: not seed_compat or completions")
    if config.teacher_api == "batch" and offline.is_offline(config.teacher_base_url):
        raise InputError("the embedded teacher has no Batch API; use teacher_api: chat with it")
    Quotas(config.quotas, config.lookahead)
    payload = plan.request(0, [], {}).payload
    if (
        price
        and config.max_cost_usd is not None
        and price.bound_cost(payload) > config.max_cost_usd
    ):
        raise InputError(
            f"max_cost_usd {config.max_cost_usd:g} is less than one request may cost "
            f"(${price.bound_cost(payload):.4f}); raise it, or lower max_completion_tokens"
        )
    if config.tokens_per_minute and config.tokens_per_minute < config.max_completion_tokens:
        raise InputError(
            f"tokens_per_minute {config.tokens_per_minute:g} is less than one reply may have "
            f"(max_completion_tokens {config.max_completion_tokens}); lower the latter"
        )
    if config.max_concurrency > config.lookahead:
        print(
            f"generate  note: lookahead {config.lookahead} holds max_concurrency "
            f"{config.max_concurrency} at {config.lookahead}; a larger one needs a new run_dir"
        )


@contextlib.contextmanager
def _teacher_urls(config: GenerateConfig) -> Iterator[list[str]]:
    url = config.teacher_base_url
    if offline.is_offline(url):
        with offline.start_server(url, config.seed) as served:
            yield [served]
    else:
        yield [part.strip() for part in url.split(",") if part.strip()] if url else []


def _dry_run(config: GenerateConfig, plan: Plan, price: Price | None) -> str:
    """The plan in words: requests, tokens, money and time, and one prompt. Sends nothing."""
    wish = Quotas(config.quotas, config.lookahead).wish(0)
    request = plan.request(0, [], wish)
    prompt = request.payload.get("prompt") or request.payload.get("input")
    prompt = prompt or request.payload["messages"][0]["content"]
    asked = len(prompt.encode()) // 4
    told = min(config.tasks_per_request * USUAL_TASK_TOKENS, config.max_completion_tokens)
    least = -(-config.num_examples // config.tasks_per_request)
    likely = round(least / USUAL_ACCEPTANCE)
    minutes = [likely * USUAL_REPLY_S / 60 / min(config.max_concurrency, config.lookahead)]
    if config.requests_per_minute:
        minutes.append(likely / config.requests_per_minute)
    if config.tokens_per_minute:
        minutes.append(likely * (asked + told) / config.tokens_per_minute)
    where = config.teacher_base_url or "OpenAI"
    lines = [
        prompt,
        "",
        f"plan      {config.num_examples} rows from {config.teacher_model} at {where}, "
        f"{config.strategy}",
        f"requests  at least {least}; about {likely} if {USUAL_ACCEPTANCE:.0%} is accepted",
        f"tokens    about {likely * asked:,} in and {likely * told:,} out",
        f"time      about {max(minutes):.0f} minutes at these limits",
    ]
    if price is None:
        lines.append("cost      no price known; set price_per_mtok_input and price_per_mtok_output")
    else:
        cap = "no cap" if config.max_cost_usd is None else f"never above ${config.max_cost_usd:g}"
        cost = price.compute_cost(likely * asked, likely * told)
        lines.append(
            f"cost      about ${cost:.2f} ({price.source}: "
            f"${price.input:g} in, ${price.output:g} out per million); {cap}"
        )
    return "\n".join([*lines, "nothing was sent"])
