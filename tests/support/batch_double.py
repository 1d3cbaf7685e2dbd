"""A double of the Batch API that answers with the embedded teacher's tasks.

It stores files and batches, counts what it would bill, and simulates faults. A batch ends at its
second poll. It serves requests without a network (as an httpx2 transport), or on loopback.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import httpx2
from werkzeug import Request, Response

from support.simulated_teacher import build_reply

Fault = Callable[[int, int, str], str]  # (batch, line, custom_id) -> fault, or "" for none
ERRORS = {"error": (500, None), "policy": (400, "content_filter")}
ODD_RESPONSES = {"odd string": "oops", "odd list": [1], "odd body": {"body": "<html>"}}


class BatchDouble(httpx2.AsyncBaseTransport):
    """A Batch API in memory.

    Args:
        fault: returns the fault of a line: "missing" (no result), "error" and "policy" (a result in
            the error file), "expired" (the batch expires before it), "odd string", "odd list" and
            "odd body" (an invalid result), or "" for a reply.
    """

    def __init__(self, fault: Fault = lambda batch, line, key: "") -> None:
        self.fault = fault
        self.files: dict[str, str] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.num_polls: dict[str, int] = {}
        self.failing_polls = 0  # number of polls that fail with status 502
        self.kill_at: str | None = None  # raises `Killed` after the first request to this path
        self.answered: list[str] = []  # custom ids, one per billed reply
        self.prompt_tokens = self.completion_tokens = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        status, content = self.handle(request.method, request.url.path, await request.aread())
        if self.kill_at and re.fullmatch(self.kill_at, f"{request.method} {request.url.path}"):
            raise Killed
        if isinstance(content, str):
            return httpx2.Response(status, text=content)
        return httpx2.Response(status, json=content)

    def serve(self, httpserver: Any) -> str:
        """Serve on loopback with the fixture of pytest-httpserver; return the base URL."""

        def respond(request: Request) -> Response:
            status, content = self.handle(request.method, request.path, request.get_data())
            text = content if isinstance(content, str) else json.dumps(content)
            kind = "text/plain" if isinstance(content, str) else "application/json"
            return Response(text, status, mimetype=kind)

        httpserver.clear()
        httpserver.expect_request(re.compile(".*")).respond_with_handler(respond)
        return httpserver.url_for("/v1")

    def handle(self, method: str, path: str, content: bytes) -> tuple[int, Any]:
        """Return the status and the text or JSON of a response."""
        if method == "POST" and path == "/v1/files":
            text = re.search(rb'name="file".*?\r\n\r\n(.*?)\r\n--', content, re.DOTALL)
            assert text, "a multipart upload with a file"
            return 200, self._add_file(text[1].decode())
        if method == "POST" and path == "/v1/batches":
            return 200, self._create_batch(json.loads(content))
        if match := re.fullmatch(r"/v1/files/(\w+)/content", path):
            return 200, self.files[match[1]]
        if path == "/v1/batches":
            return 200, {"object": "list", "data": list(self.batches.values()), "has_more": False}
        if match := re.fullmatch(r"/v1/batches/(\w+)", path):
            return self._poll(match[1])
        return 404, {"error": {"message": path}}

    def _create_batch(self, request: dict[str, Any]) -> dict[str, Any]:
        assert request["endpoint"] == "/v1/chat/completions"
        name = f"batch_{len(self.batches)}"
        lines = self.files[request["input_file_id"]].splitlines()
        counts = {"total": len(lines), "completed": 0, "failed": 0}
        state = {"id": name, "object": "batch", "status": "in_progress", "request_counts": counts}
        self.batches[name] = {**request, **state}
        self.num_polls[name] = 0
        return self.batches[name]

    def _poll(self, name: str) -> tuple[int, Any]:
        if self.failing_polls:
            self.failing_polls -= 1
            return 502, {"error": {"message": "a moment"}}
        self.num_polls[name] += 1
        if self.num_polls[name] == 2:
            self._finish(name)
        return 200, self.batches[name]

    def _finish(self, name: str) -> None:
        batch = self.batches[name]
        number = int(name.removeprefix("batch_"))
        output, errors, expired = [], [], False
        for position, line in enumerate(self.files[batch["input_file_id"]].splitlines()):
            request = json.loads(line)
            key, body = request["custom_id"], request["body"]
            fault = self.fault(number, position, key)
            expired |= fault == "expired"
            result = {"custom_id": key, "response": None, "error": None}
            if fault == "":
                output.append({**result, "response": self._answer(key, body)})
            elif fault == "expired":
                error = {"code": "batch_expired", "message": "This request could not be executed."}
                errors.append({**result, "error": error})
            elif fault in ODD_RESPONSES:
                errors.append({**result, "response": ODD_RESPONSES[fault]})
            elif fault in ERRORS:
                status, code = ERRORS[fault]
                error = {"message": f"simulated {fault}", "code": code}
                response = {"status_code": status, "body": {"error": error}}
                errors.append({**result, "response": response})
        output.reverse()  # the API guarantees no order
        batch["status"] = "expired" if expired else "completed"
        batch["output_file_id"] = self._add_file(_to_lines(output))["id"] if output else None
        batch["error_file_id"] = self._add_file(_to_lines(errors))["id"] if errors else None
        batch["request_counts"] |= {"completed": len(output), "failed": len(errors)}

    def _answer(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        reply = build_reply(body)
        self.answered.append(key)
        self.prompt_tokens += reply["usage"]["prompt_tokens"]
        self.completion_tokens += reply["usage"]["completion_tokens"]
        # U+2028 is a line break for str.splitlines, and not in JSONL.
        reply["choices"][0]["message"]["note"] = "a\u2028b"
        return {"status_code": 200, "request_id": key, "body": reply}

    def _add_file(self, text: str) -> dict[str, Any]:
        name = f"file_{len(self.files)}"
        self.files[name] = text
        return {"id": name, "object": "file", "bytes": len(text), "filename": name}


class Killed(SystemExit):
    """End the event loop at once, as a kill does: nothing after it is recorded."""


def _to_lines(records: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
