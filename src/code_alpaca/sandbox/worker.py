"""One sandbox that stays up: programs go in one after the other, results come out.

The parent holds a child's three descriptors (channel, standard output and error) and relays
bounded lines; it parses nothing that untrusted code wrote but the kind of a line.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from code_alpaca.errors import InputError
from code_alpaca.sandbox import backends
from code_alpaca.sandbox.backends import Backend

START_S = 20.0
MOST_RELAYED = 64 << 20  # bytes that one program may send over its channel
KEPT_OUTPUT = 4_000  # characters of each stream that a result carries
CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use.

    `wall_s` also holds CPU time (rounded up to a second). `folder_bytes` above 0 gives it an
    empty folder to write in, as its working directory; `processes` lets a command have so
    many others at a time, which only the backend bwrap can hold, and not for root.
    """

    wall_s: float = 10.0
    memory_mb: int = 512  # of address space; 0: no limit, for runtimes that reserve a lot
    output_bytes: int = 1 << 20
    folder_bytes: int = 0
    open_files: int = 64
    processes: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """How a program ended.

    `status` is one of passed, failed, timeout, out_of_memory, exited, output_limit (and, of
    tests, unplain: a value could not cross); `stdout` and `stderr` hold the last characters of
    each; `duration` is in seconds.
    """

    status: str
    stdout: str
    stderr: str
    duration: float
    peak_memory_mb: float = 0.0


class Gone(Exception):
    """The sandbox itself ended under a program; start another one."""


@dataclass(slots=True)
class _Stream:
    """The end of a pipe, and the last of what came through it."""

    fd: int
    size: int = 0
    kept: bytearray = field(default_factory=bytearray)

    def text(self) -> str:
        return self.kept[-KEPT_OUTPUT:].decode("utf-8", "replace")


@dataclass(slots=True)
class _Child:
    job: int
    channel: socket.socket
    out: _Stream
    err: _Stream
    inbox: bytearray = field(default_factory=bytearray)
    outbox: bytearray = field(default_factory=bytearray)
    received: int = 0
    open: bool = True
    ended: dict[str, Any] | None = None


class Worker:
    """A zygote inside one backend; one program, or one solution with its tests, at a time.

    Raises:
        InputError: the sandbox does not come up here (with its own words).
    """

    def __init__(self, backend: Backend, *, packages: bool = False) -> None:
        self.backend = backend
        self._jobs = 0
        self._work = tempfile.mkdtemp(prefix="sandbox-")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = ours
        os.set_inheritable(theirs.fileno(), True)
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(
            backends.command(backend, theirs.fileno(), self._work, packages),
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=self._said,
            env=backends.environment(),
            start_new_session=True,
        )
        theirs.close()
        ours.settimeout(START_S)
        try:
            ready = ours.recv(1000)
        except OSError:
            ready = b""
        if not ready:
            self._said.seek(0)
            words = self._said.read(2000).decode("utf-8", "replace").strip().splitlines()
            self.close()
            raise InputError(
                f"the sandbox {backend} does not start: {words[-1] if words else 'no word'}"
            )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the zygote and all in it; remove its folder."""
        self._control.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._said.close()
        shutil.rmtree(self._work, ignore_errors=True)

    # -- what can be run -------------------------------------------------------------------

    def run_program(self, source: str, limits: Limits) -> Result:
        """Run Python source text as a main program; passed if it came to its end.

        Its own process can forge that end: for verdicts on code that may want to, use `test`.
        """
        nonce = secrets.token_hex(16)
        child = self._launch("program", limits, {"nonce": nonce, "source": source})
        verdicts: list[dict[str, Any]] = []
        run = _Run(self, [child], limits, lambda _, line: verdicts.append(_parsed(line)))
        run.go()
        verdict = verdicts[-1] if verdicts else {}
        if verdict.get("verdict") == "passed" and verdict.get("nonce") != nonce:
            verdict = {}
        return run.result(child, _known(verdict.get("verdict")))

    def run_argv(
        self, argv: Sequence[str], limits: Limits, files: dict[str, str] | None = None
    ) -> Result:
        """Run a command in a folder that holds `files`; passed if it exits with 0.

        Raises:
            ValueError: files are given, but no folder to hold them; or processes that nothing
                holds here.
        """
        if limits.processes and (self.backend != "bwrap" or os.geteuid() == 0):
            raise ValueError("programs that start others are held by bwrap alone, and not as root")
        if files and not limits.folder_bytes:
            raise ValueError("files need a folder: set folder_bytes")
        order = {"argv": list(argv), "env": backends.environment()}
        child = self._launch("exec", limits, order, files or {})
        run = _Run(self, [child], limits, lambda child, line: None)
        run.go()
        code = (child.ended or {}).get("status", 1)
        return run.result(child, "passed" if code == 0 else None)

    def test(
        self,
        source: str,
        *,
        entry_point: str,
        test: str,
        limits: Limits,
        prompt: str = "",
        check: bool = True,
    ) -> Result:
        """Judge a solution: it runs in one child, the tests in another, plain values between.

        Args:
            source: the whole solution.
            entry_point: the function of it that `check(candidate)` gets; "" for none.
            test: Python source of the tests; `check` says whether it defines `check`. Functions
                of the solution that it names and does not define are called there.
            prompt: source whose helpers the tests may use.
        """
        tested = self._launch("solution", limits, {"source": source})
        order = {"prompt": prompt, "test": test, "entry_point": entry_point, "check": check}
        tests = self._launch("tests", limits, order)
        verdict: dict[str, Any] = {}

        def relay(child: _Child, line: bytes) -> None:
            if child is tested:
                tests.outbox += line
            elif line.startswith(b'{"verdict"'):
                verdict.update(_parsed(line))
                self._kill(tested)
            else:
                tested.outbox += line

        gone = []

        def at_end(child: _Child) -> None:
            if child is tested and not verdict:
                gone.append(child)
                tests.outbox += b'{"verdict": "exited"}\n'

        run = _Run(self, [tested, tests], limits, relay, at_end)
        run.go()
        said = verdict.get("verdict")
        status = said if said == "unplain" else _known(said)
        if status == "passed" and tests.ended and tests.ended["status"] != 0:
            status = "failed"
        if status == "exited" and gone:  # by itself, or by a limit?
            status = _of_signal(tested) or status
        result = run.result(tested, status or _of_signal(tests) or "failed")
        detail = str(verdict.get("detail", ""))
        if not detail:
            return result
        stderr = (result.stderr + "\n" + detail).strip()[-KEPT_OUTPUT:]
        return Result(result.status, result.stdout, stderr, result.duration, result.peak_memory_mb)

    # -- orders to the zygote --------------------------------------------------------------

    def _launch(
        self,
        kind: str,
        limits: Limits,
        first: dict[str, Any],
        files: dict[str, str] | None = None,
    ) -> _Child:
        self._jobs += 1
        order = {
            "job": self._jobs,
            "kind": kind,
            "files": files or {},
            "processes": limits.processes,
            "cpu_s": limits.wall_s,
            "memory": limits.memory_mb << 20,
            "file_size": limits.folder_bytes,
            "folder": limits.folder_bytes,
            "open_files": limits.open_files,
        }
        mine, theirs = socket.socketpair()
        out, out_theirs = os.pipe()
        err, err_theirs = os.pipe()
        try:
            fds = [theirs.fileno(), out_theirs, err_theirs]
            socket.send_fds(self._control, [json.dumps(order).encode()], fds)
        except OSError as error:
            mine.close()
            os.close(out)
            os.close(err)
            raise Gone(str(error)) from None
        finally:
            theirs.close()
            os.close(out_theirs)
            os.close(err_theirs)
        for fd in (out, err):
            os.set_blocking(fd, False)
        mine.setblocking(False)
        child = _Child(self._jobs, mine, _Stream(out), _Stream(err))
        child.outbox += json.dumps(first).encode() + b"\n"
        return child

    def _kill(self, child: _Child) -> None:
        if child.ended is None:
            with contextlib.suppress(OSError):
                self._control.send(json.dumps({"kill": child.job}).encode())


class _Run:
    """Move bytes between children until all have ended, or one went past a limit."""

    def __init__(
        self,
        worker: Worker,
        children: list[_Child],
        limits: Limits,
        on_line: Callable[[_Child, bytes], None],
        at_end: Callable[[_Child], None] = lambda child: None,
    ) -> None:
        self._worker, self._children, self._limits = worker, children, limits
        self._on_line, self._at_end = on_line, at_end
        self._began = time.monotonic()
        self._broke: str | None = None
        self._duration = 0.0
        self._select = selectors.DefaultSelector()

    def go(self) -> None:
        """Raises Gone where the zygote died."""
        control = self._worker._control
        control.setblocking(False)
        self._select.register(control, selectors.EVENT_READ, self._ended)
        for child in self._children:
            self._select.register(child.channel, selectors.EVENT_READ, (self._channel, child))
            for stream in (child.out, child.err):
                self._select.register(stream.fd, selectors.EVENT_READ, (self._stream, stream))
        deadline = self._began + self._limits.wall_s
        try:
            while any(child.ended is None for child in self._children):
                for child in self._children:
                    self._write(child)
                left = deadline - time.monotonic()
                if left <= 0:
                    if self._broke and left < -START_S:
                        raise Gone("the sandbox does not end its programs")
                    self._stop("timeout")
                    left = 1.0
                for key, _ in self._select.select(left):
                    if callable(key.data):
                        key.data()
                    else:
                        handle, what = key.data
                        handle(what)
            for child in self._children:  # what was still in the pipes
                for stream in (child.out, child.err):
                    self._stream(stream)
        finally:
            self._duration = time.monotonic() - self._began
            self._select.close()
            for child in self._children:
                child.channel.close()
                os.close(child.out.fd)
                os.close(child.err.fd)

    def result(self, child: _Child, status: str | None) -> Result:
        status = self._broke or status or _of_signal(child) or "exited"
        peak = max((c.ended or {}).get("peak_kb", 0) for c in self._children) / 1024
        return Result(status, child.out.text(), child.err.text(), self._duration, peak)

    def _stop(self, why: str) -> None:
        self._broke = self._broke or why
        for child in self._children:
            self._worker._kill(child)

    def _ended(self) -> None:
        try:
            data = self._worker._control.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            raise Gone(str(error)) from None
        if not data:
            raise Gone("the sandbox ended")
        told = json.loads(data)
        for child in self._children:
            if child.job == told["job"]:
                self._channel(child)  # its last lines come before its end
                child.ended = told

    def _channel(self, child: _Child) -> None:
        while child.open:
            try:
                data = child.channel.recv(CHUNK)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                child.open = False
                self._select.unregister(child.channel)
                self._at_end(child)
                return
            child.received += len(data)
            if child.received > MOST_RELAYED:
                return self._stop("output_limit")
            child.inbox += data
            if b"\n" in data:
                *lines, rest = child.inbox.split(b"\n")
                child.inbox = rest
                for line in lines:
                    self._on_line(child, bytes(line) + b"\n")

    def _write(self, child: _Child) -> None:
        while child.outbox and child.open:
            try:
                sent = child.channel.send(child.outbox[:CHUNK])
            except BlockingIOError:
                break
            except OSError:
                child.outbox.clear()
                break
            del child.outbox[:sent]
        if child.open:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if child.outbox else 0)
            if self._select.get_key(child.channel).events != events:
                self._select.modify(child.channel, events, (self._channel, child))

    def _stream(self, stream: _Stream) -> None:
        while True:
            try:
                data = os.read(stream.fd, CHUNK)
            except (BlockingIOError, OSError):
                return
            if not data:
                with contextlib.suppress(KeyError, ValueError, RuntimeError):
                    self._select.unregister(stream.fd)
                return
            stream.size += len(data)
            stream.kept = (stream.kept + data)[-4 * KEPT_OUTPUT :]
            if stream.size > self._limits.output_bytes:
                return self._stop("output_limit")


def _parsed(line: bytes) -> dict[str, Any]:
    """A line of a child, as far as it is one; untrusted code may have written it."""
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _known(status: Any) -> str | None:
    return status if status in ("passed", "failed", "exited", "out_of_memory") else None


def _of_signal(child: _Child) -> str | None:
    """What the end of a child's process says by itself."""
    status = (child.ended or {}).get("status", 0)
    if (child.ended or {}).get("too_full"):
        return "output_limit"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return "timeout" if number in (signal.SIGXCPU, signal.SIGKILL) else "failed"
    return "failed" if status else None
