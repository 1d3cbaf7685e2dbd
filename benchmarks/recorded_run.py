"""Send requests to the embedded teacher for the benchmarks: by `generate`, or one by one."""

from __future__ import annotations

import asyncio
import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import openai

from code_alpaca.generation.command import GenerateConfig, generate_dataset
from code_alpaca.teacher.client import Teacher
from code_alpaca.teacher.http_client import RequestStats

ACCEPT_ALL = {"novelty_threshold": 1.0, "filters": [], "decontaminate": [], "verify": False}


def generate(url: str, requests: int, **settings: Any) -> RequestStats:
    """Generate one row per request, build the dataset, and return the client's statistics.

    Every reply is accepted, so that nothing but requests takes time.
    """
    recorded: list[RequestStats] = []
    close = Teacher.close

    async def record_and_close(teacher: Teacher) -> None:
        recorded.append(teacher.stats)
        await close(teacher)

    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(io.StringIO()),
        mock.patch.object(Teacher, "close", record_and_close),
    ):
        config = GenerateConfig(
            run_dir=Path(folder), teacher_base_url=url, num_examples=requests,
            tasks_per_request=1, **ACCEPT_ALL, **settings,
        )  # fmt: skip
        generate_dataset(config)
    return recorded[0]


async def send(client: openai.AsyncOpenAI, slots: asyncio.Semaphore, number: int) -> None:
    """Request one task, when a slot is free."""
    async with slots:
        await client.chat.completions.create(
            model="offline-teacher",
            messages=[{"role": "user", "content": f"Write 1 tasks, number {number}"}],
        )
