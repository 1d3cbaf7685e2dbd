"""What talks to a Hub double: a process of its own, and a request that no client made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


class Client:
    """A process that answers every line of JSON with one, its Hub being a double.

    Args:
        user: whose token it has; "" for none.
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
    """A request for the methods of the double."""

    def __init__(self, user: str, body) -> None:
        self.user, self._body = user, body

    def json(self):
        return self._body
