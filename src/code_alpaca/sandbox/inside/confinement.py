"""Prepare and confine a freshly forked child, before it reads untrusted code.

The layers:

- it has no file descriptors but its own;
- rlimits bound CPU time, address space, file size, open files, queued signals and core dumps;
- Landlock leaves a list of folders to read and at most one to write (`landlock_rules`);
- all capabilities are dropped;
- seccomp decides each system call (`seccomp_filter`).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import socket
import struct
import sys
import threading

from .control_protocol import ChildRequest
from .landlock_rules import check, libc, restrict_self
from .seccomp_filter import for_process
from .syscall_table import load_numbers

OWN_FDS = [3, 4]  # where a child finds its channel and, if it has one, its peer
UNUSED_FD = 128  # descriptors are first moved to this number or above, which are all unused
DEFAULT_STACK, SMALLEST_STACK = 8 << 20, 1 << 16  # bytes
MAX_QUEUED_SIGNALS = 64  # for all processes of the user; each timer takes one
PR_SET_PDEATHSIG, PR_SET_SECUREBITS, PR_SET_NO_NEW_PRIVS = 1, 28, 38
SECCOMP_SET_MODE_FILTER = 1
NEW_LISTENER, WAIT_KILLABLE = 1 << 3, 1 << 5  # SECCOMP_FILTER_FLAG_*; the latter since Linux 5.19
CAPABILITY_VERSION = 0x20080522
NO_ROOT_BY_UID_LOCKED = 0x2F  # SECBIT_*: user ID 0 grants no capabilities, also after an exec


def set_up_child(
    request: ChildRequest,
    fds: list[int],
    folder: str | None,
    ruleset: int | None,
    filters: list[bytes],
) -> list[int]:
    """Prepare and confine this process for good; if that fails, write why and end it.

    Args:
        fds: a socket to send the listener of the filter over, then those of the request.
        folder: the only one that the process may write.
        ruleset: descriptor of Landlock rules; None: no Landlock.
        filters: from `build_filters`; the first that the kernel accepts is installed. Empty: no
            seccomp, and capabilities stay.

    Returns:
        the descriptors of its channel and, if it has one, its peer.
    """
    try:
        sender, ruleset = _arrange_descriptors(fds, ruleset)
        if folder:
            os.chdir(folder)
            os.environ.update(HOME=folder, TMPDIR=folder)
        _limit_thread_stacks(request.memory_bytes)
        _limit_resources(request)
        check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))  # end with the fork server
        check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        if ruleset is not None:
            restrict_self(ruleset)
        listener = _restrict_calls(filters)
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
    return OWN_FDS[: len(fds) - 3]


def _arrange_descriptors(fds: list[int], ruleset: int | None) -> tuple[int, int | None]:
    """Move descriptors to their places and close all others; return sender and ruleset."""
    sender, channel, out, err, *peer = fds
    # First move them away from the numbers that they are moved to.
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, UNUSED_FD) for fd in (out, err, channel, *peer)]
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sender = fcntl.fcntl(sender, fcntl.F_DUPFD, UNUSED_FD)
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


def _limit_resources(request: ChildRequest) -> None:
    limits = {
        resource.RLIMIT_CPU: int(request.cpu_seconds) + 1,
        resource.RLIMIT_FSIZE: request.folder_bytes,
        resource.RLIMIT_NOFILE: request.max_open_files,
        resource.RLIMIT_SIGPENDING: MAX_QUEUED_SIGNALS,
        resource.RLIMIT_CORE: 0,
    }
    if request.memory_bytes:
        limits[resource.RLIMIT_AS] = request.memory_bytes
    if request.max_processes:
        limits[resource.RLIMIT_NPROC] = request.max_processes
    for kind, limit in limits.items():
        resource.setrlimit(kind, (limit, limit))


def _restrict_calls(filters: list[bytes]) -> int | None:
    """Drop capabilities and install a seccomp filter; return its listener, if it has one."""
    if not filters:
        return None
    if os.geteuid() == 0:
        libc.prctl(PR_SET_SECUREBITS, NO_ROOT_BY_UID_LOCKED, 0, 0, 0)
    numbers = load_numbers()
    header, no_capabilities = struct.pack("Ii", CAPABILITY_VERSION, 0), bytes(24)
    check(libc.syscall(numbers["capset"], header, no_capabilities))

    def install(program: bytes, flags: int) -> int:
        buffer = ctypes.create_string_buffer(program, len(program))
        header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
        seccomp = numbers["seccomp"]
        return libc.syscall(seccomp, SECCOMP_SET_MODE_FILTER, flags, ctypes.c_char_p(header))

    *notifying, silent = (for_process(program, os.getpid()) for program in filters)
    for program in notifying:
        for flags in (NEW_LISTENER | WAIT_KILLABLE, NEW_LISTENER):
            if (listener := install(program, flags)) >= 0:
                return listener
    # The kernel does not support notifications, or a container already uses the only listener.
    check(install(silent, 0))
    return None
