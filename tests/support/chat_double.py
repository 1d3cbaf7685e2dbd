"""Chat servers on loopback whose responses a test chooses: over HTTP, or byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socketserver
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from werkzeug import Response

from code_alpaca.core.ledger import Ledger
from code_alpaca.teacher.client import Teacher
from support.simulated_teacher import SETTINGS, build_reply, complete_all


def generate_args(run_dir: Path, url: str, *more: str, rows: int = 12) -> list[str]:
    """Return a `generate` command line with small limits."""
    return [
        "generate", "--run_dir", str(run_dir), "--teacher_base_url", url, "--verify", "false",
        "--num_examples", str(rows), "--lookahead", "8", "--max_concurrency", "4", *more,
    ]  # fmt: skip


def open_ledger(run_dir: Path) -> Ledger:
    return Ledger(run_dir / "ledger.sqlite", write=False)


class ChatServer:
    """A chat server whose responses come from a function of the body and its index.

    Args:
        httpserver: the fixture of pytest-httpserver.
        respond: returns a response, or None for the embedded teacher's reply.
    """

    def __init__(self, httpserver: Any, respond: Callable[[dict, int], Response | None]) -> None:
        self.bodies: list[dict] = []
        self.url = httpserver.url_for("/v1")
        lock = threading.Lock()

        def handle(request: Any) -> Response:
            body = request.get_json()
            with lock:
                self.bodies.append(body)
                index = len(self.bodies) - 1
            return respond(body, index) or Response(json.dumps(build_reply(body)))

        httpserver.expect_request("/v1/chat/completions").respond_with_handler(handle)


def http_error(status: int, message: str, code: str | None = None) -> Response:
    body = {"error": {"message": message, "code": code, "type": "x", "param": None}}
    return Response(json.dumps(body), status, mimetype="application/json")


def complete_over_http(
    run_dir: Path, url: str, prompts: Sequence[int] = range(12)
) -> list[dict | Exception]:
    """Request replies to these numbered prompts over a real connection."""

    async def run(ledger: Ledger) -> list[dict | Exception]:
        teacher = Teacher([url], SETTINGS, ledger=ledger, budget=None)
        results = await complete_all(teacher, prompts)
        await teacher.close()
        return results

    with Ledger(run_dir / "ledger.sqlite") as ledger:
        return asyncio.run(run(ledger))


@contextlib.contextmanager
def raw_server(respond: Callable[[dict, int], bytes | None]) -> Iterator[str]:
    """Yield the URL of a server that sends the bytes of `respond`, or a valid reply for None."""
    count = iter(range(10**6))

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            length = 0
            is_get = self.rfile.readline().startswith(b"GET ")  # the list of models
            while (line := self.rfile.readline().strip().lower()) != b"":
                if line.startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            if is_get:
                self.wfile.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
                return
            body = json.loads(self.rfile.read(length))
            with contextlib.suppress(OSError):  # the client may close the connection early
                response = respond(body, next(count)) or http_bytes(json.dumps(build_reply(body)))
                self.wfile.write(response)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()


def http_bytes(content: str | bytes, *headers: str) -> bytes:
    """Return an HTTP response as bytes; the connection is closed after it."""
    content = content.encode() if isinstance(content, str) else content
    head = ["HTTP/1.1 200 OK", "content-type: application/json", "connection: close"]
    head += [f"content-length: {len(content)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + content
