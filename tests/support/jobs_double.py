"""Hugging Face Jobs on loopback: the requests of `hf jobs uv run`, answered as the Hub does.

The script and every file among its arguments travel through a bucket in Xet storage, which the job
sees in /data; the job itself is one request. Routes of `huggingface_hub` 2.4 and `hf_xet` 1.8.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

OWNER = {"id": "1", "name": "alice", "type": "user"}


class JobsDouble:
    """A server that runs until it is closed.

    Attributes:
        jobs: what was submitted, oldest first.
        shipped: the paths of the files that the job finds in its bucket.
    """

    def __init__(self, root: Path, prefix: str) -> None:
        """Serve the files under `root` at `prefix`, as the host of a repository does."""
        self.jobs: list[dict[str, Any]] = []
        self.shipped: list[str] = []
        self.root, self.prefix = root, prefix
        double = self

        class Handler(_Handler):
            jobs = double

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> JobsDouble:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, body: bytes) -> bytes:
        """Return the response to a request.

        Raises:
            FileNotFoundError: there is no such route or file.
        """
        if path == "/api/whoami-v2":
            return json.dumps({"type": "user", "name": OWNER["name"], "orgs": []}).encode()
        if path.endswith("/xet-write-token"):
            token = {"accessToken": "xet", "exp": 2**40, "casUrl": f"{self.url}/xet"}
            return json.dumps(token).encode()
        if path.startswith("/xet/") and method == "POST":
            return b'{"type": "result", "result": 1, "was_inserted": true}\n'
        if path.endswith("/batch"):
            self.shipped += [json.loads(line)["path"] for line in body.splitlines()]
            return b'{"success": true}'
        if path.startswith("/api/buckets/"):
            name = path.removeprefix("/api/buckets/")
            return json.dumps({"url": f"{self.url}/buckets/{name}", "id": name}).encode()
        if path.startswith("/api/jobs/"):
            self.jobs.append(json.loads(body))
            return json.dumps({"id": "1", "owner": OWNER, "status": {"stage": "RUNNING"}}).encode()
        return (self.root / path.removeprefix(self.prefix)).read_bytes()


class _Handler(BaseHTTPRequestHandler):
    jobs: JobsDouble
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            status, content = 200, self.jobs.answer(self.command, self.path, body)
        except OSError:
            status, content = 404, b"{}"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass
