"""Run programs, commands and tests in one sandbox that stays up between them.

Of what untrusted code writes, this side parses only the verdict, a line of bounded size.
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
from dataclasses import dataclass, replace
from typing import Any

from code_alpaca.core.errors import InputError
from code_alpaca.sandbox import backends
from code_alpaca.sandbox.backends import Backend
from code_alpaca.sandbox.inside import control_protocol, landlock_rules
from code_alpaca.sandbox.inside.control_protocol import ChildRequest
from code_alpaca.sandbox.supervisor import (
    KEPT_OUTPUT,
    OutputStream,
    ResourceLimits,
    RunResult,
    SandboxDied,
    SupervisedChild,
    Supervisor,
    classify_end,
    kill,
)
from code_alpaca.sandbox.temp_folder import LockedTempFolder

START_TIMEOUT_S = 20.0
MAX_VERDICT_BYTES = 1 << 16
UNSUPPORTED_VALUE = "unsupported_value"
VERDICTS = ("passed", "failed", "exited", "out_of_memory")


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
    """A fork server in one backend; it runs one program, or one solution with tests, at a time.

    Args:
        packages: let programs import the packages that are installed beside this library.

    Raises:
        InputError: the sandbox does not start on this machine, with its own error message.
    """

    def __init__(self, backend: Backend, *, packages: bool = False) -> None:
        self.backend = backend
        self._num_jobs = 0
        self._process: subprocess.Popen[bytes] | None = None
        has_own_files = backends.BACKENDS[backend].private_namespaces
        try:
            self._temp_folder = None if has_own_files else LockedTempFolder()
        except OSError as error:
            raise InputError(f"no temporary folder for the sandbox {backend}: {error}") from None
        self._work_folder = (
            self._temp_folder.path if self._temp_folder else backends.BWRAP_WORK_FOLDER
        )
        self._control, server_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        try:
            with server_end:
                self._start(server_end, packages)
            self._wait_until_ready()
        except OSError as error:
            self.close()
            raise InputError(f"the sandbox {backend} does not start: {error}") from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the fork server and its children, and remove their files."""
        self._control.close()  # at which the fork server ends by itself
        try:
            if self._process:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(2)
        finally:
            if self._process and self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._log.close()
            if self._temp_folder:
                self._temp_folder.close()
                self._temp_folder = None

    # -- what can be run -------------------------------------------------------------------

    def run_program(
        self, source: str, limits: ResourceLimits, *, module: str = "__main__"
    ) -> RunResult:
        """Run Python source text as a main program; it passes if it runs to its end.

        Its own process reports that end and can forge the report (see `harness.run_program`). For
        a verdict that cannot be forged, use `test_solution`.

        Args:
            module: the program's `__name__`.
        """
        file = "program" if module == "__main__" else module
        message = {"source": source, "module": module, "file": file}
        child = self._launch(self._make_request(control_protocol.PROGRAM, limits), message)
        nonce = secrets.token_hex(16)
        last_line = [b""]  # of the channel, over which the program may have sent any number

        def on_line(_: SupervisedChild, line: bytes) -> None:
            if line.startswith(b'{"ended"') and not child.outbox:
                child.outbox += json.dumps({"nonce": nonce}).encode() + b"\n"
            last_line[0] = line

        supervisor = Supervisor(self._control, [child], limits, on_line)
        supervisor.wait()
        report = _parse_verdict(last_line[0])
        forged = report.get("nonce") != nonce or child.wait_status != 0
        return supervisor.result(child, None if forged else _known_verdict(report.get("verdict")))

    def run_command(
        self, argv: Sequence[str], limits: ResourceLimits, files: dict[str, str] | None = None
    ) -> RunResult:
        """Run a command in a folder that contains `files`; it passes if it exits with code 0.

        Raises:
            ValueError: files are given but no folder for them, or the backend cannot limit
                the number of processes.
        """
        if limits.max_processes and not backends.can_limit_processes(self.backend):
            raise ValueError("only bwrap can limit the processes of a program, and not as root")
        if files and not limits.folder_bytes:
            raise ValueError("files need a folder: set folder_bytes")
        request = self._make_request(control_protocol.COMMAND, limits, files)
        environment = backends.build_environment()
        if limits.folder_bytes:
            path = os.path.join(self._work_folder, request.folder)
            environment |= {"HOME": path, "TMPDIR": path}
        child = self._launch(request, {"argv": list(argv), "env": environment})
        supervisor = Supervisor(self._control, [child], limits, lambda child, line: None)
        supervisor.wait()
        return supervisor.result(child, "passed" if child.wait_status == 0 else None)

    def test_solution(self, solution: str, test: SolutionTest, limits: ResourceLimits) -> RunResult:
        """Test a solution by its values: it runs in one process and the tests in another.

        Returns:
            the result; its status is `unsupported_value` if a value could not be sent between
            the two.
        """
        ends = socket.socketpair()
        try:
            request = self._make_request(control_protocol.SOLUTION, limits)
            tested = self._launch(request, {"source": solution}, peer=ends[0])
            request = self._make_request(control_protocol.TESTS, limits)
            message = {
                "prompt": test.prompt,
                "test": test.source,
                "entry_point": test.entry_point,
                "check": test.defines_check,
            }
            tests = self._launch(request, message, peer=ends[1])
        finally:
            for end in ends:
                end.close()
        report: dict[str, Any] = {}

        def on_line(child: SupervisedChild, line: bytes) -> None:
            if child is tests:
                report.update(_parse_verdict(line))
                kill(self._control, tested)

        def on_close(child: SupervisedChild) -> None:
            if child is tests:  # otherwise the solution would wait for calls until its time limit
                kill(self._control, tested)

        supervisor = Supervisor(self._control, [tested, tests], limits, on_line, on_close)
        supervisor.wait()
        verdict = report.get("verdict")
        status = verdict if verdict == UNSUPPORTED_VALUE else _known_verdict(verdict)
        if status == "passed" and tests.wait_status != 0:
            status = "failed"
        if status == "exited":  # by itself, or by a limit
            status = classify_end(tested) or status
        result = supervisor.result(tested, status or classify_end(tests) or "failed")
        detail = str(report.get("detail", ""))
        if not detail:
            return result
        return replace(result, stderr=(result.stderr + "\n" + detail).strip()[-KEPT_OUTPUT:])

    # -- the fork server -------------------------------------------------------------------

    def _start(self, server_end: socket.socket, packages: bool) -> None:
        fd = server_end.fileno()
        folder_lock = [self._temp_folder.lock] if self._temp_folder else []
        self._process = subprocess.Popen(
            backends.build_command(self.backend, fd, self._work_folder, packages=packages),
            pass_fds=[fd, *folder_lock],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=backends.build_environment(),
            start_new_session=True,  # a signal that ends us does not reach it, so it cleans up
        )

    def _wait_until_ready(self) -> None:
        self._control.settimeout(START_TIMEOUT_S)
        try:
            ready = self._control.recv(1000)
        except OSError:
            ready = b""
        if not ready:
            self._log.seek(0)
            lines = self._log.read(2000).decode("utf-8", "replace").strip().splitlines()
            reason = lines[-1] if lines else "it printed no error"
            raise InputError(f"the sandbox {self.backend} does not start: {reason}")

    def _make_request(
        self, kind: str, limits: ResourceLimits, files: dict[str, str] | None = None
    ) -> ChildRequest:
        self._num_jobs += 1
        # Without Landlock, only a random name keeps other children out of the folder.
        hides = landlock_rules.landlock_version() == 0
        return ChildRequest(
            job=self._num_jobs,
            kind=kind,
            folder=f"{kind}-{secrets.token_hex(16)}" if hides else kind,
            files=files or {},
            max_processes=limits.max_processes,
            cpu_seconds=limits.wall_s,
            memory_bytes=limits.memory_mb << 20,
            folder_bytes=limits.folder_bytes,
            max_open_files=limits.max_open_files,
        )

    def _launch(
        self, request: ChildRequest, message: dict[str, Any], peer: socket.socket | None = None
    ) -> SupervisedChild:
        """Have the fork server start a child, and send it its first message.

        Args:
            peer: the child's end of a socket to another child.

        Raises:
            SandboxDied: the fork server has ended.
        """
        channel, child_end = socket.socketpair()
        stdout, child_stdout = os.pipe()
        stderr, child_stderr = os.pipe()
        try:
            fds = [child_end.fileno(), child_stdout, child_stderr]
            fds += [] if peer is None else [peer.fileno()]
            socket.send_fds(self._control, [control_protocol.encode(request)], fds)
        except OSError as error:
            channel.close()
            os.close(stdout)
            os.close(stderr)
            raise SandboxDied(str(error)) from None
        finally:
            child_end.close()
            os.close(child_stdout)
            os.close(child_stderr)
        for fd in (stdout, stderr):
            os.set_blocking(fd, False)
        channel.setblocking(False)
        child = SupervisedChild(request.job, channel, OutputStream(stdout), OutputStream(stderr))
        child.outbox += json.dumps(message).encode() + b"\n"
        return child


def _parse_verdict(line: bytes) -> dict[str, Any]:
    """Parse a line that untrusted code may have written; return {} for anything unexpected."""
    if len(line) > MAX_VERDICT_BYTES:
        return {}
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def _known_verdict(verdict: Any) -> str | None:
    return verdict if verdict in VERDICTS else None
