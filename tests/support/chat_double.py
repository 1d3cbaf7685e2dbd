"""Chat servers on loopback that answer as a test says: over HTTP, or byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterator

from werkzeug import Response

from code_alpaca.core.ledger import Ledger
from code_alpaca.teacher.client import Teacher
from code_alpaca.teacher.offline.replies import count_tokens, write_chat_reply
from code_alpaca.teacher.offline.server import TeacherConfig
from code_alpaca.teacher.request_body import SamplingParams, build_request_body
from code_alpaca.teacher.scheduling import ConnectionSettings


def words(run_dir, url, *more, rows=12):
    return [
        "generate", "--run_dir", str(run_dir), "--teacher_base_url", url, "--verify", "false",
        "--num_examples", str(rows), "--lookahead", "8", "--max_concurrency", "4", *more,
    ]  # fmt: skip


def reply_to(body: dict) -> dict:
    """What the embedded teacher would say."""
    prompt = body["messages"][0]["content"]
    text, cut = write_chat_reply(body, prompt, TeacherConfig())
    usage = {"prompt_tokens": count_tokens(prompt), "completion_tokens": count_tokens(text)}
    choice = {"message": {"content": text}, "finish_reason": "length" if cut else "stop"}
    return {"choices": [choice], "usage": usage}


def ask(run_dir, url, prompts=range(12), budget=None) -> list[dict | Exception]:
    """What the client brings for each of these prompts, asked at once: a reply or an error."""

    async def every(ledger):
        teacher = Teacher([url], ConnectionSettings("chat", 4, 10), ledger=ledger, budget=budget)
        await teacher.start()
        asked = [teacher.complete(number, question(number), {}, []) for number in prompts]
        results = await asyncio.gather(*asked, return_exceptions=True)
        await teacher.close()
        return [item if isinstance(item, Exception) else item[1] for item in results]

    run_dir.mkdir(exist_ok=True)
    with Ledger(run_dir / "ledger.sqlite") as ledger:
        return asyncio.run(every(ledger))


def question(number: int) -> dict:
    sampling = SamplingParams("model", 1.0, 1.0, 1500)
    return build_request_body("chat", f"Write {number} tasks.", sampling, {"type": "object"})


def number_of(body: dict) -> int:
    """Which of the prompts of `ask` a body holds."""
    return int(body["messages"][0]["content"].split()[1])


def good(body: dict) -> Response:
    return Response(json.dumps(reply_to(body)), mimetype="application/json")


def refuse(status: int, message: str, code: str | int | None = None, **headers: str) -> Response:
    body = {"error": {"message": message, "code": code, "type": "x", "param": None}}
    return Response(json.dumps(body), status, headers, mimetype="application/json")


class Script:
    """A chat server that answers as a function says, and remembers what it was asked."""

    def __init__(self, httpserver, answer) -> None:
        self.bodies: list[dict] = []
        self.times: list[float] = []
        self.lock = threading.Lock()
        self.url = httpserver.url_for("/v1")

        def handle(request):
            body = request.get_json()
            with self.lock:
                self.bodies.append(body)
                self.times.append(time.monotonic())
                number = len(self.bodies) - 1
            return answer(body, number) or good(body)

        httpserver.expect_request("/v1/chat/completions").respond_with_handler(handle)


@contextlib.contextmanager
def raw_server(answer: Callable[[dict, int], bytes | None]) -> Iterator[str]:
    """The URL of a server that sends the bytes that `answer` returns, or a good reply for None."""
    count = iter(range(10**6))

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            length = 0
            while (line := self.rfile.readline().strip().lower()) != b"":
                if line.startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            body = json.loads(self.rfile.read(length))
            with contextlib.suppress(OSError):  # a client that has read enough hangs up
                self.wfile.write(answer(body, next(count)) or http(json.dumps(reply_to(body))))

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()


def http(content: str | bytes, *headers: str) -> bytes:
    """A response as bytes, with the connection closed after it."""
    content = content.encode() if isinstance(content, str) else content
    head = ["HTTP/1.1 200 OK", "content-type: application/json", "connection: close"]
    head += [f"content-length: {len(content)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + content


def ledger_of(run_dir):
    return Ledger(run_dir / "ledger.sqlite", write=False)
