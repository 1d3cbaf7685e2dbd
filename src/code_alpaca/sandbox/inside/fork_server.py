"""Start a confined child process for each program; the process that runs inside a sandbox.

A fork server (Android calls it a zygote) makes a start cost a fork instead of an interpreter. It
runs no untrusted code. For each `ChildRequest` it forks; the child confines itself
(`confinement`) before it reads what to run. So nothing leaks from one program to the next: a
program has a private copy of this process's memory and no file descriptors but its own, it may
not signal, trace or start processes, and the only folder that it may write, if any, is removed
when it ends. What it writes and starts is counted here (`syscall_accounting`).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable

from . import control_protocol, harness, mutation_runner, solution_server, solution_tester
from .confinement import OWN_FDS, set_up_child
from .control_protocol import ChildReport, ChildRequest, ServerConfig
from .folder_cleanup import exceeds
from .program_folders import ProgramFolders
from .seccomp_filter import build_filters
from .syscall_accounting import MAX_ENTRIES, SyscallBudget

# What programs import most often: importing it again in a child costs next to nothing.
for name in ("bisect", "collections", "copy", "dataclasses", "datetime", "decimal", "enum",
             "fractions", "functools", "hashlib", "heapq", "itertools", "math", "operator",
             "random", "re", "statistics", "string", "struct", "textwrap", "typing"):  # fmt: skip
    __import__(name)

ENTRY_POINTS = {
    control_protocol.PROGRAM: harness.run_program,
    control_protocol.COMMAND: harness.run_command,
    control_protocol.MUTANTS: mutation_runner.run_mutants,
    control_protocol.SOLUTION: solution_server.serve_solution,
    control_protocol.TESTS: solution_tester.run_tests,
}
# How many of a child's descriptors (its channel, its peer) are protected from being replaced.
PROTECTED_FDS = {
    control_protocol.PROGRAM: 1,
    control_protocol.MUTANTS: 1,
    control_protocol.COMMAND: 0,
}
MAX_FDS = 4  # that come with a request
FOLDER_CHECK_MS = 20  # where writes cannot be counted
UNLIMITED = 1 << 62
PR_SET_DUMPABLE, M_ARENA_MAX = 4, -8
KEEP_ALIVE: list[object] = []
Handler = Callable[[int], None]  # gets the events of a file descriptor


def main() -> None:
    """Serve requests until the control socket closes; in a child, run what was requested."""
    control = socket.socket(fileno=int(sys.argv[1]))
    config = ServerConfig(**json.loads(sys.argv[2]))
    sys.path[:1] = []  # the folder of this package, which programs must not import
    sys.path += config.packages
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # no other process may read this one's memory
    libc.mallopt(M_ARENA_MAX, 2)  # each further one, for a thread, reserves 64 MiB of addresses
    os.chdir(config.work_folder)
    gc.collect()
    gc.freeze()
    control.send(control_protocol.READY)
    try:
        ForkServer(control, config).serve()
    except RunInChild as child:
        kind, fds = child.args
    # Only a child continues here, so no frame of the server is below those of the program.
    exit_code = 1
    try:
        ENTRY_POINTS[kind](*fds)
        exit_code = 0
    except BaseException as error:
        with contextlib.suppress(BaseException):
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(exit_code)


class RunInChild(BaseException):
    """Unwinds the stack of a child up to `main`, with the kind of child and its descriptors."""


class RunningChild:
    """A child that has not ended: its request, process, folder, and descriptors to watch."""

    def __init__(self, request: ChildRequest, pid: int, folder: str | None) -> None:
        self.job, self.pid, self.folder = request.job, pid, folder
        self.folder_bytes = request.folder_bytes
        self.fds: list[int] = []
        self.budget: SyscallBudget | None = None
        self.folder_polled = False  # its writes cannot be counted, so its folder is measured
        self.folder_full = False  # and the child was killed for that

    def kill(self, *, folder_full: bool = False) -> None:
        """Kill it; the event loop reaps it."""
        self.folder_full = self.folder_full or folder_full
        os.kill(self.pid, signal.SIGKILL)


class ForkServer:
    """Fork children, decide their counted system calls, and report how each ended."""

    def __init__(self, control: socket.socket, config: ServerConfig) -> None:
        self.control, self.config = control, config
        self.children: list[RunningChild] = []
        self.handlers: dict[int, Handler] = {}
        self.poll = select.poll()
        self._watch(control.fileno(), lambda _: self._receive_request())
        self.filters: dict[tuple, list[bytes]] = {}
        self.folders = ProgramFolders(config)

    def serve(self) -> None:
        """Handle events until the supervisor ends; in a child, raise `RunInChild`."""
        while True:
            polled = any(child.folder_polled for child in self.children)
            events = self.poll.poll(FOLDER_CHECK_MS if polled else None)
            pending = [(fd, event, self.handlers[fd]) for fd, event in events]
            for fd, event, handler in pending:
                if self.handlers.get(fd) is handler:  # not closed by an earlier handler
                    handler(event)
            for child in self.children:
                if child.folder_polled and exceeds(child.folder, child.folder_bytes, MAX_ENTRIES):
                    child.kill(folder_full=True)

    def _receive_request(self) -> None:
        data, fds, _, _ = socket.recv_fds(self.control, control_protocol.MAX_REQUEST, MAX_FDS)
        if not data:  # the supervisor has ended
            self._shut_down()
        message = json.loads(data)
        if "kill" not in message:
            self._start(ChildRequest(**message), fds)
            return
        for child in self.children:
            if child.job == message["kill"]:
                child.kill()

    def _start(self, request: ChildRequest, fds: list[int]) -> None:
        has_folder = request.folder_bytes > 0
        folder = self.folders.make(request.folder, request.files) if has_folder else None
        ruleset = self.folders.get_ruleset(folder)
        receiver, sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        filters = self._get_filters(request)
        pid = os.fork()
        if pid == 0:
            # Their destructors would close descriptor numbers that are reused below.
            KEEP_ALIVE.extend([self, receiver])
            own_fds = set_up_child(request, [sender.detach(), *fds], folder, ruleset, filters)
            raise RunInChild(request.kind, own_fds)
        sender.close()
        for fd in fds:
            os.close(fd)
        child = RunningChild(request, pid, folder)
        self.children.append(child)
        self._watch(os.pidfd_open(pid), lambda _: self._reap(child), child)
        self._watch(receiver.detach(), lambda _: self._receive_listener(child), child)

    def _get_filters(self, request: ChildRequest) -> list[bytes]:
        """Return the seccomp filters of a child; built once for all children of a kind."""
        if not self.config.seccomp:
            return []
        key = (request.kind, request.max_processes > 0, request.folder_bytes > 0)
        if key not in self.filters:
            kind, may_fork, may_write = key
            may_exec = kind == control_protocol.COMMAND
            protected_fds = OWN_FDS[: PROTECTED_FDS.get(kind, 2)]
            self.filters[key] = build_filters(
                protected_fds, may_exec=may_exec, may_fork=may_fork, may_write=may_write
            )
        return self.filters[key]

    def _receive_listener(self, child: RunningChild) -> None:
        """Receive the listener of a child's filter, or the message that it has none."""
        with socket.socket(fileno=os.dup(child.fds[1])) as receiver:
            data, listeners, _, _ = socket.recv_fds(receiver, 1, 1)
        self._unwatch(child.fds[1], child)
        if not listeners:
            child.folder_polled = bool(data and child.folder)
            return
        child.budget = SyscallBudget(
            listeners[0], child.folder_bytes, lambda limit: exceeds(child.folder, UNLIMITED, limit)
        )
        self._watch(listeners[0], lambda event: self._decide_call(child, event), child)

    def _decide_call(self, child: RunningChild, event: int) -> None:
        if not event & select.POLLIN:  # every process under this filter has ended
            self._unwatch(child.budget.listener, child)
            return
        child.budget.decide()
        if child.budget.exceeded:
            child.kill(folder_full=True)

    def _watch(self, fd: int, handler: Handler, child: RunningChild | None = None) -> None:
        if child:
            child.fds.append(fd)
        self.handlers[fd] = handler
        self.poll.register(fd, select.POLLIN)

    def _unwatch(self, fd: int, child: RunningChild) -> None:
        child.fds.remove(fd)
        del self.handlers[fd]
        self.poll.unregister(fd)
        os.close(fd)

    def _reap(self, child: RunningChild) -> None:
        """Report how a child ended, and remove its folder."""
        for fd in list(child.fds):
            self._unwatch(fd, child)
        self.children.remove(child)
        _, status, usage = os.wait4(child.pid, 0)
        self._kill_stray_processes()
        report = ChildReport(child.job, status, usage.ru_maxrss, child.folder_full)
        self.control.send(control_protocol.encode(report))
        # If this fails, this process ends, and the next program gets a fresh one.
        if child.folder:
            self.folders.release(child.folder)
        if not self.children:
            self.folders.empty()

    def _kill_stray_processes(self) -> None:
        """Kill the processes that a program left, if nothing else is in the PID namespace."""
        if self.config.private_namespaces and not self.children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(-1, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass

    def _shut_down(self) -> None:
        """Leave nothing behind, even if the supervisor was killed and cannot clean up."""
        for child in self.children:
            child.kill()
        for child in self.children:
            os.waitpid(child.pid, 0)
        self.folders.close()
        os._exit(0)
