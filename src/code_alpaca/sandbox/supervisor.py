"""Watch running programs from outside the sandbox: move their bytes and enforce their limits.

The supervisor reads the channel, standard output and standard error of each program. It moves
lines of bounded size and parses nothing that untrusted code wrote.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from code_alpaca.sandbox.inside.control_protocol import ChildReport, encode_kill

KILL_TIMEOUT_S = 20.0  # for a sandbox to end its programs after their time limit
MAX_CHANNEL_BYTES = 64 << 20  # that one program may send over its channel
MAX_LINE_BYTES = 32 << 20  # in one line of it
MAX_LINES = 1_000_000
KEPT_OUTPUT = 4_000  # characters of each stream in a result
CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """What one program may use."""

    wall_s: float = 10.0  # wall time, and CPU time (rounded up to a second)
    memory_mb: int = 512  # of address space; 0: no limit, for runtimes that reserve too much
    output_bytes: int = 1 << 20  # of standard output and of standard error, each
    # Above 0, the program gets an empty folder to write in, as its working directory, home and
    # place of temporary files. One file may have this size, and four times as much may be written
    # in total.
    folder_bytes: int = 0
    max_open_files: int = 64
    # Other processes that a command may run at a time. Only bwrap can limit them, and not for root.
    max_processes: int = 0


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a program ended."""

    # passed, failed, timeout, out_of_memory, exited, output_limit or, if a value could not be sent
    # between a solution and its tests, unsupported_value
    status: str
    stdout: str  # the last characters
    stderr: str
    duration: float  # seconds
    peak_memory_mb: float = 0.0  # of the child that used most


class SandboxDied(Exception):
    """The sandbox itself ended while a program was running; start another one."""


@dataclass(slots=True)
class OutputStream:
    """The reading end of a pipe, and the last bytes that came through it."""

    fd: int
    size: int = 0
    tail: bytearray = field(default_factory=bytearray)


@dataclass(slots=True)
class SupervisedChild:
    """A started program: what it sent, what to send to it, and how it ended."""

    job: int
    channel: socket.socket
    stdout: OutputStream
    stderr: OutputStream
    inbox: bytearray = field(default_factory=bytearray)
    outbox: bytearray = field(default_factory=bytearray)
    num_received: int = 0
    num_lines: int = 0
    is_open: bool = True
    report: ChildReport | None = None

    @property
    def wait_status(self) -> int:
        """How its process ended (see `os.wait`); not 0 until it has ended."""
        return self.report.wait_status if self.report else 1

    def classify_end(self) -> str | None:
        """Return the status that the end of the process implies; None for exit code 0."""
        if self.report and self.report.folder_full:
            return "output_limit"
        if os.WIFSIGNALED(self.wait_status):
            killed = os.WTERMSIG(self.wait_status) in (signal.SIGXCPU, signal.SIGKILL)
            return "timeout" if killed else "failed"
        return "failed" if self.wait_status else None


class Supervisor:
    """Move bytes between children until all have ended or one exceeds a limit.

    Args:
        control: the fork server, which reports there how its children ended.
        on_line: gets every line that a child sends over its channel.
        on_close: called when a child closes its channel.
    """

    def __init__(
        self,
        control: socket.socket,
        children: list[SupervisedChild],
        limits: ResourceLimits,
        on_line: Callable[[SupervisedChild, bytes], None] = lambda child, line: None,
        on_close: Callable[[SupervisedChild], None] = lambda child: None,
    ) -> None:
        self._control, self._children, self._limits = control, children, limits
        self._on_line, self._on_close = on_line, on_close
        self._started = time.monotonic()
        self._limit_hit: str | None = None
        self._duration = 0.0
        self._selector = selectors.DefaultSelector()

    def wait(self) -> None:
        """Return when all children have ended; raise `SandboxDied` if that does not happen."""
        self._control.setblocking(False)
        read = selectors.EVENT_READ
        self._selector.register(self._control, read, (self._read_report, self._control))
        for child in self._children:
            self._selector.register(child.channel, read, (self._read_channel, child))
            for stream in (child.stdout, child.stderr):
                self._selector.register(stream.fd, read, (self._read_stream, stream))
        deadline = self._started + self._limits.wall_s
        try:
            while any(child.report is None for child in self._children):
                for child in self._children:
                    self._write_channel(child)
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    if self._limit_hit and remaining < -KILL_TIMEOUT_S:
                        raise SandboxDied("the sandbox does not end its programs")
                    self._stop("timeout")
                    remaining = 1.0
                for key, _ in self._selector.select(remaining):
                    read_from, source = key.data
                    read_from(source)
            for child in self._children:  # the rest of their output
                for stream in (child.stdout, child.stderr):
                    while self._read_stream(stream):
                        pass
        finally:
            self._duration = time.monotonic() - self._started
            self._selector.close()
            for child in self._children:
                child.channel.close()
                os.close(child.stdout.fd)
                os.close(child.stderr.fd)

    def result(self, child: SupervisedChild, status: str | None) -> RunResult:
        """Return the result of a child that ended, with `status` unless a limit was exceeded."""
        status = self._limit_hit or status or child.classify_end() or "exited"
        peak_kb = max(c.report.peak_kb if c.report else 0 for c in self._children)
        tails = [stream.tail[-KEPT_OUTPUT:] for stream in (child.stdout, child.stderr)]
        stdout, stderr = (tail.decode("utf-8", "replace") for tail in tails)
        return RunResult(status, stdout, stderr, self._duration, peak_kb / 1024)

    def kill(self, child: SupervisedChild) -> None:
        """Have the fork server kill a child, unless it has ended."""
        if child.report is None:
            with contextlib.suppress(OSError):
                self._control.send(encode_kill(child.job))

    def _stop(self, reason: str) -> None:
        self._limit_hit = self._limit_hit or reason
        for child in self._children:
            self.kill(child)

    def _read_report(self, control: socket.socket) -> None:
        try:
            data = control.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            raise SandboxDied(str(error)) from None
        if not data:
            raise SandboxDied("the sandbox ended")
        report = ChildReport(**json.loads(data))
        for child in self._children:
            if child.job == report.job:
                while child.is_open and self._read_channel(child):  # its last lines come first
                    pass
                child.report = report

    def _read_channel(self, child: SupervisedChild) -> bool:
        """Read one chunk, so that the caller can check the time; return whether there was one."""
        try:
            data = child.channel.recv(CHUNK) if child.is_open else b""
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._close_channel(child)
            return False
        child.num_received += len(data)
        child.num_lines += data.count(b"\n")
        child.inbox += data
        too_many = child.num_received > MAX_CHANNEL_BYTES or child.num_lines > MAX_LINES
        if too_many or len(child.inbox) > MAX_LINE_BYTES:
            self._close_channel(child)
            self._stop("output_limit")
            return False
        if b"\n" in data:
            *lines, child.inbox = child.inbox.split(b"\n")
            for line in lines:
                self._on_line(child, bytes(line) + b"\n")
        return True

    def _close_channel(self, child: SupervisedChild) -> None:
        """Stop reading a child's channel: it was closed, or exceeded a limit."""
        if child.is_open:
            child.is_open = False
            child.inbox.clear()
            self._selector.unregister(child.channel)
            self._on_close(child)

    def _write_channel(self, child: SupervisedChild) -> None:
        while child.outbox and child.is_open:
            try:
                num_sent = child.channel.send(child.outbox[:CHUNK])
            except BlockingIOError:
                break
            except OSError:
                child.outbox.clear()
                break
            del child.outbox[:num_sent]
        if child.is_open:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if child.outbox else 0)
            if self._selector.get_key(child.channel).events != events:
                self._selector.modify(child.channel, events, (self._read_channel, child))

    def _read_stream(self, stream: OutputStream) -> bool:
        """Read one chunk; return whether there was one and more may be read."""
        try:
            data = os.read(stream.fd, CHUNK)
        except OSError:
            return False
        stream.size += len(data)
        stream.tail = (stream.tail + data)[-4 * KEPT_OUTPUT :]
        exceeded = stream.size > self._limits.output_bytes
        if exceeded or not data:
            with contextlib.suppress(KeyError, ValueError, RuntimeError):
                self._selector.unregister(stream.fd)
        if exceeded:
            self._stop("output_limit")
        return bool(data) and not exceeded
