"""Prepare a freshly forked child: its descriptors, folder, thread stacks, and confinement."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import sys
import threading
from dataclasses import dataclass

from .confinement import confine
from .control_protocol import ChildRequest

OWN_FDS = [3, 4]  # where a child finds its channel and, if it has one, its peer
UNUSED_FD = 128  # descriptors are first moved to this number or above, which are all unused
DEFAULT_STACK, SMALLEST_STACK = 8 << 20, 1 << 16  # bytes


@dataclass
class Handles:
    """Descriptors that a child has when it starts."""

    fds: list[int]  # its channel, standard output, standard error and, if it has one, its peer
    sender: int  # socket over which the fork server gets the listener of its filter
    ruleset: int | None  # Landlock rules


def set_up(
    request: ChildRequest, folder: str | None, filters: list[bytes], handles: Handles
) -> list[int]:
    """Prepare and confine this process; return the descriptors of its channel and its peer.

    If that fails, the process writes why to standard error and ends.
    """
    try:
        sender, ruleset = _arrange_descriptors(handles)
        if folder:
            os.chdir(folder)
            os.environ.update(HOME=folder, TMPDIR=folder)
        _limit_thread_stacks(request.memory_bytes)
        listener = confine(request, ruleset, filters)
        with socket.socket(fileno=sender) as connection:
            socket.send_fds(connection, [b"."], [] if listener is None else [listener])
        for fd in (listener, ruleset):
            if fd is not None:
                os.close(fd)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    except BaseException as error:
        with contextlib.suppress(BaseException):
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)
    return OWN_FDS[: len(handles.fds) - 2]


def _arrange_descriptors(handles: Handles) -> tuple[int, int | None]:
    """Move descriptors to their places and close all others; return sender and ruleset."""
    channel, out, err, *peer = handles.fds
    # First move them away from the numbers that they are moved to.
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, UNUSED_FD) for fd in (out, err, channel, *peer)]
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sender = fcntl.fcntl(handles.sender, fcntl.F_DUPFD, UNUSED_FD)
    ruleset = handles.ruleset
    if ruleset is not None:
        ruleset = fcntl.fcntl(ruleset, fcntl.F_DUPFD, UNUSED_FD)
    for target, fd in enumerate(moved, 1):
        os.dup2(fd, target)
    last = len(moved)
    still_used = sorted(fd for fd in (sender, ruleset) if fd is not None)
    for fd in [*still_used, os.sysconf("SC_OPEN_MAX")]:
        os.closerange(last + 1, fd)
        last = fd
    return sender, ruleset


def _limit_thread_stacks(memory_bytes: int) -> None:
    """Limit the stacks that threads reserve, so that many fit into the limited address space.

    A program that requests a huge stack, to recurse deeply, gets at most a quarter of the memory:
    calls of Python functions do not use that stack.
    """
    if not memory_bytes:
        return
    set_stack_size, requested = threading.stack_size, 0
    default, largest = min(DEFAULT_STACK, memory_bytes // 128), memory_bytes // 4

    def stack_size(size: int = 0, /) -> int:
        nonlocal requested
        set_stack_size(min(size, largest) or default)
        previous, requested = requested, size
        return previous

    set_stack_size(max(default, SMALLEST_STACK))
    for module in (threading, sys.modules["_thread"]):
        module.stack_size = stack_size
