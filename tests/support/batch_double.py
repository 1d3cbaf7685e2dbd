"""A double of the Batch API on loopback, answering with the embedded teacher's grammar.

It keeps files and batches, counts what it would bill, and misbehaves as told: lines that are
missing, lines that are errors, and batches that expire half-way. A batch ends at the second look.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from code_alpaca.teacher.offline.replies import count_tokens, write_chat_reply
from code_alpaca.teacher.offline.server import TeacherConfig

Fault = Callable[[int, int, str], str]  # (batch, line, custom_id) -> "", "missing", "error", ...


class BatchDouble:
    """`fault` says what becomes of a line: "" answers it, "missing" forgets it, "error" and
    "policy" put it into the error file, "expired" leaves it to the batch's end, "odd string",
    "odd list" and "odd body" answer with something that is no answer.

    So many looks at a batch are answered 502 as `hiccups` says, and of its files' lines the text
    holds U+2028, which is no line break in JSON."""

    def __init__(self, fault: Fault = lambda batch, line, key: "") -> None:
        self.fault = fault
        self.files: dict[str, str] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.looks: dict[str, int] = {}
        self.hiccups = 0
        self.answered: list[str] = []  # custom ids, once for every billed answer
        self.prompt_tokens = self.completion_tokens = 0
        double = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                double.get(self)

            def do_POST(self) -> None:
                double.post(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def __enter__(self) -> BatchDouble:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    # -- routes ----------------------------------------------------------------------------

    def post(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        if request.path == "/v1/files":
            text = re.search(rb'name="file".*?\r\n\r\n(.*?)\r\n--', body, re.DOTALL)
            assert text, "a multipart upload with a file"
            _send(request, {**self._file(text[1].decode()), "purpose": "batch"})
        elif request.path == "/v1/batches":
            asked = json.loads(body)
            assert asked["endpoint"] == "/v1/chat/completions"
            number = f"batch_{len(self.batches)}"
            lines = self.files[asked["input_file_id"]].splitlines()
            self.batches[number] = {
                "id": number,
                "object": "batch",
                "endpoint": asked["endpoint"],
                "completion_window": asked["completion_window"],
                "created_at": 0,
                "status": "in_progress",
                "input_file_id": asked["input_file_id"],
                "metadata": asked.get("metadata"),
                "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
            }
            self.looks[number] = 0
            _send(request, self.batches[number])
        else:
            _send(request, {"error": {"message": request.path}}, 404)

    def get(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.split("?")[0]
        if match := re.fullmatch(r"/v1/files/(\w+)/content", path):
            _send(request, self.files[match[1]])
        elif path == "/v1/batches":
            data = list(self.batches.values())
            _send(request, {"object": "list", "data": data, "has_more": False})
        elif self.hiccups and path.startswith("/v1/batches/"):
            self.hiccups -= 1
            _send(request, {"error": {"message": "a moment"}}, 502)
        elif match := re.fullmatch(r"/v1/batches/(\w+)", path):
            self.looks[match[1]] += 1
            if self.looks[match[1]] == 2:
                self._finish(match[1])
            _send(request, self.batches[match[1]])
        else:
            _send(request, {"error": {"message": path}}, 404)

    # -- work ------------------------------------------------------------------------------

    def _finish(self, name: str) -> None:
        batch = self.batches[name]
        number = int(name.removeprefix("batch_"))
        good, bad = [], []
        expired = False
        for place, line in enumerate(self.files[batch["input_file_id"]].splitlines()):
            record = json.loads(line)
            key, body = record["custom_id"], record["body"]
            fault = self.fault(number, place, key)
            expired |= fault == "expired"
            if fault == "":
                good.append({"custom_id": key, "response": self._answer(key, body), "error": None})
            elif fault == "expired":
                error = {"code": "batch_expired", "message": "This request could not be executed."}
                bad.append({"custom_id": key, "response": None, "error": error})
            elif fault.startswith("odd"):
                odd = {"odd string": "oops", "odd list": [1], "odd body": {"body": "<html>"}}
                bad.append({"custom_id": key, "response": odd[fault], "error": None})
            elif fault != "missing":
                status, code = {"error": (500, None), "policy": (400, "content_filter")}[fault]
                error = {"message": f"told to give {fault}", "code": code}
                response = {"status_code": status, "body": {"error": error}}
                bad.append({"custom_id": key, "response": response, "error": None})
        good.reverse()  # the API promises no order
        batch["status"] = "expired" if expired else "completed"
        batch["output_file_id"] = self._file(_lines(good))["id"] if good else None
        batch["error_file_id"] = self._file(_lines(bad))["id"] if bad else None
        batch["request_counts"] |= {"completed": len(good), "failed": len(bad)}

    def _answer(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        prompt = "\n".join(message["content"] for message in body["messages"])
        text, cut = write_chat_reply(body, prompt, TeacherConfig())
        self.answered.append(key)
        self.prompt_tokens += count_tokens(prompt)
        self.completion_tokens += count_tokens(text)
        usage = {"prompt_tokens": count_tokens(prompt), "completion_tokens": count_tokens(text)}
        message = {"role": "assistant", "content": text, "note": "a\u2028b"}
        choice = {"index": 0, "message": message, "finish_reason": "length" if cut else "stop"}
        reply = {"object": "chat.completion", "choices": [choice], "usage": usage}
        return {"status_code": 200, "request_id": key, "body": reply}

    def _file(self, text: str) -> dict[str, Any]:
        name = f"file_{len(self.files)}"
        self.files[name] = text
        return {
            "id": name,
            "object": "file",
            "bytes": len(text),
            "created_at": 0,
            "filename": name,
            "purpose": "batch_output",
            "status": "processed",
        }


def _lines(records: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _send(request: BaseHTTPRequestHandler, body: Any, status: int = 200) -> None:
    data = (body if isinstance(body, str) else json.dumps(body)).encode()
    request.send_response(status)
    kind = "text/plain" if isinstance(body, str) else "application/json"
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(data)))
    request.end_headers()
    request.wfile.write(data)
