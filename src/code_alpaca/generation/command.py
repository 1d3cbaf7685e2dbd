"""Generate a dataset: request new tasks from a teacher until enough rows are accepted.

Everything is recorded in the run's ledger, so the same command resumes the run, and a larger
num_examples extends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from code_alpaca.core import console
from code_alpaca.core.errors import InputError, Stopped
from code_alpaca.core.ledger import Ledger
from code_alpaca.core.run_folder import open_run, resume_config
from code_alpaca.curation.rules import open_curator
from code_alpaca.dataset.build import build_dataset
from code_alpaca.dataset.folder import DatasetOptions
from code_alpaca.dataset.manifest import read_manifest
from code_alpaca.dataset.origin_files import make_origin_files, record_origin_files
from code_alpaca.dataset.push import prepare_repo, preupload_shards, push_dataset
from code_alpaca.generation.checks import (
    check_environment,
    check_limits,
    check_model,
    find_teacher_price,
    verify_seed_tasks,
)
from code_alpaca.generation.config import GenerateConfig as GenerateConfig
from code_alpaca.generation.dry_run import describe_dry_run
from code_alpaca.generation.progress import RunProgress
from code_alpaca.generation.prompt_files import describe_prompts
from code_alpaca.generation.request_plan import RequestPlan
from code_alpaca.hub.release_plan import ReleaseTerms, VersionExistsError
from code_alpaca.teacher import offline
from code_alpaca.teacher.budget import Budget
from code_alpaca.teacher.prices import Price
from code_alpaca.teacher.request_body import get_header_values
from code_alpaca.teacher.serving import Demand, serve_model

if TYPE_CHECKING:  # they import the OpenAI SDK, which `--help` does not need
    from code_alpaca.generation.engine import GenerationEngine
    from code_alpaca.teacher.batch import BatchTeacher
    from code_alpaca.teacher.client import Teacher

MAX_PROMPT_TOKENS = 4096  # of a request, for the context window of a model that is served here


def generate_dataset(config: GenerateConfig) -> None:
    """Generate until `num_examples` rows are accepted, and write `<run_dir>/dataset`.

    Raises:
        InputError: bad input, a run folder of another config, no key, a cap without a price.
        Stopped: the budget is used, the teacher refused or does not respond, many replies in a row
            yielded no accepted row, or a signal arrived.
    """
    check_environment(config)
    config = resume_config(config.run_dir, config)
    plan = RequestPlan.from_config(config)
    price = find_teacher_price(config)
    check_limits(config, plan, price)
    check_model(config)
    if config.dry_run:
        print(describe_dry_run(config, plan, price))
        return
    repository = config.hub_dataset_id if config.push_to_hub else None
    if repository:  # check access to the Hub before money is spent
        try:
            prepare_repo(repository, config.dataset_version, config.run_dir, private=config.private)
        except VersionExistsError:
            if not _has_dataset(config):  # otherwise the push compares the rows
                raise
    new_version = _fill_ledger(config, plan, price, repository)
    version = config.dataset_version if new_version else None
    options = DatasetOptions(version, repository=repository, title=config.title)
    folder = build_dataset(config.run_dir, options)
    if repository:
        push_dataset(folder, repository, ReleaseTerms(config.private))


def _has_dataset(config: GenerateConfig) -> bool:
    """Return whether an earlier start wrote this version of the dataset with enough rows."""
    manifest = read_manifest(config.run_dir / "dataset")
    return (
        manifest is not None
        and manifest.version == config.dataset_version
        and manifest.counts["default"] >= config.num_examples
    )


def _fill_ledger(
    config: GenerateConfig, plan: RequestPlan, price: Price | None, repository: str | None
) -> bool:
    """Generate into the ledger; return whether the dataset version is a new one."""
    from code_alpaca.generation.engine import GenerationEngine

    with (
        open_curator(config, **plan.curation_overrides) as (curator, contamination),
        open_run(config.run_dir, config, plan.inputs() + config.user_files()) as ledger,
    ):
        ledger.set_meta("contamination", contamination)
        plan = plan.resumed(ledger)  # with the ids of seed tasks that its rows name
        record_origin_files(ledger, make_origin_files(plan.seed_tasks, describe_prompts(plan)))
        if config.verify:
            verify_seed_tasks(plan.seed_tasks, curator, refuse=ledger.is_empty())
        new_version = ledger.meta("dataset_version") != config.dataset_version
        ledger.set_meta("dataset_version", config.dataset_version)
        budget = Budget(ledger, price, config.max_cost_usd) if price else None
        spent = (lambda: budget.spent) if budget else (lambda: None)
        with RunProgress(spent, config.report_to, config.run_dir.name) as progress:
            engine = GenerationEngine(plan, ledger, curator, progress)
            progress.update(engine.totals)
            if not engine.done:
                # A full collection over all libraries' objects takes 0.1 s with the teacher idle.
                gc.collect()
                gc.freeze()
                _record_price(ledger, price)
                checkpoint = _make_checkpoint(config.run_dir, repository)
                with _serve_teacher_urls(config) as urls, _write_rejected_rows(config, engine):
                    connect = partial(_create_teacher, config, urls, ledger, budget)
                    asyncio.run(engine.run(connect, checkpoint))
            progress.finish(engine.totals)
        console.stage("generate").print(f"writing {config.run_dir / 'dataset'}")
    return new_version


def _record_price(ledger: Ledger, price: Price | None) -> None:
    """Record where the prices of new requests come from, after those of earlier ones."""
    if price:
        sources = [*ledger.record("price_sources", []), price.source]
        ledger.set_meta("price_sources", json.dumps(list(dict.fromkeys(sources))))


@contextlib.contextmanager
def _serve_teacher_urls(config: GenerateConfig) -> Iterator[list[str]]:
    """Yield the base URLs of the teacher, none for OpenAI; start it if it runs on this machine."""
    url = config.teacher_base_url
    if offline.is_offline(url):
        with offline.start_server(url, config.seed) as address:
            yield [address]
    elif served := config.served_model:
        num_requests = min(config.max_concurrency, config.lookahead)
        demand = Demand(num_requests, MAX_PROMPT_TOKENS + config.max_completion_tokens)
        with serve_model(served, config, demand, config.run_dir / "logs") as urls:
            yield urls
    else:
        yield [part.strip() for part in url.split(",") if part.strip()] if url else []


def _create_teacher(
    config: GenerateConfig, urls: list[str], ledger: Ledger, budget: Budget | None
) -> Teacher | BatchTeacher:
    from code_alpaca.teacher.batch import BatchTeacher
    from code_alpaca.teacher.client import Teacher
    from code_alpaca.teacher.scheduling import ConnectionSettings

    settings = ConnectionSettings(
        api=config.request_api,
        max_concurrency=config.max_concurrency,
        timeout_s=config.request_timeout_s,
        requests_per_minute=config.requests_per_minute,
        tokens_per_minute=config.tokens_per_minute,
        batch_poll_s=config.batch_poll_s,
        extra_headers=get_header_values(config.extra_headers),
    )
    if config.teacher_api != "batch":
        return Teacher(urls, settings, ledger=ledger, budget=budget)
    if len(urls) > 1:
        raise InputError("teacher_api batch takes one teacher_base_url")
    url, report = next(iter(urls), None), console.stage("batch").print
    return BatchTeacher(url, settings, ledger=ledger, budget=budget, report=report)


@contextlib.contextmanager
def _write_rejected_rows(config: GenerateConfig, engine: GenerationEngine) -> Iterator[None]:
    """Write the rejected rows of a run that stops without an accepted one, for inspection."""
    try:
        yield
    except Stopped:
        if engine.totals.rejected and not engine.totals.accepted:
            try:
                build_dataset(config.run_dir, draw_plots=False)
            except InputError as error:
                console.stage("generate").print(str(error))
        raise


def _make_checkpoint(run_dir: Path, repository: str | None) -> Callable[[], None]:
    """Return a function that writes the dataset so far and uploads its full shards early."""
    uploaded: set[str] = set()

    def write() -> None:
        folder = build_dataset(run_dir, draw_plots=False)
        if repository:
            try:
                preupload_shards(folder, repository, uploaded)
            except (InputError, Stopped) as error:  # the release uploads what is missing
                console.stage("generate").print(f"shards were not uploaded early: {error}")

    return write
