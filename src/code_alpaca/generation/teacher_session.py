"""The connection to the teacher in one start of a run: server, client and their status."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from code_alpaca.core import console
from code_alpaca.core.errors import InputError
from code_alpaca.core.ledger import Ledger
from code_alpaca.generation.config import GenerateConfig
from code_alpaca.generation.engine import GenerationEngine
from code_alpaca.teacher import offline
from code_alpaca.teacher.batch import BatchTeacher
from code_alpaca.teacher.budget import Budget
from code_alpaca.teacher.client import Teacher
from code_alpaca.teacher.scheduling import ConnectionSettings


class TeacherSession:
    """Connect the engine to the teacher of a config, started here if it is the embedded one."""

    def __init__(self, config: GenerateConfig, ledger: Ledger, budget: Budget | None) -> None:
        self._config, self._ledger, self._budget = config, ledger, budget
        self._teacher: Teacher | BatchTeacher | None = None

    def run(self, engine: GenerationEngine) -> None:
        """Run the engine to its end; raises what it raises."""
        with self._serve() as urls:
            asyncio.run(self._run(engine, urls))

    def status(self) -> tuple[int, int]:
        """Return the requests in flight, and how often the teacher reported that it was busy."""
        teacher = self._teacher
        return (teacher.in_flight, teacher.stats.rejected) if teacher else (0, 0)

    @contextlib.contextmanager
    def _serve(self) -> Iterator[list[str]]:
        url = self._config.teacher_base_url
        if offline.is_offline(url):
            with offline.start_server(url, self._config.seed) as address:
                yield [address]
        else:
            yield [part.strip() for part in url.split(",") if part.strip()] if url else []

    async def _run(self, engine: GenerationEngine, urls: list[str]) -> None:
        self._teacher = self._connect(urls)  # inside the event loop, which its locks need
        await engine.run(self._teacher)

    def _connect(self, urls: list[str]) -> Teacher | BatchTeacher:
        config = self._config
        settings = ConnectionSettings(
            api=config.request_api,
            max_concurrency=config.max_concurrency,
            timeout_s=config.request_timeout_s,
            requests_per_minute=config.requests_per_minute,
            tokens_per_minute=config.tokens_per_minute,
            batch_poll_s=config.batch_poll_s,
        )
        if config.teacher_api != "batch":
            return Teacher(urls, settings, ledger=self._ledger, budget=self._budget)
        if len(urls) > 1:
            raise InputError("teacher_api batch takes one teacher_base_url")
        return BatchTeacher(
            urls[0] if urls else None,
            settings,
            ledger=self._ledger,
            budget=self._budget,
            report=console.stage("batch").print,
        )
