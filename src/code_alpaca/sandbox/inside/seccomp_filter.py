"""Build the seccomp filters that decide each system call of a confined process.

A filter is a classic BPF program (https://docs.kernel.org/userspace-api/seccomp_filter.html).
It denies new processes, sockets, signals and limits for other processes, tracing, System V
memory, the keyring, changes of owner, timers, further filters, and every system call newer than
`syscall_table.LAST_REVIEWED`. It ignores changes of mode and times, and syncs. Calls that
`syscall_accounting` counts are suspended until the fork server decides them.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Iterable, Iterator

from . import syscall_table as calls

# struct sock_filter: operation, instructions to skip if true, to skip if false, operand.
Instruction = tuple[int, int, int, int]
Rule = tuple[str, list[Instruction]]  # the name of a system call, and the code that decides it

# Operations: BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ, | BPF_JGT, | BPF_JSET, BPF_RET.
LOAD, EQUAL, GREATER, ANY_BIT, RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
OWN_PID = 0x7FFFFFFE  # placeholder for the process ID, which `for_process` fills in
NUMBER_OFFSET, ARCH_OFFSET, ARGUMENTS_OFFSET = 0, 4, 16  # in struct seccomp_data
CLONE_THREAD = 0x10000
MAP_SHARED, MAP_ANONYMOUS = 0x01, 0x20
O_CREAT, O_TMPFILE = 0x40, 0x400000
STDERR = 2

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


def build_filters(
    protected_fds: list[int], *, may_exec: bool, may_fork: bool, may_write: bool
) -> list[bytes]:
    """Build the filters to try, best first, as arrays of struct sock_filter.

    The last one suspends no call; it is for kernels and containers where the fork server cannot be
    notified. `OWN_PID` is a placeholder in all (see `for_process`).

    Args:
        protected_fds: descriptors that may be written freely; where writes to others are counted,
            they can be neither closed nor replaced.
        may_exec: the process may become another program.
        may_fork: it may start processes; if not, its threads are counted.
        may_write: it has a folder to write in, so its files are counted.
    """
    counted = [] if may_fork else _count_threads()
    counted += _count_files(protected_fds, may_exec=may_exec) if may_write else []
    silent = [(name, [ALLOW if i == NOTIFY else i for i in body]) for name, body in counted]
    others = list(_decide_by_table(may_exec=may_exec, may_fork=may_fork))
    filters = [_assemble([*rules, *others]) for rules in (counted, silent)]
    return filters if counted else filters[1:]


def for_process(program: bytes, pid: int) -> bytes:
    """Fill in the ID of the process that installs the filter."""
    return program.replace(struct.pack("I", OWN_PID), struct.pack("I", pid))


def _count_threads() -> list[Rule]:
    is_thread = [_load_argument(0), _skip_if(ANY_BIT, CLONE_THREAD, 0, 1)]
    return [("clone", [*is_thread, NOTIFY, DENY]), *((name, [NOTIFY]) for name in calls.EXIT)]


def _count_files(protected_fds: list[int], *, may_exec: bool) -> list[Rule]:
    """Suspend calls that write, create a file or change what a descriptor refers to."""
    free = [step for fd in protected_fds for step in (_skip_if(EQUAL, fd, 0, 1), ALLOW)]
    write = [_load_argument(0), *free, NOTIFY]
    rules = [("write", write), ("pwrite64", write)]
    always = [*calls.VECTOR_WRITE, *calls.CREATE_ENTRY, *(calls.EXEC if may_exec else ())]
    rules += [(name, [NOTIFY]) for name in always]
    for error, names in calls.UNCOUNTABLE.items():
        rules += [(name, [_fail(error)]) for name in names]
    is_shared = [_skip_if(ANY_BIT, MAP_ANONYMOUS, 2, 0), _skip_if(ANY_BIT, MAP_SHARED, 0, 1)]
    rules.append(("mmap", [_load_argument(3), *is_shared, NOTIFY, ALLOW]))
    creates = _skip_if(ANY_BIT, O_CREAT | O_TMPFILE, 0, 1)
    for name, flags in (("open", 1), ("openat", 2)):
        rules.append((name, [_load_argument(flags), creates, NOTIFY, ALLOW]))
    refuse = _fail(errno.EBADF)
    protect = [step for fd in protected_fds for step in (_skip_if(EQUAL, fd, 0, 1), refuse)]
    is_standard = _skip_if(GREATER, STDERR, 0, 1)
    for name, target in (("close", 0), ("dup2", 1), ("dup3", 1)):
        rules.append((name, [_load_argument(target), *protect, is_standard, ALLOW, NOTIFY]))
    return rules


def _decide_by_table(*, may_exec: bool, may_fork: bool) -> Iterator[Rule]:
    """Decide calls that are not counted, some of them by their arguments."""
    if not may_fork:
        is_thread = _skip_if(ANY_BIT, CLONE_THREAD, 0, 1)
        yield "clone", [_load_argument(0), is_thread, ALLOW, DENY]
        yield "clone3", [_fail(errno.ENOSYS)]  # libc falls back to clone
    for name in OWN_PROCESS_ONLY:
        yield name, [_load_argument(0), _skip_if(EQUAL, OWN_PID, 0, 1), ALLOW, DENY]
    for name in OWN_PROCESS_OR_ZERO:
        is_own = [_skip_if(EQUAL, OWN_PID, 1, 0), _skip_if(EQUAL, 0, 0, 1)]
        yield name, [_load_argument(0), *is_own, ALLOW, DENY]
    for name, (index, values) in DENIED_VALUES.items():
        checks = [_skip_if(EQUAL, value, len(values) - n, 0) for n, value in enumerate(values)]
        if name == "ioctl":  # requests that encode a size belong to file systems, not terminals
            checks = [_skip_if(ANY_BIT, 0xFFFF0000, 0, 1), _fail(errno.ENOTTY), *checks]
        yield name, [_load_argument(index), *checks, ALLOW, DENY]
    for name in calls.IGNORED:
        yield name, [_fail(0)]
    denied = [*calls.DENIED, *(() if may_exec else calls.EXEC), *(() if may_fork else calls.FORK)]
    for name in denied:
        yield name, [DENY]


# -- instructions of classic BPF ---------------------------------------------------------------


def _assemble(rules: Iterable[Rule]) -> bytes:
    """Assemble a program for this machine, in which the first rule for a call decides it."""
    numbers = calls.load_numbers()
    code = [
        _load(ARCH_OFFSET),
        _skip_if(EQUAL, calls.ARCHITECTURES[platform.machine()], 1, 0),
        KILL,
        _load(NUMBER_OFFSET),
        _skip_if(GREATER, calls.LAST_REVIEWED, 0, 1),  # also skips all x32 calls
        _fail(errno.ENOSYS),
    ]
    for name, body in rules:
        if name in numbers:
            code += [_skip_if(EQUAL, numbers[name], 0, len(body)), *body]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in [*code, ALLOW])


def _load(offset: int) -> Instruction:
    return (LOAD, 0, 0, offset)


def _load_argument(index: int) -> Instruction:
    """Load the low 32 bits of an argument (x86-64 and arm64 are little-endian)."""
    return _load(ARGUMENTS_OFFSET + 8 * index)


def _skip_if(comparison: int, value: int, if_true: int, if_false: int) -> Instruction:
    """Compare the loaded value, and skip the next `if_true` or `if_false` instructions."""
    return (comparison, if_true, if_false, value)


def _fail(error: int) -> Instruction:
    """Have the call return this error without being made; 0 reports success."""
    return (RETURN, 0, 0, 0x00050000 | error)  # SECCOMP_RET_ERRNO


KILL = (RETURN, 0, 0, 0x80000000)  # SECCOMP_RET_KILL_PROCESS
NOTIFY = (RETURN, 0, 0, 0x7FC00000)  # SECCOMP_RET_USER_NOTIF: suspend it, notify the listener
ALLOW = (RETURN, 0, 0, 0x7FFF0000)  # SECCOMP_RET_ALLOW
DENY = _fail(errno.EPERM)
