"""Connect to the teacher of a config, which is started here if it is the embedded one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from code_alpaca.core import console
from code_alpaca.core.errors import InputError
from code_alpaca.core.ledger import Ledger
from code_alpaca.generation.config import GenerateConfig
from code_alpaca.teacher import offline
from code_alpaca.teacher.batch import BatchTeacher
from code_alpaca.teacher.budget import Budget
from code_alpaca.teacher.client import Teacher
from code_alpaca.teacher.scheduling import ConnectionSettings


@contextlib.contextmanager
def serve_teacher_urls(config: GenerateConfig) -> Iterator[list[str]]:
    """Yield the base URLs of the teacher; none for OpenAI's."""
    url = config.teacher_base_url
    if offline.is_offline(url):
        with offline.start_server(url, config.seed) as address:
            yield [address]
    else:
        yield [part.strip() for part in url.split(",") if part.strip()] if url else []


def create_teacher(
    config: GenerateConfig, urls: list[str], ledger: Ledger, budget: Budget | None
) -> Teacher | BatchTeacher:
    """Return a client of the teacher; to be called inside the event loop, which its locks need."""
    settings = ConnectionSettings(
        api=config.request_api,
        max_concurrency=config.max_concurrency,
        timeout_s=config.request_timeout_s,
        requests_per_minute=config.requests_per_minute,
        tokens_per_minute=config.tokens_per_minute,
        batch_poll_s=config.batch_poll_s,
    )
    if config.teacher_api != "batch":
        return Teacher(urls, settings, ledger=ledger, budget=budget)
    if len(urls) > 1:
        raise InputError("teacher_api batch takes one teacher_base_url")
    return BatchTeacher(
        urls[0] if urls else None,
        settings,
        ledger=ledger,
        budget=budget,
        report=console.stage("batch").print,
    )
