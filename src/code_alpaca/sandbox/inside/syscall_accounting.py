"""Count what a confined process writes, creates and starts, before the kernel does it.

No resource limit bounds all files of a process together, nor the threads of root. The seccomp
filter therefore suspends each system call that writes, creates a file or starts a thread. The
fork server, which has the filter's listener (seccomp user notification,
https://man7.org/linux/man-pages/man2/seccomp_unotify.2.html), charges the call to a budget and
continues it, or fails it once the budget is spent. Only arguments in registers are read: no
other thread can change those. Written bytes stay charged when the file is deleted, so deleted
but open files count too.
"""

from __future__ import annotations

import errno
import fcntl
import struct
from collections.abc import Callable

from .seccomp_filter import STDERR
from .syscall_table import CREATE_ENTRY, EXEC, VECTOR_WRITE, load_numbers

NOTIF_RECV, NOTIF_SEND, CONTINUE = 0xC0502100, 0xC0182101, 1  # SECCOMP_IOCTL_*, _FLAG_CONTINUE
NOTIFICATION = struct.Struct("QIIiIQ6Q")  # struct seccomp_notif
RESPONSE = struct.Struct("QqiI")  # struct seccomp_notif_resp

MAX_THREADS = 256  # running at a time
MAX_STARTED_THREADS = 20_000  # in total
MAX_ENTRIES = 4_096  # in a folder at a time; each takes time to delete
WRITE_FACTOR = 4  # bytes that may be written in total, as a multiple of the largest file
# The smallest charges. A write at an offset may take another disk block.
FILE_BYTES, ENTRY_BYTES, WRITE_BYTES, OFFSET_WRITE_BYTES = 1 << 10, 4 << 10, 2 << 10, 4 << 10


class SyscallBudget:
    """What one child may still write, create and start; charged through its filter's listener.

    `file_bytes` is the size of the largest file; `has_more_entries` returns whether the child's
    folder contains more than a number of entries.
    """

    def __init__(
        self, listener: int, file_bytes: int, has_more_entries: Callable[[int], bool]
    ) -> None:
        self.listener, self.exceeded = listener, False
        self._file_bytes, self._bytes_left = file_bytes, WRITE_FACTOR * file_bytes
        self._has_more_entries = has_more_entries
        self._entries = self._threads_started = self._threads_ended = self._execs = 0
        self._output_redirected = False
        handlers: dict[str, Callable[[list[int]], int]] = {
            "clone": self._start_thread,
            "mmap": lambda _: self._charge(file_bytes),  # a mapped file may grow to its limit
            "write": self._write,
            "pwrite64": lambda arguments: self._charge_write(arguments, OFFSET_WRITE_BYTES),
            **dict.fromkeys(VECTOR_WRITE, self._write_vector),
            **dict.fromkeys(("open", "openat"), lambda _: self._charge_entry(FILE_BYTES)),
            **dict.fromkeys(CREATE_ENTRY, lambda _: self._charge_entry(ENTRY_BYTES)),
            **dict.fromkeys(("close", "dup2", "dup3"), self._redirect),
            **dict.fromkeys(EXEC, self._exec),
        }
        numbers = load_numbers()
        self._exit = numbers["exit"]
        self._handlers = {numbers[name]: run for name, run in handlers.items() if name in numbers}

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

    def _charge_entry(self, size: int) -> int:
        self._entries += 1
        return self._charge(size)

    def _charge_write(self, arguments: list[int], smallest: int) -> int:
        return self._charge(max(min(arguments[2], self._file_bytes), smallest))

    def _is_free_output(self, fd: int) -> bool:
        """Whether a descriptor is standard output or error, which the supervisor limits."""
        return fd <= STDERR and not self._output_redirected

    def _write(self, arguments: list[int]) -> int:
        free = self._is_free_output(arguments[0])
        return 0 if free else self._charge_write(arguments, WRITE_BYTES)

    def _write_vector(self, arguments: list[int]) -> int:
        return 0 if self._is_free_output(arguments[0]) else errno.EINVAL

    def _exec(self, _: list[int]) -> int:
        """Allow it. After the requested program, others may have closed standard output."""
        self._execs += 1
        self._output_redirected = self._output_redirected or self._execs > 1
        return 0

    def _redirect(self, _: list[int]) -> int:
        self._output_redirected = True
        return 0
