"""One model server as a child process: its log, whether it is ready, and how it ended."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2

from code_alpaca.teacher.serving import supervisor

HOST = "127.0.0.1"
HEALTH_TIMEOUT_S = 5.0
END_TIMEOUT_S = supervisor.GRACE_S + 5.0
MAX_TAIL_BYTES = 16_384
# API keys, which a server on 127.0.0.1 needs neither to ask for nor to know, and the packages of
# this environment.
HIDDEN_VARIABLES = ("OPENAI_API_KEY", "VLLM_API_KEY", "LLAMA_API_KEY", "PYTHONPATH", "PYTHONHOME")


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start one server: its command line, port, log, working directory and GPUs."""

    command: Sequence[str]
    port: int
    log: Path
    folder: Path | None = None
    gpus: Sequence[str] = ()

    def build_environment(self) -> dict[str, str]:
        """Return the variables of the server's environment.

        The folder of its program is on PATH, as in an activated environment: vLLM and SGLang
        compile kernels with the `ninja` next to them.
        """
        kept = {name: value for name, value in os.environ.items() if name not in HIDDEN_VARIABLES}
        path = os.pathsep.join([os.path.dirname(self.command[0]), kept.get("PATH", os.defpath)])
        gpus = {"CUDA_VISIBLE_DEVICES": ",".join(self.gpus)} if self.gpus else {}
        return {**kept, "PATH": path, "PYTHONUNBUFFERED": "1", **gpus}


class ServerProcess:
    """A running server. It ends when `stop` is called or this process ends, even by SIGKILL."""

    def __init__(self, launch: Launch) -> None:
        self.log = launch.log
        self.base_url = f"http://{HOST}:{launch.port}/v1"
        self._health_url = f"http://{HOST}:{launch.port}/health"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            log.write(f"$ {shlex.join(launch.command)}\n".encode())
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-I", supervisor.__file__, *launch.command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=launch.folder,
                env=launch.build_environment(),
                start_new_session=True,  # Ctrl-C does not reach it: replies in flight still arrive
            )

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def is_ready(self) -> bool:
        """Return whether the server has loaded the model and accepts requests."""
        with contextlib.suppress(httpx2.HTTPError), httpx2.Client(trust_env=False) as client:
            response = client.get(self._health_url, timeout=HEALTH_TIMEOUT_S)
            return response.status_code == httpx2.codes.OK
        return False

    def read_tail(self, num_lines: int) -> list[str]:
        """Return the last lines of the log since this start."""
        with self.log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - MAX_TAIL_BYTES))
            text = log.read().decode("utf-8", "replace").replace("\r", "\n")
        return [line.rstrip() for line in text.splitlines() if line.strip()][-num_lines:]

    def describe_end(self) -> str:
        """Return how the server ended."""
        code = self._process.wait()
        number = code - supervisor.SIGNAL_EXIT_CODE
        if number == signal.SIGKILL:
            return "was killed (SIGKILL, most likely because memory ran out)"
        if number in set(signal.Signals):
            return f"was ended by {signal.Signals(number).name}"
        return f"ended with exit code {code}"

    def request_stop(self) -> None:
        """Ask the server to end; `wait_for_end` waits until it has."""
        assert self._process.stdin  # a pipe
        self._process.stdin.close()

    def wait_for_end(self) -> None:
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:  # a process that SIGKILL does not end (a GPU driver)
            self._process.kill()
            self._process.wait()
