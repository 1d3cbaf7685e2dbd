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
from functools import partial
from typing import Any

from aiohttp import web
from pydantic import Field

from code_alpaca.core.config import StageConfig
from code_alpaca.core.errors import InputError
from code_alpaca.teacher.offline import replies
from code_alpaca.teacher.offline.faults import SERVER_FAULTS, Faults
from code_alpaca.teacher.request_body import ENDPOINT_PATHS

OBJECT_TYPES = {
    "chat": "chat.completion",
    "responses": "response",
    "completions": "text_completion",
}
PROMPT_KEYS = {"chat": "messages", "responses": "input", "completions": "prompt"}
HANG_S = 120.0
MAX_REQUEST_BYTES = 64 << 20


class TeacherConfig(Faults, StageConfig):
    """The keys of `code-alpaca teacher`."""

    port: int = Field(8377, ge=0, le=65535, description="port on 127.0.0.1; 0 for any free port")
    seed: int = Field(0, description="seed of the random tasks")
    model: str = Field("offline-teacher", description="name of the served model")
    until_eof: bool = Field(False, description="stop when standard input ends")


def serve_teacher(config: TeacherConfig) -> None:
    """Serve until Ctrl-C."""
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
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    print(f"serving {url} (model {config.model}, seed {config.seed})", flush=True)
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()

    def stop_at_eof() -> None:  # standard input ends when the parent process does
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(stopped.set)

    if config.until_eof:
        threading.Thread(target=stop_at_eof, daemon=True).start()
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
        posts = [web.post(f"/v1{path}", partial(self._handle, api))
                 for api, path in ENDPOINT_PATHS.items()]  # fmt: skip
        gets = [web.get("/v1/models", self._list_models), web.get("/v1/stats", self._report_counts)]
        return posts + gets

    async def _handle(self, api: str, request: web.Request) -> web.Response:
        """Respond to a request for a reply in the format of one of the three APIs."""
        body, error = await self._read(request)
        if error is not None:
            return error
        prompt = _read_prompt(api, body)
        if prompt is None:
            form = "a list of {role, content}" if api == "chat" else "one string"
            return _respond_error(400, f"{PROMPT_KEYS[api]} must be {form}")
        write = replies.write_completion_reply if api == "completions" else replies.write_chat_reply
        text, truncated = write(body, prompt, self.config)
        num_read, num_written = replies.count_tokens(prompt), replies.count_tokens(text)
        usage = {"prompt_tokens": num_read, "completion_tokens": num_written}
        self._counts.update(answered=1, **usage)
        if api == "responses":
            usage = {"input_tokens": num_read, "output_tokens": num_written}
        key = replies.hash_body(body, self.config.seed)
        head = {"id": f"offline-{key[:24]}", "object": OBJECT_TYPES[api], "created": 0}
        content = {"model": self.config.model, **_format_output(api, text, truncated)}
        rpm = self.config.rpm
        usage["total_tokens"] = num_read + num_written
        return web.json_response(
            {**head, **content, "usage": usage},
            headers={"x-ratelimit-limit-requests": f"{rpm:g}"} if rpm else {},
        )

    async def _list_models(self, _: web.Request) -> web.Response:
        model = {"id": self.config.model, "object": "model", "created": 0}
        data = [{**model, "owned_by": "code-alpaca"}]
        return web.json_response({"object": "list", "data": data})

    async def _report_counts(self, _: web.Request) -> web.Response:
        return web.json_response(dict(self._counts))

    async def _read(self, request: web.Request) -> tuple[dict[str, Any], web.Response | None]:
        """Return the body, and an error response for an invalid request or a simulated fault."""
        try:
            body = json.loads(await request.read())
            if not isinstance(body, dict):
                raise ValueError("not an object")
        except ValueError as error:
            return {}, _respond_error(400, f"the body is not a JSON object: {error}")
        if body.get("model") != self.config.model:
            message = f"The model {body.get('model')!r} does not exist"
            return body, _respond_error(404, message, "model_not_found")
        if (wait_s := self._check_rate_limit()) > 0:
            self._counts["over_limit"] += 1
            headers = {"Retry-After": f"{wait_s:.3f}"}
            return body, _respond_error(429, "too many requests", "rate_limit_exceeded", headers)
        key = replies.hash_body(body, self.config.seed)
        rng = random.Random(f"server/{key}/{self._num_received[key]}")
        self._num_received[key] += 1
        await asyncio.sleep(self.config.latency + rng.random() * self.config.jitter)
        fault = self.config.draw(rng, *SERVER_FAULTS)
        return body, await self._simulate_fault(fault, request) if fault else None

    def _check_rate_limit(self) -> float:
        """Return the seconds until a request is within `rpm`; one second of it may burst."""
        if not self.config.rpm:
            return 0.0
        now, interval = time.monotonic(), 60 / self.config.rpm
        idle_at = max(self._idle_at, now) + interval
        wait_s = max(0.0, idle_at - now - max(1.0, interval))
        if not wait_s:
            self._idle_at = idle_at
        return wait_s

    async def _simulate_fault(self, fault: str, request: web.Request) -> web.Response:
        self._counts[fault] += 1
        if fault == "hang":
            await asyncio.sleep(HANG_S)
        if fault in ("hang", "drop"):
            if request.transport:
                request.transport.abort()
            return _respond_error(500, "connection closed")
        status = int(fault.removeprefix("rate_"))
        headers = {} if status == 500 else {"Retry-After": f"{self.config.retry_after:g}"}
        code = "rate_limit_exceeded" if status == 429 else None
        return _respond_error(status, "simulated fault", code, headers)


def _read_prompt(api: str, body: dict[str, Any]) -> str | None:
    """Return the prompt in a request body, or None if it has another type."""
    if api != "chat":
        prompt = body.get(PROMPT_KEYS[api], "")
        return prompt if isinstance(prompt, str) else None
    try:
        return "\n".join(str(message.get("content", "")) for message in body["messages"])
    except (KeyError, TypeError, AttributeError):
        return None


def _format_output(api: str, text: str, truncated: bool) -> dict[str, Any]:
    """Return the part of a response body with the output, in the format of an API."""
    if api == "responses":
        part = {"type": "output_text", "text": text, "annotations": []}
        message = {"type": "message", "role": "assistant", "status": "completed", "content": [part]}
        return {
            "status": "incomplete" if truncated else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if truncated else None,
            "output": [message],
        }
    message = {"role": "assistant", "content": text, "refusal": None}
    output = {"message": message} if api == "chat" else {"text": text}
    finish_reason = "length" if truncated else "stop"
    return {"choices": [{"index": 0, **output, "finish_reason": finish_reason}]}


def _respond_error(
    status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None
) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return web.json_response({"error": error}, status=status, headers=headers)
