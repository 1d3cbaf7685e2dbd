"""Lock a process in, from the inside: limits, Landlock, no capabilities, seccomp.

Called in a fresh child just before it runs code that nobody trusts. What each layer does:

- rlimits hold CPU time, address space, file size, open files, queued signals and core dumps;
- Landlock (https://docs.kernel.org/userspace-api/landlock.html) leaves a list of folders to
  read and at most one to write, and no TCP port;
- seccomp (https://docs.kernel.org/userspace-api/seccomp_filter.html) forbids new processes,
  sockets, signals and limits for others, tracing, System V memory, the keyring, changes of
  owner, timers, filters of its own, and every system call newer than this list; it ignores
  changes of mode and times, which Landlock does not see, and syncs, and asks the zygote about
  the calls that `meter.py` counts.

Standard library alone: this runs in an interpreter without installed packages.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct

libc = ctypes.CDLL(None, use_errno=True)

# -- Landlock --------------------------------------------------------------------------------

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
TRUNCATE, IOCTL_DEV = 1 << 14, 1 << 15
READ = EXECUTE | READ_FILE | READ_DIR
OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
# Rights of the file system that each version of the interface knows, by version.
FS_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
TCP = 0b11  # bind, connect: since version 4
SCOPES = 0b11  # abstract Unix sockets, signals: since version 6
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")


def landlock_version() -> int:
    """The kernel's version of the interface; 0 where there is none."""
    return max(0, libc.syscall(CREATE_RULESET, None, 0, 1))


def landlock_ruleset(readable: list[str], writable: str | None) -> int:
    """A ruleset's file descriptor: these may be read and executed, that one written.

    Raises:
        OSError: the kernel refused.
    """
    version = landlock_version()
    handled = FS_RIGHTS.get(version, (1 << 16) - 1)
    attributes = struct.pack(
        "QQQ", handled, TCP if version >= 4 else 0, SCOPES if version >= 6 else 0
    )
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = _checked(libc.syscall(CREATE_RULESET, attributes, size, 0))
    for path in readable:
        _allow(ruleset, path, READ & handled)
    for path in DEVICES:
        _allow(ruleset, path, (READ_FILE | WRITE_FILE) & handled)
    if writable:
        _allow(ruleset, writable, handled)
    return ruleset


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not os.path.isdir(path):
            rights &= OF_A_FILE
        rule = struct.pack("=Qi", rights, handle)
        _checked(libc.syscall(ADD_RULE, ruleset, 1, rule, 0))
    finally:
        os.close(handle)


# -- seccomp ---------------------------------------------------------------------------------

X86_64, AARCH64 = 0xC000003E, 0xC00000B7
LAST_KNOWN = 450  # newer system calls answer ENOSYS: nobody has looked at what they could do
EPERM, ENOTTY, ENOSYS = 1, 25, 38
ALLOW, ERRNO, KILL, NOTIFY = 0x7FFF0000, 0x00050000, 0x80000000, 0x7FC00000
MOST_SIGNALS = 64  # queued for one user; each timer takes one
CLONE_THREAD = 0x10000
NONE = -1

# System calls by name: their numbers on x86-64 and on arm64.
DENIED = {
    "kill others": [(200, 130), (129, 138), (297, 240), (434, 434), (424, 424), (438, 438)],
    "trace": [(101, 117), (310, 270), (311, 271), (440, 440), (448, 448), (312, 272)],
    "sockets": [(41, 198), (42, 203), (49, 200), (50, 201), (43, 202), (288, 242)],
    "asynchronous writes": [(425, 425), (426, 426), (427, 427), (206, 0), (209, 2)],
    "timers": [(222, 107)],
    "watching folders": [(254, 27)],
    "filters": [(317, 277)],
    "shared memory and queues": [(29, 194), (30, 196), (68, 186), (69, 189), (64, 190), (240, 180)],
    "keyring": [(250, 219), (248, 217), (249, 218)],
    "kernel": [(321, 280), (298, 241), (323, 282), (175, 105), (313, 273), (176, 106), (246, 104),
               (320, 294), (169, 142), (167, 224), (168, 225), (163, 89), (103, 116), (153, 58),
               (172, NONE), (173, NONE), (154, NONE), (447, 447)],
    "mounts and namespaces": [(165, 40), (166, 39), (155, 41), (161, 51), (308, 268), (272, 97),
                              (428, 428), (429, 429), (430, 430), (431, 431), (432, 432),
                              (433, 433), (442, 442), (303, 264), (304, 265), (300, 262),
                              (179, 60), (443, 443)],
    "clock and host": [(164, 170), (227, 112), (305, 266), (159, 171), (170, 161), (171, 162),
                       (135, 92)],
    "owner": [(92, NONE), (94, NONE), (93, 55), (260, 54)],
    "size and attributes": [(76, 45), (188, 5), (189, 6), (190, 7), (197, 14), (198, 15),
                            (199, 16)],
    "scheduling": [(144, 119), (142, 118), (314, 274), (141, 140), (251, 30), (256, 238),
                   (279, 239)],
}  # fmt: skip
# Do nothing, and report success: Landlock does not confine the first, which shutil.copy needs,
# and the last would keep the disks of the machine busy for files that are deleted in a moment.
IGNORED = {
    "mode": [(90, NONE), (91, 52), (268, 53)],
    "times": [(132, NONE), (235, NONE), (280, 88), (261, NONE)],
    "syncs": [(162, 81), (306, 267), (74, 82), (75, 83), (277, 84)],
}
FORK, VFORK, CLONE, CLONE3 = (57, NONE), (58, NONE), (56, 220), (435, 435)
EXECVE, EXECVEAT = (59, 221), (322, 281)
# Allowed on oneself: system call, which argument names the process.
ON_ONESELF = {"kill": ((62, 129), 0), "tgkill": ((234, 131), 0)}
ON_ONESELF_OR_0 = {"prlimit64": ((302, 261), 0), "sched_setaffinity": ((203, 122), 0)}
# Refused for some values of an argument: system call, which argument, the values.
REFUSED_VALUES = {
    "prctl": ((157, 167), 0, (1, 22)),  # outliving the parent, filters of its own
    "fcntl": ((72, 25), 1, (8, 10, 15)),  # signals to others: F_SETOWN, F_SETSIG, F_SETOWN_EX
    "ioctl": (
        (16, 29),
        1,
        (
            0x8901,
            0x8902,
            0x5412,
            0x541C,  # the same, and typing for others
            0x40305828,
            0x4030582A,
            0x40305839,
        ),
    ),  # space of a file, without a write
}


Rule = tuple[int, list[tuple[int, int, int, int]]]  # number of a system call, BPF that decides it


PID = 0x7FFFFFFE  # stands for the process's own number in a filter that is made before it


def seccomp_program(
    *, may_exec: bool, may_fork: bool, rules: list[Rule], ask: bool = True
) -> bytes:
    """Make the filter as BPF instructions (struct sock_filter each) for this machine.

    Args:
        rules: those that come first; `ask` is False where nobody can be asked, so that what
            they would ask about is allowed.

    Returns:
        a filter with PID where the number of the process belongs (see `for_process`).

    Raises:
        OSError: a processor whose system calls are not listed.
    """
    column, arch = machine()
    code: list[tuple[int, int, int, int]] = []

    def load(offset: int) -> None:
        code.append((0x20, 0, 0, offset))  # BPF_LD | BPF_W | BPF_ABS

    def on_equal(value: int, body: list[tuple[int, int, int, int]]) -> None:
        code.append((0x15, 0, len(body), value))  # BPF_JEQ: else skip the body
        code.extend(body)

    allow, refuse = (0x06, 0, 0, ALLOW), (0x06, 0, 0, ERRNO | EPERM)
    load(4)
    code += [(0x15, 1, 0, arch), (0x06, 0, 0, KILL)]
    load(0)
    code += [(0x25, 0, 1, LAST_KNOWN), (0x06, 0, 0, ERRNO | ENOSYS)]  # BPF_JGT; also all of x32
    denied = [numbers[column] for group in DENIED.values() for numbers in group]
    for number, body in rules:
        on_equal(number, [step if ask or step[3] != NOTIFY else allow for step in body])
    if not may_exec:
        denied += [EXECVE[column], EXECVEAT[column]]
    if not may_fork:
        denied += [FORK[column], VFORK[column]]
        thread = [_argument(0), (0x45, 0, 1, CLONE_THREAD), allow, refuse]  # BPF_JSET
        on_equal(CLONE[column], thread)
        on_equal(CLONE3[column], [(0x06, 0, 0, ERRNO | ENOSYS)])  # libc goes back to clone
    for numbers, argument in ON_ONESELF.values():
        on_equal(numbers[column], [_argument(argument), (0x15, 0, 1, PID), allow, refuse])
    for numbers, argument in ON_ONESELF_OR_0.values():
        body = [_argument(argument), (0x15, 1, 0, PID), (0x15, 0, 1, 0), allow, refuse]
        on_equal(numbers[column], body)
    for name, (numbers, argument, values) in REFUSED_VALUES.items():
        tests = [(0x15, len(values) - place, 0, value) for place, value in enumerate(values)]
        if name == "ioctl":  # requests with a size: file systems' own, which terminals do without
            tests = [(0x45, 0, 1, 0xFFFF0000), (0x06, 0, 0, ERRNO | ENOTTY), *tests]
        on_equal(numbers[column], [_argument(argument), *tests, allow, refuse])
    for group in IGNORED.values():
        for numbers in group:
            if numbers[column] != NONE:
                on_equal(numbers[column], [(0x06, 0, 0, ERRNO)])
    for number in denied:
        if number != NONE:
            on_equal(number, [refuse])
    code.append(allow)
    return b"".join(struct.pack("HBBI", *one) for one in code)


def for_process(program: bytes, pid: int) -> bytes:
    return program.replace(struct.pack("I", PID), struct.pack("I", pid))


def _argument(place: int) -> tuple[int, int, int, int]:
    return (0x20, 0, 0, 16 + 8 * place)  # the low half of a 64-bit argument, little-endian


def machine() -> tuple[int, int]:
    """The column of this machine in the tables, and its name in a filter.

    Raises:
        OSError: a processor whose system calls are not listed.
    """
    found = {"x86_64": (0, X86_64), "aarch64": (1, AARCH64)}.get(platform.machine())
    if found is None:
        raise OSError(ENOSYS, f"no seccomp filter for {platform.machine()}")
    return found


# -- all of it -------------------------------------------------------------------------------


def restrict(
    *,
    ruleset: int | None,
    filters: list[bytes],
    processes: int,
    cpu_s: float,
    memory: int,
    file_size: int,
    open_files: int,
) -> int | None:
    """Lock this process in for good. `memory` and `file_size` are bytes.

    Args:
        filters: seccomp programs, of which the first that can be installed is; all but the last
            ask questions. None: no seccomp.
        processes: above 0 lets it start others, that number at a time: a limit that the kernel
            does not hold for root (RLIMIT_NPROC).

    Returns:
        the file descriptor at which the filter asks; None where there is nothing to ask, or no
        way to.

    Raises:
        OSError: a layer that was asked for could not be put in place; do not go on.
    """
    limits = {
        resource.RLIMIT_CPU: int(cpu_s) + 1,
        resource.RLIMIT_FSIZE: file_size,
        resource.RLIMIT_NOFILE: open_files,
        resource.RLIMIT_SIGPENDING: MOST_SIGNALS,
        resource.RLIMIT_CORE: 0,
    }
    if memory:
        limits[resource.RLIMIT_AS] = memory
    if processes:
        limits[resource.RLIMIT_NPROC] = processes
    for kind, most in limits.items():
        resource.setrlimit(kind, (most, most))
    _prctl(1, 9)  # PR_SET_PDEATHSIG: SIGKILL, should the parent die
    _prctl(38, 1)  # PR_SET_NO_NEW_PRIVS
    if ruleset is not None:
        _checked(libc.syscall(RESTRICT_SELF, ruleset, 0))
    if not filters:
        return None
    drop_capabilities()
    *asking, silent = (for_process(program, os.getpid()) for program in filters)
    for program in asking:
        for flags in (LISTEN | WAIT_KILLABLE, LISTEN):
            listener = _install(program, flags)
            if listener >= 0:
                return listener
    # A kernel without such questions, or a container that already asks them.
    _checked(_install(silent, 0))
    return None


LISTEN, WAIT_KILLABLE = 1 << 3, 1 << 5  # SECCOMP_FILTER_FLAG_*; the second since Linux 5.19


def _install(program: bytes, flags: int) -> int:
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    number = 317 if platform.machine() == "x86_64" else 277
    return libc.syscall(number, 1, flags, ctypes.c_char_p(header))


def drop_capabilities() -> None:
    """Give up all of root's powers, also those that an exec would give back."""
    if os.geteuid() == 0:
        libc.prctl(28, 0x2F, 0, 0, 0)  # PR_SET_SECUREBITS: no root by uid, locked
    header, none = struct.pack("Ii", 0x20080522, 0), bytes(24)
    _checked(libc.syscall(126 if platform.machine() == "x86_64" else 91, header, none))  # capset


def _prctl(option: int, value: int) -> None:
    _checked(libc.prctl(option, value, 0, 0, 0))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
