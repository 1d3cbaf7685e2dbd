"""What goes on between programs in the sandbox while they run, and how each of them ended.

The parent holds three descriptors of a program (channel, standard output and error) and moves
bounded lines; it parses nothing here that untrusted code wrote.
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
from typing import Any

START_S = 20.0
MOST_RELAYED = 64 << 20  # bytes that one program may send over its channel
MOST_LINE = 32 << 20  # bytes of one line of it
MOST_LINES = 1_000_000
KEPT_OUTPUT = 4_000  # characters of each stream that a result carries
CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """What one program may use.

    `wall_s` also holds CPU time (rounded up to a second). `folder_bytes` above 0 gives it an
    empty folder to write in, as its working directory, home and place of temporary files: one
    file may hold that size, and four times as much may be written in all. `max_processes` lets a
    command have that number of others at a time, which only bwrap can hold, and not for root.
    """

    wall_s: float = 10.0
    memory_mb: int = 512  # of address space; 0: no limit, for runtimes that reserve a lot
    output_bytes: int = 1 << 20
    folder_bytes: int = 0
    max_open_files: int = 64
    max_processes: int = 0


@dataclass(frozen=True, slots=True)
class RunResult:
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


class SandboxDied(Exception):
    """The sandbox itself ended under a program; start another one."""


@dataclass(slots=True)
class Stream:
    """The end of a pipe, and the last of what came through it."""

    fd: int
    size: int = 0
    kept: bytearray = field(default_factory=bytearray)

    def text(self) -> str:
        return self.kept[-KEPT_OUTPUT:].decode("utf-8", "replace")


@dataclass(slots=True)
class Child:
    """A program that was started: what comes from it, goes to it, and how it ended."""

    job: int
    channel: socket.socket
    out: Stream
    err: Stream
    inbox: bytearray = field(default_factory=bytearray)
    outbox: bytearray = field(default_factory=bytearray)
    received: int = 0
    lines: int = 0
    open: bool = True
    ended: dict[str, Any] | None = None


class Relay:
    """Move bytes between children until all have ended, or one went past a limit.

    Args:
        control: the zygote, which tells there how its children ended.
        on_line: gets every line that a child sends over its channel.
        at_end: called when a child closes its channel.
    """

    def __init__(
        self,
        control: socket.socket,
        children: list[Child],
        limits: ResourceLimits,
        on_line: Callable[[Child, bytes], None],
        at_end: Callable[[Child], None] = lambda child: None,
    ) -> None:
        self._control, self._children, self._limits = control, children, limits
        self._on_line, self._at_end = on_line, at_end
        self._began = time.monotonic()
        self._broke: str | None = None
        self._duration = 0.0
        self._select = selectors.DefaultSelector()

    def go(self) -> None:
        """Come back when all have ended.

        Raises:
            SandboxDied: the zygote died.
        """
        self._control.setblocking(False)
        self._select.register(self._control, selectors.EVENT_READ, self._ended)
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
                        raise SandboxDied("the sandbox does not end its programs")
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
                    self._drain(stream)
        finally:
            self._duration = time.monotonic() - self._began
            self._select.close()
            for child in self._children:
                child.channel.close()
                os.close(child.out.fd)
                os.close(child.err.fd)

    def result(self, child: Child, status: str | None) -> RunResult:
        """Of a program that ended, if nothing went past a limit, with `status`."""
        status = self._broke or status or of_signal(child) or "exited"
        peak = max((c.ended or {}).get("peak_kb", 0) for c in self._children) / 1024
        return RunResult(status, child.out.text(), child.err.text(), self._duration, peak)

    def _stop(self, why: str) -> None:
        self._broke = self._broke or why
        for child in self._children:
            kill(self._control, child)

    def _ended(self) -> None:
        try:
            data = self._control.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            raise SandboxDied(str(error)) from None
        if not data:
            raise SandboxDied("the sandbox ended")
        told = json.loads(data)
        for child in self._children:
            if child.job == told["job"]:
                while child.open and self._channel(child):  # its last lines come before its end
                    pass
                child.ended = told

    def _channel(self, child: Child) -> bool:
        """Read one chunk, so that the caller can look at the clock; whether there was one."""
        try:
            data = child.channel.recv(CHUNK) if child.open else b""
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._close(child)
            return False
        child.received += len(data)
        child.lines += data.count(b"\n")
        child.inbox += data
        if (
            child.received > MOST_RELAYED
            or child.lines > MOST_LINES
            or len(child.inbox) > MOST_LINE
        ):
            self._close(child)
            self._stop("output_limit")
            return False
        if b"\n" in data:
            *lines, rest = child.inbox.split(b"\n")
            child.inbox = rest
            for line in lines:
                self._on_line(child, bytes(line) + b"\n")
        return True

    def _close(self, child: Child) -> None:
        """Read nothing more from a child's channel: it ended, or went past a limit."""
        if child.open:
            child.open = False
            child.inbox.clear()
            self._select.unregister(child.channel)
            self._at_end(child)

    def _write(self, child: Child) -> None:
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

    def _stream(self, stream: Stream) -> bool:
        """Read one chunk; whether there was one and more is wanted."""
        try:
            data = os.read(stream.fd, CHUNK)
        except OSError:
            return False
        stream.size += len(data)
        stream.kept = (stream.kept + data)[-4 * KEPT_OUTPUT :]
        too_much = stream.size > self._limits.output_bytes
        if too_much or not data:
            with contextlib.suppress(KeyError, ValueError, RuntimeError):
                self._select.unregister(stream.fd)
        if too_much:
            self._stop("output_limit")
        return bool(data) and not too_much

    def _drain(self, stream: Stream) -> None:
        while self._stream(stream):
            pass


def kill(control: socket.socket, child: Child) -> None:
    """Have the zygote end a program, if it has not ended."""
    if child.ended is None:
        with contextlib.suppress(OSError):
            control.send(json.dumps({"kill": child.job}).encode())


def of_signal(child: Child) -> str | None:
    """What the end of a child's process says by itself."""
    status = (child.ended or {}).get("status", 0)
    if (child.ended or {}).get("too_full"):
        return "output_limit"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return "timeout" if number in (signal.SIGXCPU, signal.SIGKILL) else "failed"
    return "failed" if status else None
