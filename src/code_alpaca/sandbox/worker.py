"""One sandbox that stays up: programs go in one after the other, results come out.

Of what untrusted code writes, the parent parses the kind of a line alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from code_alpaca.core.errors import InputError
from code_alpaca.sandbox import backends
from code_alpaca.sandbox.backends import Backend
from code_alpaca.sandbox.inside import lock
from code_alpaca.sandbox.relay import (
    KEPT_OUTPUT,
    START_S,
    Child,
    Relay,
    ResourceLimits,
    RunResult,
    SandboxDied,
    Stream,
    kill,
    of_signal,
)
from code_alpaca.sandbox.scratch import Scratch

MOST_VERDICT = 1 << 16  # bytes of a line that the parent parses


@dataclass(frozen=True, slots=True)
class SolutionTest:
    """Tests of a solution that run in another process than the solution.

    Attributes:
        source: Python source of the tests. Functions of the solution that it uses and does not
            define itself are called in the solution's process.
        entry_point: name of the function that `check(candidate)` gets; "" for none.
        prompt: source whose helpers the tests may use.
        defines_check: whether the source defines `check`, which is then called.
    """

    source: str
    entry_point: str = ""
    prompt: str = ""
    defines_check: bool = True


class Worker:
    """A zygote inside one backend; one program, or one solution with its tests, at a time.

    Raises:
        InputError: the sandbox does not come up here (with its own words).
    """

    def __init__(self, backend: Backend, *, packages: bool = False) -> None:
        self.backend = backend
        self._jobs = 0
        self._process: subprocess.Popen[bytes] | None = None
        try:  # bwrap keeps the files of programs in a file system of its own, in memory
            self._scratch = None if backend == "bwrap" else Scratch()
        except OSError as error:
            raise InputError(f"no temporary folder for the sandbox {backend}: {error}") from None
        self._folder = self._scratch.path if self._scratch else backends.WORK
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        try:
            with theirs:
                self._start(theirs, packages)
            self._wait_until_ready()
        except OSError as error:
            self.close()
            raise InputError(f"the sandbox {backend} does not start: {error}") from None
        except BaseException:
            self.close()
            raise

    def _start(self, theirs: socket.socket, packages: bool) -> None:
        folder_lock = [self._scratch.lock] if self._scratch else []
        self._process = subprocess.Popen(
            backends.command(self.backend, theirs.fileno(), self._folder, packages),
            pass_fds=[theirs.fileno(), *folder_lock],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
            env=backends.environment(),
            start_new_session=True,  # a signal that ends us leaves it, and it cleans up
        )

    def _wait_until_ready(self) -> None:
        self._control.settimeout(START_S)
        try:
            ready = self._control.recv(1000)
        except OSError:
            ready = b""
        if not ready:
            self._said.seek(0)
            words = self._said.read(2000).decode("utf-8", "replace").strip().splitlines()
            raise InputError(
                f"the sandbox {self.backend} does not start: {words[-1] if words else 'no word'}"
            )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the zygote and all in it; remove its folder."""
        self._control.close()  # at which the zygote ends by itself
        try:
            if self._process:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(2)
        finally:
            if self._process and self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._said.close()
            if self._scratch:
                self._scratch.close()
                self._scratch = None

    # -- what can be run -------------------------------------------------------------------

    def run_program(
        self, source: str, limits: ResourceLimits, *, module: str = "__main__"
    ) -> RunResult:
        """Run Python source text as a main program; passed if it came to its end.

        Its own process reports that end, and can forge it (see `harness.program`): for a verdict
        that cannot be forged, use `test`.

        Args:
            module: the name that the source sees as its own (`__name__`).
        """
        file = "program" if module == "__main__" else module
        child = self._launch("program", limits, {"source": source, "module": module, "file": file})
        word = secrets.token_hex(16)
        last = [b""]  # line of the channel: the program may have sent any number before

        def reply(_: Child, line: bytes) -> None:
            if line.startswith(b'{"ended"') and not child.outbox:
                child.outbox += json.dumps({"word": word}).encode() + b"\n"
            last[0] = line

        run = Relay(self._control, [child], limits, reply)
        run.go()
        verdict = _parsed(last[0])
        if verdict.get("word") != word or (child.ended or {}).get("status"):
            verdict = {}
        return run.result(child, _known(verdict.get("verdict")))

    def run_command(
        self, argv: Sequence[str], limits: ResourceLimits, files: dict[str, str] | None = None
    ) -> RunResult:
        """Run a command in a folder that holds `files`; passed if it exits with 0.

        Raises:
            ValueError: files are given, but no folder to hold them; or processes that nothing
                holds here.
        """
        if limits.max_processes and (self.backend != "bwrap" or os.geteuid() == 0):
            raise ValueError("programs that start others are held by bwrap alone, and not as root")
        if files and not limits.folder_bytes:
            raise ValueError("files need a folder: set folder_bytes")
        name = self._folder_name("exec")
        order = {"argv": list(argv), "env": backends.environment()}
        if limits.folder_bytes:
            path = os.path.join(self._folder, name)
            order["env"] = backends.environment() | {"HOME": path, "TMPDIR": path}
        child = self._launch("exec", limits, order, files or {}, name=name)
        run = Relay(self._control, [child], limits, lambda child, line: None)
        run.go()
        code = (child.ended or {}).get("status", 1)
        return run.result(child, "passed" if code == 0 else None)

    def test_solution(self, solution: str, test: SolutionTest, limits: ResourceLimits) -> RunResult:
        """Test a solution by its values: it runs in one process and the tests in another.

        Returns:
            the status; `unsupported_value` if a value could not be sent between the two.
        """
        ends = socket.socketpair()
        try:
            tested = self._launch("solution", limits, {"source": solution}, peer=ends[0])
            order = {
                "prompt": test.prompt,
                "test": test.source,
                "entry_point": test.entry_point,
                "check": test.defines_check,
            }
            tests = self._launch("tests", limits, order, peer=ends[1])
        finally:
            for end in ends:
                end.close()
        verdict: dict[str, Any] = {}

        def judge(child: Child, line: bytes) -> None:
            if child is tests:
                verdict.update(_parsed(line))
                kill(self._control, tested)

        def at_end(child: Child) -> None:
            if child is tests:  # the solution would wait for calls for ever
                kill(self._control, tested)

        run = Relay(self._control, [tested, tests], limits, judge, at_end)
        run.go()
        said = verdict.get("verdict")
        status = said if said == "unsupported_value" else _known(said)
        if status == "passed" and tests.ended and tests.ended["status"] != 0:
            status = "failed"
        if status == "exited":  # by itself, or by a limit?
            status = of_signal(tested) or status
        result = run.result(tested, status or of_signal(tests) or "failed")
        detail = str(verdict.get("detail", ""))
        if not detail:
            return result
        stderr = (result.stderr + "\n" + detail).strip()[-KEPT_OUTPUT:]
        return RunResult(
            result.status, result.stdout, stderr, result.duration, result.peak_memory_mb
        )

    # -- orders to the zygote --------------------------------------------------------------

    def _launch(
        self,
        kind: str,
        limits: ResourceLimits,
        first: dict[str, Any],
        files: dict[str, str] | None = None,
        peer: socket.socket | None = None,
        name: str = "",
    ) -> Child:
        self._jobs += 1
        order = {
            "job": self._jobs,
            "kind": kind,
            "name": name or self._folder_name(kind),
            "files": files or {},
            "processes": limits.max_processes,
            "cpu_s": limits.wall_s,
            "memory": limits.memory_mb << 20,
            "file_size": limits.folder_bytes,
            "folder": limits.folder_bytes,
            "open_files": limits.max_open_files,
        }
        mine, theirs = socket.socketpair()
        out, out_theirs = os.pipe()
        err, err_theirs = os.pipe()
        try:
            fds = [theirs.fileno(), out_theirs, err_theirs]
            fds += [] if peer is None else [peer.fileno()]
            socket.send_fds(self._control, [json.dumps(order).encode()], fds)
        except OSError as error:
            mine.close()
            os.close(out)
            os.close(err)
            raise SandboxDied(str(error)) from None
        finally:
            theirs.close()
            os.close(out_theirs)
            os.close(err_theirs)
        for fd in (out, err):
            os.set_blocking(fd, False)
        mine.setblocking(False)
        child = Child(self._jobs, mine, Stream(out), Stream(err))
        child.outbox += json.dumps(first).encode() + b"\n"
        return child

    def _folder_name(self, kind: str) -> str:
        """Of a child's folder: not to be guessed where only that keeps other children out."""
        return kind if lock.landlock_version() else f"{kind}-{secrets.token_hex(16)}"


def _parsed(line: bytes) -> dict[str, Any]:
    """A line of a child, as far as it is one; untrusted code may have written it."""
    if len(line) > MOST_VERDICT:
        return {}
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _known(status: Any) -> str | None:
    return status if status in ("passed", "failed", "exited", "out_of_memory") else None
