"""Serve the embedded teacher: an OpenAI-compatible HTTP server on 127.0.0.1.

It lets every command run without an API key: tasks are composed from a grammar, not by a model.
Endpoints: /v1/chat/completions, /v1/responses, /v1/completions, /v1/models, and /v1/stats with the
counts of what was served.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from aiohttp import web
from pydantic import Field

from code_alpaca.core.config import StageConfig
from code_alpaca.core.errors import InputError
from code_alpaca.teacher.offline.faults import Faults
from code_alpaca.teacher.offline.replies import (
    count_tokens,
    hash_body,
    write_chat_reply,
    write_completion_reply,
)

HANG_S = 120.0
MAX_REQUEST_BYTES = 64 << 20


class TeacherConfig(Faults, StageConfig):
    """The keys of `code-alpaca teacher`."""

    port: int = Field(8377, ge=0, le=65535, description="port on 127.0.0.1; 0 for any free port")
    seed: int = Field(0, description="seed of the random tasks")
    model: str = Field("offline-teacher", description="name of the served model")
    until_eof: bool = Field(
        False, description="stop at the end of standard input (for a parent process)"
    )


def serve_teacher(config: TeacherConfig) -> None:
    """Serve until Ctrl-C.

    Raises:
        InputError: the port is in use.
    """
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(config))


async def _serve(config: TeacherConfig) -> None:
    app = web.Application(client_max_size=MAX_REQUEST_BYTES)
    app.router.add_routes(OfflineTeacher(config).list_routes())
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", config.port).start()
    except OSError as error:
        raise InputError(
            f"cannot serve on 127.0.0.1:{config.port} ({error.strerror}); choose another port"
        ) from None
    port = runner.addresses[0][1]
    print(
        f"serving http://127.0.0.1:{port}/v1 (model {config.model}, seed {config.seed})",
        flush=True,
    )
    stopped = asyncio.Event()
    if config.until_eof:
        _call_at_eof(asyncio.get_running_loop(), stopped.set)
    await stopped.wait()
    await runner.cleanup()


class OfflineTeacher:
    """The request handlers, with counts of what they served."""

    def __init__(self, config: TeacherConfig) -> None:
        self.config = config
        self._num_received: Counter[str] = Counter()  # by hash of the body
        self._counts: Counter[str] = Counter()
        self._idle_at = 0.0  # time at which the requests so far are within `rpm`

    def list_routes(self) -> list[web.RouteDef]:
        return [
            web.post("/v1/chat/completions", self.handle_chat),
            web.post("/v1/responses", self.handle_responses),
            web.post("/v1/completions", self.handle_completions),
            web.get("/v1/models", self.handle_models),
            web.get("/v1/stats", self.handle_stats),
        ]

    async def handle_chat(self, request: web.Request) -> web.Response:
        body, error = await self._read(request)
        if error is not None:
            return error
        try:
            prompt = "\n".join(str(message.get("content", "")) for message in body["messages"])
        except (KeyError, TypeError, AttributeError):
            return self._respond_error(400, "messages must be a list of {role, content}")
        text, truncated = write_chat_reply(body, prompt, self.config)
        message = {"role": "assistant", "content": text, "refusal": None}
        finish_reason = "length" if truncated else "stop"
        choice = {"index": 0, "message": message, "finish_reason": finish_reason}
        return self._respond("chat.completion", body, prompt, text, {"choices": [choice]})

    async def handle_responses(self, request: web.Request) -> web.Response:
        body, error = await self._read(request)
        if error is not None:
            return error
        prompt = body.get("input", "")
        if not isinstance(prompt, str):
            return self._respond_error(400, "input must be one string")
        text, truncated = write_chat_reply(body, prompt, self.config)
        part = {"type": "output_text", "text": text, "annotations": []}
        message = {"type": "message", "role": "assistant", "status": "completed", "content": [part]}
        content = {
            "status": "incomplete" if truncated else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if truncated else None,
            "output": [message],
        }
        return self._respond("response", body, prompt, text, content)

    async def handle_completions(self, request: web.Request) -> web.Response:
        body, error = await self._read(request)
        if error is not None:
            return error
        prompt = body.get("prompt", "")
        if not isinstance(prompt, str):
            return self._respond_error(400, "prompt must be one string")
        text, truncated = write_completion_reply(body, prompt, self.config)
        choice = {"index": 0, "text": text, "finish_reason": "length" if truncated else "stop"}
        return self._respond("text_completion", body, prompt, text, {"choices": [choice]})

    async def handle_models(self, _: web.Request) -> web.Response:
        model = {"id": self.config.model, "object": "model", "created": 0}
        data = [{**model, "owned_by": "code-alpaca"}]
        return web.json_response({"object": "list", "data": data})

    async def handle_stats(self, _: web.Request) -> web.Response:
        return web.json_response(dict(self._counts))

    async def _read(self, request: web.Request) -> tuple[dict[str, Any], web.Response | None]:
        """Return the body, and an error response for an invalid request or a simulated fault."""
        try:
            body = json.loads(await request.read())
            if not isinstance(body, dict):
                raise ValueError("not an object")
        except ValueError as error:
            return {}, self._respond_error(400, f"the body is not a JSON object: {error}")
        if body.get("model") != self.config.model:
            message = f"The model {body.get('model')!r} does not exist"
            return body, self._respond_error(404, message, "model_not_found")
        if (wait_s := self._check_rate_limit()) > 0:
            self._counts["over_limit"] += 1
            headers = {"Retry-After": f"{wait_s:.3f}"}
            return body, self._respond_error(
                429, "too many requests", "rate_limit_exceeded", headers
            )
        key = hash_body(body, self.config.seed)
        rng = random.Random(f"server/{key}/{self._num_received[key]}")
        self._num_received[key] += 1
        await asyncio.sleep(self.config.latency + rng.random() * self.config.jitter)
        fault = self.config.draw_server_fault(rng)
        return body, await self._simulate_fault(fault, request) if fault else None

    def _check_rate_limit(self) -> float:
        """Return the seconds until a request is within `rpm`; one second of it may burst."""
        if not self.config.rpm:
            return 0.0
        now, interval = time.monotonic(), 60 / self.config.rpm
        idle_at = max(self._idle_at, now) + interval
        burst = max(1.0, interval)
        if idle_at - now > burst:
            return idle_at - now - burst
        self._idle_at = idle_at
        return 0.0

    async def _simulate_fault(self, fault: str, request: web.Request) -> web.Response:
        self._counts[fault] += 1
        if fault == "hang":
            await asyncio.sleep(HANG_S)
        if fault in ("hang", "drop"):
            if request.transport:
                request.transport.abort()
            return self._respond_error(500, "connection closed")
        status = int(fault.removeprefix("rate_"))
        headers = {} if status == 500 else {"Retry-After": f"{self.config.retry_after:g}"}
        code = "rate_limit_exceeded" if status == 429 else None
        return self._respond_error(status, "simulated fault", code, headers)

    def _respond(
        self, kind: str, body: dict[str, Any], prompt: str, text: str, content: dict[str, Any]
    ) -> web.Response:
        """Count the tokens of a reply and return its response."""
        names = ("prompt_tokens", "completion_tokens")
        counts = (count_tokens(prompt), count_tokens(text))
        self._counts.update(answered=1, **dict(zip(names, counts, strict=True)))
        if kind == "response":
            names = ("input_tokens", "output_tokens")
        usage = {**dict(zip(names, counts, strict=True)), "total_tokens": sum(counts)}
        head = {"id": "offline-" + hash_body(body, self.config.seed)[:24], "object": kind}
        rpm = self.config.rpm
        return web.json_response(
            {**head, "created": 0, "model": self.config.model, **content, "usage": usage},
            headers={"x-ratelimit-limit-requests": f"{rpm:g}"} if rpm else {},
        )

    @staticmethod
    def _respond_error(
        status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None
    ) -> web.Response:
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
        return web.json_response({"error": error}, status=status, headers=headers)


def _call_at_eof(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    """Call back in the loop when standard input ends: when the parent process ends."""

    def wait() -> None:
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(callback)

    threading.Thread(target=wait, daemon=True).start()
