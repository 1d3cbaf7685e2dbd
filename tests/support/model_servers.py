"""Programs that behave like model servers, and what is known about their processes."""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FAKE = Path(__file__).with_name("fake_model_server.py")
END_TIMEOUT_MS = 60_000


@dataclass(frozen=True)
class FakeProcess:
    """A server that was started."""

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    pids: list[int]  # its own, that of its supervisor, and of a worker in a session of its own
    report: str

    @property
    def port(self) -> str:
        return self.arguments[-1]

    @property
    def num_requests(self) -> int:
        """The number of requests that it received."""
        return Path(f"{self.report}.{self.port}").read_text().count("request")


class FakeServers:
    """Fake servers under the names of the real programs.

    Args:
        folder: in which the programs and their report are written.
        monkeypatch: the fixture of pytest, which sets FAKE_SERVER and PATH.
    """

    def __init__(self, folder: Path, monkeypatch: Any) -> None:
        self._report = folder / "report.jsonl"
        self._monkeypatch = monkeypatch
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in ("vllm", "sglang", "llama-server", "transformers"):
            program = self.bin / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE}" "$@"\n')
            program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{self.bin}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        self.behave()

    def behave(self, **options: Any) -> None:
        """Set what servers do that start from now on: see `fake_model_server`."""
        options["report"] = str(self._report)
        self._monkeypatch.setenv("FAKE_SERVER", json.dumps(options))

    @property
    def started(self) -> list[FakeProcess]:
        """The servers that were started so far."""
        lines = self._report.read_text().splitlines() if self._report.exists() else []
        return [FakeProcess(**json.loads(line), report=str(self._report)) for line in lines]


def wait_until_ended(pid: int) -> bool:
    """Return whether a process has ended, after waiting for it."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        ended = bool(poll.poll(END_TIMEOUT_MS))
        os.close(descriptor)
        return ended
    return True


def is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
