"""Build the seccomp filter that decides each system call of a confined process.

The filter is a classic BPF program (https://docs.kernel.org/userspace-api/seccomp_filter.html).
It denies new processes, sockets, signals and limits for other processes, tracing, System V
memory, the keyring, changes of owner, timers, further filters, and every system call newer than
`syscall_table.LAST_REVIEWED`. It ignores changes of mode and times, and syncs. Calls that
`syscall_accounting` counts are suspended until the fork server decides them.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Iterable

from . import bpf, syscall_table

Rule = tuple[int, list[bpf.Instruction]]  # a system call's number, and the code that decides it

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
NUMBER_OFFSET, ARCH_OFFSET = 0, 4  # in struct seccomp_data
CLONE_THREAD = 0x10000
OWN_PID = 0x7FFFFFFE  # placeholder for the process ID, which `for_process` fills in

# The first argument must be the caller's own process ID; in the second group it may also be 0.
OWN_PROCESS_ONLY = ("kill", "tgkill")
OWN_PROCESS_OR_ZERO = ("prlimit64", "sched_setaffinity")
# Which argument is checked, and its values that are denied.
DENIED_VALUES: dict[str, tuple[int, tuple[int, ...]]] = {
    "prctl": (0, (1, 22)),  # PR_SET_PDEATHSIG, PR_SET_SECCOMP
    "fcntl": (1, (8, 10, 15)),  # signals to others: F_SETOWN, F_SETSIG, F_SETOWN_EX
    # FIOSETOWN, SIOCSPGRP: signals to others; TIOCSTI, TIOCLINUX: typing into other terminals;
    # FS_IOC_RESVSP, FS_IOC_RESVSP64, FS_IOC_ZERO_RANGE: file space without a write.
    "ioctl": (1, (0x8901, 0x8902, 0x5412, 0x541C, 0x40305828, 0x4030582A, 0x40305839)),
}


def build_filter(
    *, may_exec: bool, may_fork: bool, rules: Iterable[Rule], notify: bool = True
) -> bytes:
    """Build a filter for this machine, as an array of struct sock_filter.

    Args:
        rules: take precedence over everything else; those of `syscall_accounting`.
        notify: False where no fork server can be notified; calls that `rules` would suspend are
            then allowed.

    Returns:
        a filter with `OWN_PID` as a placeholder (see `for_process`).

    Raises:
        OSError: the table has no numbers for this architecture.
    """
    numbers = syscall_table.load_numbers()
    code = [
        bpf.load(ARCH_OFFSET),
        bpf.skip_if_equal(AUDIT_ARCH[platform.machine()], 1, 0),
        bpf.KILL,
        bpf.load(NUMBER_OFFSET),
        bpf.skip_if_greater(syscall_table.LAST_REVIEWED, 0, 1),  # also skips all x32 calls
        bpf.fail_with(errno.ENOSYS),
    ]

    def add(number: int, body: list[bpf.Instruction]) -> None:
        code.extend([bpf.skip_if_equal(number, 0, len(body)), *body])

    for number, body in rules:
        silent = [bpf.ALLOW if step == bpf.NOTIFY else step for step in body]
        add(number, body if notify else silent)
    if not may_fork:
        is_thread = [bpf.load_argument(0), bpf.skip_if_any_bit(CLONE_THREAD, 0, 1)]
        add(numbers["clone"], [*is_thread, bpf.ALLOW, bpf.DENY])
        add(numbers["clone3"], [bpf.fail_with(errno.ENOSYS)])  # libc falls back to clone
    for name, body in _argument_rules():
        add(numbers[name], body)
    for rows in syscall_table.IGNORED.values():
        for number in syscall_table.select_numbers(rows, numbers):
            add(number, [bpf.fail_with(0)])
    denied = [row for rows in syscall_table.DENIED.values() for row in rows]
    denied += [] if may_exec else syscall_table.EXEC
    denied += [] if may_fork else syscall_table.FORK
    for number in syscall_table.select_numbers(denied, numbers):
        add(number, [bpf.DENY])
    return bpf.assemble([*code, bpf.ALLOW])


def for_process(program: bytes, pid: int) -> bytes:
    """Fill in the ID of the process that installs the filter."""
    return program.replace(struct.pack("I", OWN_PID), struct.pack("I", pid))


def _argument_rules() -> Iterable[tuple[str, list[bpf.Instruction]]]:
    """Yield the calls whose arguments decide, and the code that checks them."""
    for name in OWN_PROCESS_ONLY:
        is_own = [bpf.load_argument(0), bpf.skip_if_equal(OWN_PID, 0, 1)]
        yield name, [*is_own, bpf.ALLOW, bpf.DENY]
    for name in OWN_PROCESS_OR_ZERO:
        is_own = [bpf.skip_if_equal(OWN_PID, 1, 0), bpf.skip_if_equal(0, 0, 1)]
        yield name, [bpf.load_argument(0), *is_own, bpf.ALLOW, bpf.DENY]
    for name, (index, values) in DENIED_VALUES.items():
        checks = [bpf.skip_if_equal(value, len(values) - n, 0) for n, value in enumerate(values)]
        if name == "ioctl":  # requests that encode a size belong to file systems, not terminals
            checks = [bpf.skip_if_any_bit(0xFFFF0000, 0, 1), bpf.fail_with(errno.ENOTTY), *checks]
        yield name, [bpf.load_argument(index), *checks, bpf.ALLOW, bpf.DENY]
