"""Clients of the Hub double: a child process, and a request without a client."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


class Client:
    """A child process that uses a Hub double and replies to each JSON line with one.

    Args:
        user: the owner of its token; "" for no token.
    """

    def __init__(self, script: Path, hub, home: Path, user: str = "alice") -> None:
        self.process = subprocess.Popen(
            [sys.executable, script], env=hub.environment(home, user), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def begin(self, *message) -> None:
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def end(self):
        return json.loads(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Request:
    """A request to call the methods of the double with."""

    def __init__(self, user: str, body) -> None:
        self.user, self._body = user, body

    def json(self):
        return self._body
