"""Serve the embedded teacher: an OpenAI-compatible endpoint on 127.0.0.1, made of a grammar.

It is a stand-in so that everything runs without a key: it composes tasks, and understands
nothing. /v1/chat/completions, /v1/responses, /v1/completions, /v1/models; /v1/stats counts what
was served.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
import random
import re
import sys
import threading
import time
from collections import Counter
from typing import Any

from pydantic import Field

from code_alpaca.core.config import StageConfig
from code_alpaca.core.errors import InputError
from code_alpaca.teacher.apis import answer_limit
from code_alpaca.teacher.offline.faults import Faults
from code_alpaca.teacher.offline.kinds import compose

HANG_S = 120.0
TASK_KEYS = ("instruction", "input", "output", "language", "tests")
COUNT = re.compile(r"exactly (\d+)|(\d+) (?:new |programming |coding )*tasks", re.IGNORECASE)
NUMBERED = re.compile(r"^(\d+)\. Instruction:", re.MULTILINE)
BEGUN = re.compile(r"^\d+\. Instruction:\s*\Z", re.MULTILINE)
MOST_TASKS = 50


class TeacherConfig(Faults, StageConfig):
    """The keys of `code-alpaca teacher`."""

    port: int = Field(8377, ge=0, le=65535, description="port on 127.0.0.1; 0: any free one")
    seed: int = Field(0, description="another seed, other tasks")
    model: str = Field("offline-teacher", description="the model name that it serves")
    until_eof: bool = Field(
        False, description="end when standard input does (for a parent process)"
    )


def serve_teacher(config: TeacherConfig) -> None:
    """Serve until Ctrl-C.

    Raises:
        InputError: the port is taken.
    """
    from aiohttp import web

    async def serve() -> None:
        app = web.Application(client_max_size=64 << 20)
        teacher = OfflineTeacher(config)
        app.router.add_post("/v1/chat/completions", teacher.chat)
        app.router.add_post("/v1/responses", teacher.respond)
        app.router.add_post("/v1/completions", teacher.complete)
        app.router.add_get("/v1/models", teacher.models)
        app.router.add_get("/v1/stats", teacher.stats)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", config.port)
        try:
            await site.start()
        except OSError as error:
            raise InputError(
                f"cannot serve on 127.0.0.1:{config.port} ({error.strerror}); choose another port"
            ) from None
        port = runner.addresses[0][1]
        print(
            f"serving http://127.0.0.1:{port}/v1 (model {config.model}, seed {config.seed})",
            flush=True,
        )
        ended = asyncio.Event()
        if config.until_eof:
            _call_at_eof(asyncio.get_running_loop(), ended.set)
        await ended.wait()
        await runner.cleanup()

    with contextlib.suppress(KeyboardInterrupt):  # the way to end a server, and no failure
        asyncio.run(serve())


class OfflineTeacher:
    """The handlers, and the counts of what they served."""

    def __init__(self, config: TeacherConfig) -> None:
        self.config = config
        self._seen: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._due = 0.0  # time.monotonic() at which the requests so far are worked off

    async def chat(self, request: Any) -> Any:
        body, early = await self._begin(request)
        if early is not None:
            return early
        try:
            prompt = "\n".join(str(message.get("content", "")) for message in body["messages"])
        except (KeyError, TypeError, AttributeError):
            return self._error(400, "messages must be a list of {role, content}")
        text, cut = chat_reply(body, prompt, self.config)
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "length" if cut else "stop"}
        return self._answer("chat.completion", body, prompt, text, choice)

    async def respond(self, request: Any) -> Any:
        body, early = await self._begin(request)
        if early is not None:
            return early
        prompt = body.get("input", "")
        if not isinstance(prompt, str):
            return self._error(400, "input must be one string")
        text, cut = chat_reply(body, prompt, self.config)
        part = {"type": "output_text", "text": text, "annotations": []}
        message = {"type": "message", "role": "assistant", "status": "completed", "content": [part]}
        return self._reply(
            "response",
            body,
            {
                "status": "incomplete" if cut else "completed",
                "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
                "output": [message],
            },
            self._usage(prompt, text, ("input_tokens", "output_tokens")),
        )

    async def complete(self, request: Any) -> Any:
        body, early = await self._begin(request)
        if early is not None:
            return early
        prompt = body.get("prompt", "")
        if not isinstance(prompt, str):
            return self._error(400, "prompt must be one string")
        text, cut = completion_reply(body, prompt, self.config)
        choice = {"index": 0, "text": text, "finish_reason": "length" if cut else "stop"}
        return self._answer("text_completion", body, prompt, text, choice)

    async def models(self, _: Any) -> Any:
        from aiohttp import web

        model = {
            "id": self.config.model,
            "object": "model",
            "created": 0,
            "owned_by": "code-alpaca",
        }
        return web.json_response({"object": "list", "data": [model]})

    async def stats(self, _: Any) -> Any:
        from aiohttp import web

        return web.json_response(dict(self._counts))

    async def _begin(self, request: Any) -> tuple[dict[str, Any], Any]:
        """The body, and a response where the request is bad or a fault strikes."""
        try:
            body = json.loads(await request.read())
            if not isinstance(body, dict):
                raise ValueError("not an object")
        except ValueError as error:
            return {}, self._error(400, f"the body is not a JSON object: {error}")
        if body.get("model") != self.config.model:
            message = f"The model {body.get('model')!r} does not exist"
            return body, self._error(404, message, "model_not_found")
        if (wait := self._over_limit()) > 0:
            self._counts["over_limit"] += 1
            headers = {"Retry-After": f"{wait:.3f}"}
            return body, self._error(429, "too many requests", "rate_limit_exceeded", headers)
        key = _digest(body, self.config.seed)
        rng = random.Random(f"server/{key}/{self._seen[key]}")
        self._seen[key] += 1
        await asyncio.sleep(self.config.latency + rng.random() * self.config.jitter)
        return body, await self._server_fault(self.config.of_server(rng), request)

    def _over_limit(self) -> float:
        """Seconds until a request would be within `rpm`; the allowance of one second may burst."""
        if not self.config.rpm:
            return 0.0
        now, each = time.monotonic(), 60 / self.config.rpm
        due = max(self._due, now) + each
        if due - now > max(1.0, each):
            return due - now - max(1.0, each)
        self._due = due
        return 0.0

    async def _server_fault(self, fault: str | None, request: Any) -> Any:
        if fault is None:
            return None
        self._counts[fault] += 1
        if fault == "hang":
            await asyncio.sleep(HANG_S)
        if fault in ("hang", "drop"):
            request.transport.abort()
            return self._error(500, "gone")
        status = int(fault.removeprefix("rate_"))
        headers = {} if status == 500 else {"Retry-After": f"{self.config.retry_after:g}"}
        return self._error(
            status, "told to fail", "rate_limit_exceeded" if status == 429 else None, headers
        )

    def _answer(self, kind: str, body: dict[str, Any], prompt: str, text: str, choice: dict) -> Any:
        used = self._usage(prompt, text, ("prompt_tokens", "completion_tokens"))
        return self._reply(kind, body, {"choices": [choice]}, used)

    def _usage(self, prompt: str, text: str, names: tuple[str, str]) -> dict[str, int]:
        asked, told = tokens(prompt), tokens(text)
        self._counts["answered"] += 1
        self._counts["prompt_tokens"] += asked
        self._counts["completion_tokens"] += told
        return {names[0]: asked, names[1]: told, "total_tokens": asked + told}

    def _reply(self, kind: str, body: dict[str, Any], said: dict[str, Any], used: Any) -> Any:
        from aiohttp import web

        head = {"id": "offline-" + _digest(body, self.config.seed)[:24], "object": kind}
        return web.json_response(
            {**head, "created": 0, "model": self.config.model, **said, "usage": used},
            headers={"x-ratelimit-limit-requests": f"{rpm:g}"} if (rpm := self.config.rpm) else {},
        )

    @staticmethod
    def _error(status: int, message: str, code: str | None = None, headers: Any = None) -> Any:
        from aiohttp import web

        error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
        return web.json_response({"error": error}, status=status, headers=headers)


def chat_reply(body: dict[str, Any], prompt: str, config: TeacherConfig) -> tuple[str, bool]:
    """The text of a chat reply and whether it was cut: a function of the body and the seed."""
    rng = random.Random(f"content/{_digest(body, config.seed)}")
    if BEGUN.search(prompt):
        return completion_reply(body, prompt, config)
    form = body.get("response_format") or (body.get("text") or {}).get("format") or {}
    keys, count = _wanted(form, prompt)
    examples = _examples(prompt)
    tasks = [
        config.spoil_task(rng, {key: getattr(task, key) for key in keys}, examples)
        for task in (compose(rng) for _ in range(count))
    ]
    text = json.dumps({"tasks": tasks}, ensure_ascii=False)
    if form.get("type") not in ("json_schema", "json_object"):
        text = f"Here are the tasks.\n\n```json\n{text}\n```\n"
    return _limited(body, *config.spoil_reply(rng, text))


def completion_reply(body: dict[str, Any], prompt: str, config: TeacherConfig) -> tuple[str, bool]:
    """The continuation of a numbered list of tasks, as the 2023 prompt asked for it."""
    rng = random.Random(f"content/{_digest(body, config.seed)}")
    numbers = [int(number) for number in NUMBERED.findall(prompt)]
    first = max(numbers, default=0)
    begun = prompt.rstrip().endswith("Instruction:")
    first += not begun
    blocks = []
    last = _count(prompt)  # "a list of 20 tasks" whose fourth is begun ends at the twentieth
    for number in range(first, (last if last >= first else first + last - 1) + 1):
        fields = {
            key: getattr(compose_once, key) for compose_once in (compose(rng),) for key in TASK_KEYS
        }
        task = config.spoil_task(rng, fields, [])
        head = "" if begun and number == first else f"###\n{number}. Instruction:"
        blocks.append(
            f"{head} {task['instruction']}\n{number}. Input:\n{task['input'] or '<noinput>'}\n"
            f"{number}. Output:\n{task['output']}\n"
        )
    return _limited(body, *config.spoil_reply(rng, "".join(blocks)))


def tokens(text: str) -> int:
    """The teacher's own count: four bytes of UTF-8 to a token, rounded up."""
    return math.ceil(len(text.encode("utf-8", "replace")) / 4)


def _wanted(form: dict[str, Any], prompt: str) -> tuple[list[str], int]:
    """The keys of a task and the number of tasks, from the schema where there is one."""
    try:
        array = (form.get("json_schema") or form)["schema"]["properties"]["tasks"]
        keys = [key for key in array["items"]["properties"] if key in TASK_KEYS]
    except (KeyError, TypeError):
        return list(TASK_KEYS), _count(prompt)
    count = array.get("maxItems") or array.get("minItems") or _count(prompt)
    return keys, min(int(count), MOST_TASKS)


def _count(prompt: str) -> int:
    found = COUNT.search(prompt)
    return min(int(found[1] or found[2]), MOST_TASKS) if found else 1


def _examples(prompt: str) -> list[dict[str, Any]]:
    """The tasks that the prompt shows, one JSON object a line."""
    found = []
    for line in prompt.split("\n"):
        if line.startswith("{") and '"instruction"' in line:
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return found


def _limited(body: dict[str, Any], text: str, cut: bool) -> tuple[str, bool]:
    limit = answer_limit(body)
    if limit and tokens(text) > limit:
        return text.encode()[: 4 * limit].decode("utf-8", "ignore"), True
    return text, cut


def _digest(body: dict[str, Any], seed: int) -> str:
    return hashlib.sha256(json.dumps([body, seed], sort_keys=True).encode()).hexdigest()


def _call_at_eof(loop: asyncio.AbstractEventLoop, end: Any) -> None:
    """The parent holds the other end of our input; however it dies, the kernel closes it."""

    def wait() -> None:
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(end)

    threading.Thread(target=wait, daemon=True).start()
