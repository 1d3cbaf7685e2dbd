"""Confine this process before it runs untrusted code: rlimits, Landlock, capabilities, seccomp.

Called in a fresh child of the fork server. The layers:

- rlimits bound CPU time, address space, file size, open files, queued signals and core dumps;
- Landlock leaves a list of folders to read and at most one to write (`landlock_rules`);
- all capabilities are dropped;
- seccomp decides each system call (`seccomp_filter`).

Only the standard library: this runs in an interpreter without installed packages.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct

from . import syscall_table
from .control_protocol import ChildRequest
from .landlock_rules import check, libc, restrict_self
from .seccomp_filter import for_process

MAX_QUEUED_SIGNALS = 64  # for all processes of the user; each timer takes one
PR_SET_PDEATHSIG, PR_SET_SECUREBITS, PR_SET_NO_NEW_PRIVS = 1, 28, 38
SECCOMP_SET_MODE_FILTER = 1
NEW_LISTENER, WAIT_KILLABLE = 1 << 3, 1 << 5  # SECCOMP_FILTER_FLAG_*; the latter since Linux 5.19
CAPABILITY_VERSION = 0x20080522
NO_ROOT_BY_UID_LOCKED = 0x2F  # SECBIT_*: user ID 0 grants no capabilities, also after an exec


def confine(request: ChildRequest, ruleset: int | None, filters: list[bytes]) -> int | None:
    """Confine this process for good.

    Args:
        request: whose limits are enforced. `max_processes` above 0 allows that number of other
            processes at a time; the kernel does not enforce this limit for root (RLIMIT_NPROC).
        ruleset: file descriptor of a Landlock ruleset; None: no Landlock.
        filters: seccomp programs; the first one that the kernel accepts is installed. All but
            the last notify the fork server. Empty: no seccomp.

    Returns:
        the filter's listener, a file descriptor; None if the filter has none.

    Raises:
        OSError: a requested layer could not be applied; the process must not continue.
    """
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
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # end with the fork server
    _prctl(PR_SET_NO_NEW_PRIVS, 1)
    if ruleset is not None:
        restrict_self(ruleset)
    if not filters:
        return None
    drop_capabilities()
    *notifying, silent = (for_process(program, os.getpid()) for program in filters)
    for program in notifying:
        for flags in (NEW_LISTENER | WAIT_KILLABLE, NEW_LISTENER):
            listener = _install(program, flags)
            if listener >= 0:
                return listener
    # The kernel does not support notifications, or a container already uses the only listener.
    check(_install(silent, 0))
    return None


def drop_capabilities() -> None:
    """Give up all of root's capabilities, including those that an exec would restore.

    Raises:
        OSError: the kernel refused.
    """
    if os.geteuid() == 0:
        libc.prctl(PR_SET_SECUREBITS, NO_ROOT_BY_UID_LOCKED, 0, 0, 0)
    header, no_capabilities = struct.pack("Ii", CAPABILITY_VERSION, 0), bytes(24)
    capset = syscall_table.load_numbers()["capset"]
    check(libc.syscall(capset, header, no_capabilities))


def _install(program: bytes, flags: int) -> int:
    """Install a seccomp filter; return its listener, or a negative number if that failed."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    seccomp = syscall_table.load_numbers()["seccomp"]
    return libc.syscall(seccomp, SECCOMP_SET_MODE_FILTER, flags, ctypes.c_char_p(header))


def _prctl(option: int, value: int) -> None:
    check(libc.prctl(option, value, 0, 0, 0))
