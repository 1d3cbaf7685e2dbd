"""Count what a locked-in process writes, creates and starts, before the kernel does it.

No resource limit bounds the files of a process together, or the threads of root. So the filter
of `lock.py` suspends each system call that writes, creates or starts a thread, and the zygote,
which holds the other end (https://man7.org/linux/man-pages/man2/seccomp_unotify.2.html), charges
it to a budget and lets it continue, or says that the budget is spent. Only the arguments in
registers are looked at, which no other thread can change. What is written stays charged when
its file is deleted, so files that are deleted but open count too.

Ways to write that carry no size in a register are refused with the error after which callers
fall back to `write` (sendfile, splice, copy_file_range, fallocate).
"""

from __future__ import annotations

import errno
import fcntl
import struct
from collections.abc import Callable

ALLOW, ERRNO, NOTIFY = 0x7FFF0000, 0x00050000, 0x7FC00000
RECEIVE, SEND, CONTINUE = 0xC0502100, 0xC0182101, 1
CLONE_THREAD, MAP_SHARED, MAP_ANONYMOUS = 0x10000, 0x01, 0x20
O_CREAT, O_TMPFILE = 0x40, 0x400000
NONE = -1

MOST_THREADS = 256  # at a time
MOST_STARTS = 20_000  # of threads in all
MOST_ENTRIES = 4_096  # in a folder at a time; each takes a while to delete
# The least that each is charged. A write at a place of its own takes a block of the disk.
FILE_BYTES, ENTRY_BYTES, WRITE_BYTES, PLACED_BYTES = 1 << 10, 4 << 10, 2 << 10, 4 << 10

# System calls by name: their numbers on x86-64 and on arm64.
CLONE, EXIT = (56, 220), (60, 93)
WRITE, PWRITE = (1, 64), (18, 68)
VECTORS = ((20, 66), (296, 70), (328, 287))  # writev, pwritev, pwritev2
MMAP, CLOSE, DUP2, DUP3 = (9, 222), (3, 57), (33, NONE), (292, 24)
OPEN, OPENAT, MEMFD = (2, NONE), (257, 56), (319, 279)
EXECS = ((59, 221), (322, 281))
ENTRIES = (
    (85, NONE),
    (83, NONE),
    (258, 34),
    (133, NONE),
    (259, 33),
    (86, NONE),
    (265, 37),
    (88, NONE),
    (266, 36),
    (316, 276),
    MEMFD,
)  # creat, mkdir, mknod, link, symlink, ...
REFUSED = {
    (40, 71): errno.EINVAL,  # sendfile
    (326, 285): errno.EINVAL,  # copy_file_range
    (275, 76): errno.EINVAL,  # splice
    (285, 47): errno.EOPNOTSUPP,  # fallocate
    (437, 437): errno.ENOSYS,  # openat2, whose flags are in memory
    (436, 436): errno.ENOSYS,  # close_range
}  # fmt: skip

Rule = tuple[int, list[tuple[int, int, int, int]]]  # number of a system call, BPF that decides it


def rules(
    column: int, own: list[int], *, threads: bool, files: bool, execs: bool = False
) -> list[Rule]:
    """What the filter does with the system calls that are counted.

    Args:
        column: 0 for x86-64, 1 for arm64.
        own: descriptors whose writes are free; they can then not be closed or replaced.
        threads, files: what to count.
        execs: whether it may become another program.
    """
    allow, notify = (0x06, 0, 0, ALLOW), (0x06, 0, 0, NOTIFY)
    found: list[tuple[tuple[int, int], list[tuple[int, int, int, int]]]] = []
    if threads:
        is_thread = [_argument(0), (0x45, 0, 1, CLONE_THREAD), notify, _error(errno.EPERM)]
        found += [(CLONE, is_thread), (EXIT, [notify])]
    if files:
        free = [step for handle in own for step in ((0x15, 0, 1, handle), allow)]
        found += [(numbers, [_argument(0), *free, notify]) for numbers in (WRITE, PWRITE)]
        found += [(numbers, [notify]) for numbers in (*VECTORS, *ENTRIES)]
        found += [(numbers, [notify]) for numbers in EXECS if execs]
        found += [(numbers, [_error(number)]) for numbers, number in REFUSED.items()]
        shared = [_argument(3), (0x45, 2, 0, MAP_ANONYMOUS), (0x45, 0, 1, MAP_SHARED)]
        found.append((MMAP, [*shared, notify, allow]))
        for numbers, flags in ((OPEN, 1), (OPENAT, 2)):
            creates = [_argument(flags), (0x45, 0, 1, O_CREAT | O_TMPFILE), notify, allow]
            found.append((numbers, creates))
        for numbers, handle in ((CLOSE, 0), (DUP2, 1), (DUP3, 1)):
            standard = [(0x25, 0, 1, 2), allow, notify]  # above 2: free
            refused = [s for own_fd in own for s in ((0x15, 0, 1, own_fd), _error(errno.EBADF))]
            found.append((numbers, [_argument(handle), *refused, *standard]))
    return [(numbers[column], body) for numbers, body in found if numbers[column] != NONE]


def _argument(place: int) -> tuple[int, int, int, int]:
    return (0x20, 0, 0, 16 + 8 * place)  # the low half of a 64-bit argument, little-endian


def _error(number: int) -> tuple[int, int, int, int]:
    return (0x06, 0, 0, ERRNO | number)


class Meter:
    """The budget of one child, charged from the other end of its filter.

    Args:
        listener: file descriptor of the filter's notifications.
        largest: bytes that one file may hold; four times that may be written in all.
        crowded: whether the folder holds more entries than a number.
    """

    def __init__(
        self, listener: int, column: int, largest: int, crowded: Callable[[int], bool]
    ) -> None:
        self.listener, self.spent = listener, False
        self._largest, self._left, self._crowded = largest, 4 * largest, crowded
        self._created = self._started = self._ended = self._execs = 0
        self._redirected = False
        self._charges = {CLONE[column]: self._start, MMAP[column]: self._map}
        self._charges |= {WRITE[column]: self._write, PWRITE[column]: self._write_at}
        self._charges |= {numbers[column]: self._write_vector for numbers in VECTORS}
        self._charges |= {numbers[column]: self._open for numbers in (OPEN, OPENAT)}
        self._charges |= {numbers[column]: self._redirect for numbers in (CLOSE, DUP2, DUP3)}
        self._charges |= {numbers[column]: self._enter for numbers in ENTRIES}
        self._charges |= {numbers[column]: self._exec for numbers in EXECS}
        self._charges.pop(NONE, None)
        self._exit = EXIT[column]

    def answer(self) -> None:
        """Decide one suspended call. `spent` is set where the process is past its budget."""
        note = bytearray(80)
        try:
            fcntl.ioctl(self.listener, RECEIVE, note)
        except OSError:  # the thread that called is gone
            return
        call, _, _, number, _, _, *arguments = struct.unpack("QIIiIQ6Q", note)
        error = 0 if number == self._exit else self._charges[number](arguments)
        answer = struct.pack("QqiI", call, 0, -error, 0 if error else CONTINUE)
        try:
            fcntl.ioctl(self.listener, SEND, answer)
        except OSError:
            return
        self._ended += number == self._exit

    def _start(self, _: list[int]) -> int:
        if self._started - self._ended >= MOST_THREADS or self._started >= MOST_STARTS:
            return errno.EAGAIN
        self._started += 1
        return 0

    def _charge(self, size: int) -> int:
        self._left -= size
        if self._created > MOST_ENTRIES:  # also files that were there, or are there no more
            self._created = MOST_ENTRIES // 2
            self.spent = self._crowded(self._created)
        self.spent = self.spent or self._left < 0
        return errno.EDQUOT if self.spent else 0

    def _write(self, arguments: list[int]) -> int:
        if arguments[0] <= 2 and not self._redirected:
            return 0  # standard output, which the parent limits
        return self._charge(max(min(arguments[2], self._largest), WRITE_BYTES))

    def _write_at(self, arguments: list[int]) -> int:
        return self._charge(max(min(arguments[2], self._largest), PLACED_BYTES))

    def _write_vector(self, arguments: list[int]) -> int:
        return 0 if arguments[0] <= 2 and not self._redirected else errno.EINVAL

    def _map(self, _: list[int]) -> int:
        return self._charge(self._largest)  # it may grow as far as the file can

    def _open(self, _: list[int]) -> int:
        self._created += 1
        return self._charge(FILE_BYTES)

    def _enter(self, _: list[int]) -> int:
        self._created += 1
        return self._charge(ENTRY_BYTES)

    def _exec(self, _: list[int]) -> int:
        """The first is the one that was ordered; others may close standard output on the way."""
        self._execs += 1
        self._redirected = self._redirected or self._execs > 1
        return 0

    def _redirect(self, _: list[int]) -> int:
        self._redirected = True
        return 0
