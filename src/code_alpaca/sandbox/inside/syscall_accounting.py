"""Count what a confined process writes, creates and starts, before the kernel does it.

No resource limit bounds all files of a process together, nor the threads of root. The seccomp
filter therefore suspends each system call that writes, creates a file or starts a thread. The
fork server, which has the filter's listener (seccomp user notification,
https://man7.org/linux/man-pages/man2/seccomp_unotify.2.html), charges the call to a budget and
continues it, or fails it once the budget is spent. Only arguments in registers are read: no
other thread can change those. Written bytes stay charged when the file is deleted, so deleted
but open files count too.

Calls that write without a size in a register fail with the error after which callers fall back
to `write` (`syscall_table.UNCOUNTABLE`).
"""

from __future__ import annotations

import errno
import fcntl
import struct
from collections.abc import Callable

from . import bpf, syscall_table
from .seccomp_filter import CLONE_THREAD, Rule
from .syscall_table import select_numbers

NOTIF_RECV, NOTIF_SEND, CONTINUE = 0xC0502100, 0xC0182101, 1  # SECCOMP_IOCTL_*, _FLAG_CONTINUE
NOTIFICATION = struct.Struct("QIIiIQ6Q")  # struct seccomp_notif
RESPONSE = struct.Struct("QqiI")  # struct seccomp_notif_resp
MAP_SHARED, MAP_ANONYMOUS = 0x01, 0x20
O_CREAT, O_TMPFILE = 0x40, 0x400000
STDERR = 2

MAX_THREADS = 256  # running at a time
MAX_STARTED_THREADS = 20_000  # in total
MAX_ENTRIES = 4_096  # in a folder at a time; each takes time to delete
WRITE_FACTOR = 4  # bytes that may be written in total, as a multiple of the largest file
# The smallest charges. A write at an offset may take a disk block of its own.
FILE_BYTES, ENTRY_BYTES, WRITE_BYTES, OFFSET_WRITE_BYTES = 1 << 10, 4 << 10, 2 << 10, 4 << 10


def build_rules(
    protected_fds: list[int], *, threads: bool, files: bool, may_exec: bool = False
) -> list[Rule]:
    """Return the filter rules that suspend the counted system calls.

    Args:
        protected_fds: file descriptors that are written for free; they can be neither closed
            nor replaced.
        threads, files: what to count.
        may_exec: whether the process may become another program.
    """
    numbers = syscall_table.load_numbers()
    rules: list[Rule] = []
    if threads:
        is_thread = [bpf.load_argument(0), bpf.skip_if_any_bit(CLONE_THREAD, 0, 1)]
        rules.append((numbers["clone"], [*is_thread, bpf.NOTIFY, bpf.fail_with(errno.EPERM)]))
        rules.append((numbers["exit"], [bpf.NOTIFY]))
    if files:
        rules += _write_rules(protected_fds, numbers, may_exec=may_exec)
        rules += _descriptor_rules(protected_fds, numbers)
    return rules


def _write_rules(
    protected_fds: list[int], numbers: dict[str, int], *, may_exec: bool
) -> list[Rule]:
    free = [step for fd in protected_fds for step in (bpf.skip_if_equal(fd, 0, 1), bpf.ALLOW)]
    write = [bpf.load_argument(0), *free, bpf.NOTIFY]
    rules = [(number, write) for number in select_numbers(syscall_table.WRITE, numbers)]
    always = [*syscall_table.VECTOR_WRITE, *syscall_table.CREATE_ENTRY]
    always += syscall_table.EXEC if may_exec else []
    rules += [(number, [bpf.NOTIFY]) for number in select_numbers(always, numbers)]
    for error, rows in syscall_table.UNCOUNTABLE.items():
        rules += [(number, [bpf.fail_with(error)]) for number in select_numbers(rows, numbers)]
    is_shared = [bpf.skip_if_any_bit(MAP_ANONYMOUS, 2, 0), bpf.skip_if_any_bit(MAP_SHARED, 0, 1)]
    rules.append((numbers["mmap"], [bpf.load_argument(3), *is_shared, bpf.NOTIFY, bpf.ALLOW]))
    return rules


def _descriptor_rules(protected_fds: list[int], numbers: dict[str, int]) -> list[Rule]:
    """Return the rules of calls that create a file or change what a descriptor refers to."""
    rules: list[Rule] = []
    for name, flags in (("open", 1), ("openat", 2)):
        if name in numbers:
            creates = [bpf.load_argument(flags), bpf.skip_if_any_bit(O_CREAT | O_TMPFILE, 0, 1)]
            rules.append((numbers[name], [*creates, bpf.NOTIFY, bpf.ALLOW]))
    keep = bpf.fail_with(errno.EBADF)
    protect = [step for fd in protected_fds for step in (bpf.skip_if_equal(fd, 0, 1), keep)]
    for name, target in (("close", 0), ("dup2", 1), ("dup3", 1)):
        if name in numbers:
            is_standard = [bpf.skip_if_greater(STDERR, 0, 1), bpf.ALLOW, bpf.NOTIFY]
            rules.append((numbers[name], [bpf.load_argument(target), *protect, *is_standard]))
    return rules


class SyscallBudget:
    """What one child may still write, create and start; charged through its filter's listener.

    Args:
        listener: file descriptor of the filter's notifications.
        file_bytes: size of the largest file; `WRITE_FACTOR` times as much may be written.
        has_more_entries: whether the child's folder contains more than a number of entries.
    """

    def __init__(
        self, listener: int, file_bytes: int, has_more_entries: Callable[[int], bool]
    ) -> None:
        self.listener = listener
        self.exceeded = False
        self._file_bytes, self._bytes_left = file_bytes, WRITE_FACTOR * file_bytes
        self._has_more_entries = has_more_entries
        self._entries = self._threads_started = self._threads_ended = self._execs = 0
        self._output_redirected = False
        numbers = syscall_table.load_numbers()
        handlers = {"clone": self._start_thread, "mmap": self._map_file}
        handlers |= {"write": self._write, "pwrite64": self._write_at_offset}
        handlers |= {name: self._write_vector for name, *_ in syscall_table.VECTOR_WRITE}
        handlers |= {name: self._open_file for name, *_ in syscall_table.OPEN}
        handlers |= {name: self._redirect for name, *_ in syscall_table.REDIRECT}
        handlers |= {name: self._create_entry for name, *_ in syscall_table.CREATE_ENTRY}
        handlers |= {name: self._exec for name, *_ in syscall_table.EXEC}
        self._handlers = {
            numbers[name]: handler for name, handler in handlers.items() if name in numbers
        }
        self._exit = numbers["exit"]

    def decide(self) -> None:
        """Decide one suspended call, and set `exceeded` if it is past the budget."""
        buffer = bytearray(NOTIFICATION.size)
        try:
            fcntl.ioctl(self.listener, NOTIF_RECV, buffer)
        except OSError:  # the calling thread has ended
            return
        call_id, _, _, number, _, _, *arguments = NOTIFICATION.unpack(buffer)
        error = 0 if number == self._exit else self._handlers[number](arguments)
        response = RESPONSE.pack(call_id, 0, -error, 0 if error else CONTINUE)
        try:
            fcntl.ioctl(self.listener, NOTIF_SEND, response)
        except OSError:
            return
        self._threads_ended += number == self._exit

    def _start_thread(self, _: list[int]) -> int:
        running = self._threads_started - self._threads_ended
        if running >= MAX_THREADS or self._threads_started >= MAX_STARTED_THREADS:
            return errno.EAGAIN
        self._threads_started += 1
        return 0

    def _charge(self, size: int) -> int:
        self._bytes_left -= size
        if self._entries > MAX_ENTRIES:  # counts files that existed or are deleted, so count again
            self._entries = MAX_ENTRIES // 2
            self.exceeded = self._has_more_entries(self._entries)
        self.exceeded = self.exceeded or self._bytes_left < 0
        return errno.EDQUOT if self.exceeded else 0

    def _is_free_output(self, fd: int) -> bool:
        """Whether a descriptor is standard output or error, which the supervisor limits."""
        return fd <= STDERR and not self._output_redirected

    def _write(self, arguments: list[int]) -> int:
        if self._is_free_output(arguments[0]):
            return 0
        return self._charge(max(min(arguments[2], self._file_bytes), WRITE_BYTES))

    def _write_at_offset(self, arguments: list[int]) -> int:
        return self._charge(max(min(arguments[2], self._file_bytes), OFFSET_WRITE_BYTES))

    def _write_vector(self, arguments: list[int]) -> int:
        return 0 if self._is_free_output(arguments[0]) else errno.EINVAL

    def _map_file(self, _: list[int]) -> int:
        return self._charge(self._file_bytes)  # a mapped file may grow up to its limit

    def _open_file(self, _: list[int]) -> int:
        self._entries += 1
        return self._charge(FILE_BYTES)

    def _create_entry(self, _: list[int]) -> int:
        self._entries += 1
        return self._charge(ENTRY_BYTES)

    def _exec(self, _: list[int]) -> int:
        """Allow it. After the requested program, others may have closed standard output."""
        self._execs += 1
        self._output_redirected = self._output_redirected or self._execs > 1
        return 0

    def _redirect(self, _: list[int]) -> int:
        self._output_redirected = True
        return 0
