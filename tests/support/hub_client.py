"""Clients of a Hub double: a worker process, and requests that no client library makes."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

DATASET = "alice/tasks"


class HubWorker:
    """A process that runs commands, dataset pushes and loads with a Hub double as its Hub.

    `start_*` returns at once and `result` waits, so that a test can act in between.
    """

    def __init__(self, hub, home: Path) -> None:
        self.home, self.token = home, "hf_alice"
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("hub_worker.py")],
            env=hub.environment(home), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def as_user(self, user: str) -> HubWorker:
        """Return this worker with the token of a user; "" for no token."""
        worker = copy.copy(self)
        worker.token = user and f"hf_{user}"
        return worker

    def start_run(self, *words: Any, attempts: int = 6, cwd: Path | None = None) -> None:
        self._send("run", [list(map(str, words)), cwd and str(cwd)], attempts)

    def run(self, *words: Any, attempts: int = 6, cwd: Path | None = None) -> list[Any]:
        """Run a command, and return its exit code, output and error output."""
        self.start_run(*words, attempts=attempts, cwd=cwd)
        return self.result()

    def succeed(self, *words: Any) -> str:
        """Run a command that must succeed, and return its output."""
        code, output, error = self.run(*words)
        assert code == 0, error
        return output

    def refuse(self, *words: Any) -> str:
        """Run a command that must be refused, and return its error output."""
        code, _, error = self.run(*words)
        assert code == 2, error
        return error

    def start_push(self, folder: Path, repo: str = DATASET, *, attempts: int = 6, **terms) -> None:
        mode = terms.pop("mode", "push")
        self._send("push", [str(folder), repo, mode, terms], attempts)

    def push(self, folder: Path, repo: str = DATASET, **options: Any) -> dict:
        """Push a dataset folder; see `hub_worker.push`.

        Args:
            options: `mode` ("preview" or "preupload"), `attempts`, and keys of `ReleaseTerms`.
        """
        self.start_push(folder, repo, **options)
        return self.result()

    def load_dataset(self, repo: str, revision: str | None = None) -> dict:
        """Load a dataset of the Hub; see `hub_worker.load_dataset`."""
        self._send("load_dataset", [repo, revision])
        return self.result()

    def run_model(self, name: str, revision: str | None = None, *, adapter: bool = False) -> list:
        """Return prompt ids, logits and response of a model; see `hub_worker.run_model`."""
        self._send("run_model", [name, revision, adapter])
        return self.result()

    def result(self) -> Any:
        return json.loads(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def _send(self, function: str, arguments: list[Any], attempts: int = 6) -> None:
        self.process.stdin.write(json.dumps([function, arguments, attempts, self.token]) + "\n")
        self.process.stdin.flush()


class Request:
    """A request for the methods of the double."""

    def __init__(self, user: str, body) -> None:
        self.user, self._body = user, body

    def json(self):
        return self._body


def create_repo(hub, repo: str, kind: str = "dataset") -> None:
    """Create a repository as its namespace's user does in the browser."""
    namespace, name = repo.split("/")
    body = {"name": name, "type": kind}
    if namespace not in hub.users.values():
        body["organization"] = namespace
    hub.do_create(Request(namespace, body))
