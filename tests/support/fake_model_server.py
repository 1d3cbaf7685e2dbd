"""A program that behaves like a model server: it takes any arguments, loads, and replies.

The environment variable FAKE_SERVER is a JSON object with what it does: `loads_s` (seconds),
`fails` (a message with which it ends while it loads), `dies_at` (the number of the request at which
it is killed), `ignores_sigterm`, and `report` (a file to which it appends a line of JSON about its
process: see `FakeProcess` in `support.model_servers`).
"""

import json
import math
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

options = json.loads(os.environ["FAKE_SERVER"])
received = []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.respond(200 if time.monotonic() >= ready_at else 503, {"status": "ok"})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        received.append(body)
        if "report" in options:
            with open(f"{options['report']}.{port}", "a") as file:
                file.write("request\n")
        if len(received) >= options.get("dies_at", math.inf):  # several may arrive at once
            os.kill(os.getpid(), signal.SIGKILL)
        self.respond(200, write_reply(body))

    def respond(self, status, value):
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def write_reply(body):
    """Return the reply of the embedded teacher, or for plain text a line of code."""
    if "messages" not in body:
        choice = {"index": 0, "text": "    return 1\n", "finish_reason": "stop"}
        return {"id": "1", "object": "text_completion", "choices": [choice]}
    from code_alpaca.teacher.offline.replies import write_chat_reply
    from code_alpaca.teacher.offline.server import TeacherConfig

    text, _ = write_chat_reply(body, body["messages"][0]["content"], TeacherConfig())
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 100, "completion_tokens": 100, "total_tokens": 200}
    return {"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage}


if options.get("ignores_sigterm"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
worker = subprocess.Popen(["sleep", "600"], start_new_session=True)  # as vLLM starts its engine
if "report" in options:
    about = {"arguments": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd(),
             "pids": [os.getpid(), os.getppid(), worker.pid]}  # fmt: skip
    with open(options["report"], "a") as file:
        file.write(json.dumps(about) + "\n")
print("loading weights", flush=True)
if "fails" in options:
    sys.exit(options["fails"])
ready_at = time.monotonic() + options.get("loads_s", 0)
port = int(sys.argv[-1])  # after --port
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
