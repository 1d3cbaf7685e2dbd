"""Run programs, commands and tests in one sandbox that stays up between them.

Of the bytes that untrusted code writes, this side parses only a verdict: a line of bounded size.
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
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import IO, Any

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
)
from code_alpaca.sandbox.temp_folder import LockedTempFolder

START_TIMEOUT_S = 20.0
MAX_VERDICT_BYTES = 1 << 16
UNSUPPORTED_VALUE = "unsupported_value"
VERDICTS = ("passed", "failed", "exited", "out_of_memory")


@dataclass(frozen=True, slots=True)
class SolutionTest:
    """Tests of a solution that run in another process than the solution."""

    # Python source. Functions of the solution that it uses and does not define itself are called
    # in the solution's process.
    source: str
    entry_point: str = ""  # the function that `check(candidate)` gets; "" for none
    prompt: str = ""  # source whose helpers the tests may use
    defines_check: bool = True  # whether the source defines `check`, which is then called


@dataclass(frozen=True, slots=True)
class MutationTest:
    """Tests that run on faulty copies of a program (see `inside.mutation_runner`)."""

    program: str  # Python source
    tests: str  # Python source that raises an error if the program is wrong
    max_mutants: int
    first: int = 0  # the number of the first copy to run
    alone: bool = False  # run one copy only


class Worker:
    """A fork server in one backend; it runs one program, or one solution with tests, at a time.

    `packages` lets programs import the packages of this Python environment. Raises InputError if
    the sandbox does not start on this machine.
    """

    def __init__(self, backend: Backend, *, packages: bool = False) -> None:
        self.backend, self._num_jobs = backend, 0
        self._control, server_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with contextlib.ExitStack() as resources:
                resources.callback(self._control.close)
                with server_end:
                    log = self._start(server_end.fileno(), packages, resources)
                self._wait_until_ready(log)
                self._resources = resources.pop_all()
        except OSError as error:
            raise InputError(f"the sandbox {backend} does not start: {error}") from None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the fork server and its children, and remove their files."""
        self._resources.close()

    def run_program(
        self, source: str, limits: ResourceLimits, *, module: str = "__main__"
    ) -> RunResult:
        """Run Python source text as a main program; it passes if it runs to its end.

        Its own process reports that end and can forge the report (see `harness.run_program`). For
        a verdict that cannot be forged, use `test_solution`. `module` is the program's `__name__`.
        """
        file = "program" if module == "__main__" else module
        message = {"source": source, "module": module, "file": file}
        child = self._launch(self._make_request(control_protocol.PROGRAM, limits), message)
        nonce = secrets.token_hex(16)
        last_line = b""  # of the channel, over which the program may have sent any number

        def on_line(_: SupervisedChild, line: bytes) -> None:
            nonlocal last_line
            if line.startswith(b'{"ended"') and not child.outbox:
                child.outbox += json.dumps({"nonce": nonce}).encode() + b"\n"
            last_line = line

        supervisor = Supervisor(self._control, [child], limits, on_line)
        supervisor.wait()
        report = _parse_verdict(last_line)
        forged = report.get("nonce") != nonce or child.wait_status != 0
        return supervisor.result(child, None if forged else _known_verdict(report))

    def run_command(
        self, argv: Sequence[str], limits: ResourceLimits, files: dict[str, str] | None = None
    ) -> RunResult:
        """Run a command in a folder that contains `files`; it passes if it exits with code 0."""
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
        supervisor = Supervisor(self._control, [child], limits)
        supervisor.wait()
        return supervisor.result(child, "passed" if child.wait_status == 0 else None)

    def test_mutants(
        self, test: MutationTest, limits: ResourceLimits, report: Callable[[dict[str, Any]], None]
    ) -> RunResult:
        """Run tests on a program and its faulty copies in one process.

        `report` gets the lines that `inside.mutation_runner.run_mutants` describes. The process
        runs the copies too and can forge them.
        """
        child = self._launch(self._make_request(control_protocol.MUTANTS, limits), asdict(test))
        supervisor = Supervisor(
            self._control, [child], limits, lambda _, line: report(_parse_verdict(line))
        )
        supervisor.wait()
        return supervisor.result(child, "passed" if child.wait_status == 0 else None)

    def test_solution(self, solution: str, test: SolutionTest, limits: ResourceLimits) -> RunResult:
        """Test a solution by its values: it runs in one process and the tests in another."""
        solution_end, tests_end = socket.socketpair()
        with solution_end, tests_end:
            request = self._make_request(control_protocol.SOLUTION, limits)
            tested = self._launch(request, {"source": solution}, peer=solution_end)
            request = self._make_request(control_protocol.TESTS, limits)
            message = {
                "prompt": test.prompt,
                "test": test.source,
                "entry_point": test.entry_point,
                "check": test.defines_check,
            }
            tests = self._launch(request, message, peer=tests_end)
        report: dict[str, Any] = {}

        def on_line(child: SupervisedChild, line: bytes) -> None:
            if child is tests:
                report.update(_parse_verdict(line))
                supervisor.kill(tested)

        def on_close(child: SupervisedChild) -> None:
            if child is tests:  # otherwise the solution would wait for calls until its time limit
                supervisor.kill(tested)

        supervisor = Supervisor(self._control, [tested, tests], limits, on_line, on_close)
        supervisor.wait()
        is_unsupported = report.get("verdict") == UNSUPPORTED_VALUE
        status = UNSUPPORTED_VALUE if is_unsupported else _known_verdict(report)
        if status == "passed" and tests.wait_status != 0:
            status = "failed"
        if status == "exited":  # by itself, or by a limit
            status = tested.classify_end() or status
        result = supervisor.result(tested, status or tests.classify_end() or "failed")
        detail = str(report.get("detail", ""))
        if not detail:
            return result
        return replace(result, stderr=(result.stderr + "\n" + detail).strip()[-KEPT_OUTPUT:])

    def _start(self, fd: int, packages: bool, resources: contextlib.ExitStack) -> IO[bytes]:
        """Start the fork server with its end of the control socket; return its log."""
        self._work_folder, inherited = backends.BWRAP_WORK_FOLDER, [fd]
        if not backends.BACKENDS[self.backend].private_namespaces:
            folder = LockedTempFolder()
            resources.callback(folder.close)
            self._work_folder, inherited = folder.path, [fd, folder.lock]
        log = resources.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        process = subprocess.Popen(
            backends.build_command(self.backend, fd, self._work_folder, packages=packages),
            pass_fds=inherited,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=backends.build_environment(),
            start_new_session=True,  # a signal that ends us does not reach it, so it cleans up
        )
        resources.callback(self._end, process)
        return log

    def _wait_until_ready(self, log: IO[bytes]) -> None:
        self._control.settimeout(START_TIMEOUT_S)
        ready = b""
        with contextlib.suppress(OSError):
            ready = self._control.recv(1000)
        if not ready:
            log.seek(0)
            lines = log.read(2000).decode("utf-8", "replace").strip().splitlines()
            reason = lines[-1] if lines else "it printed no error"
            raise InputError(f"the sandbox {self.backend} does not start: {reason}")

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        self._control.close()  # at which the fork server ends by itself
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

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

        `peer` is the child's end of a socket to another child.
        """
        channel, child_end = socket.socketpair()
        (stdout, child_stdout), (stderr, child_stderr) = os.pipe(), os.pipe()
        try:
            fds = [child_end.fileno(), child_stdout, child_stderr]
            fds += [peer.fileno()] if peer else []
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
        for end in (stdout, stderr):
            os.set_blocking(end, False)
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


def _known_verdict(report: dict[str, Any]) -> str | None:
    return report.get("verdict") if report.get("verdict") in VERDICTS else None
