"""The process inside a sandbox from which every program gets a fresh child.

It runs nothing that is not ours. For each order (one datagram with file descriptors: the child's
channel, standard output, standard error and, where two children talk, its peer) it forks; the
child locks itself in (`lock.restrict`) before it reads the first line of what it is to run. So
nothing can leak from one program to the next: a program sees a private copy of this process's
memory, has no descriptor but its own, may not signal, trace or start processes, and the one
folder that it may write, if any, is its own and removed when it ends. What it writes and starts
is counted here (`meter`). A start costs a fork instead of an interpreter.

    python -s -S zygote.py CONTROL_FD '{"readable": [...], "writable": "/sandbox", ...}'
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import fcntl
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable

import apart
import folder
import folders
import harness
import lock
import meter

# What programs import most; a child that imports them again pays next to nothing.
for name in ("bisect", "collections", "copy", "dataclasses", "datetime", "decimal", "enum",
             "fractions", "functools", "hashlib", "heapq", "itertools", "math", "operator",
             "random", "re", "statistics", "string", "struct", "textwrap", "typing"):  # fmt: skip
    __import__(name)

KINDS = {
    "program": harness.program,
    "exec": harness.command,
    "solution": apart.solution,
    "tests": apart.tests,
}
FOLDER_CHECK_MS = 20  # where nothing counts what is written
UNLIMITED = 1 << 62
SURVIVORS: list[object] = []
OWN, HIGH = [3, 4], 128  # where a child has its channel and its peer; above all in use
ARENAS, USUAL_STACK = -8, 8 << 20  # M_ARENA_MAX of mallopt; bytes


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    config = json.loads(sys.argv[2])
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
    sys.path += config["packages"]
    libc = ctypes.CDLL(None)
    libc.prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: nobody reads this process's memory
    libc.mallopt(ARENAS, 2)  # else each thread reserves 64 MiB of its limited address space
    os.chdir(config["writable"])
    gc.collect()
    gc.freeze()
    control.send(b'{"ready": true}')
    try:
        Zygote(control, config).serve()
    except _Become as child:
        kind, fds = child.kind, child.fds
    # Here in a child alone: no frame of the zygote is left under the program's own.
    code = 1
    try:
        KINDS[kind](*fds)
        code = 0
    except BaseException as error:
        with contextlib.suppress(BaseException):
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(code)


class _Become(BaseException):
    """Unwinds the stack of a child up to `main`, which then runs what was ordered."""

    def __init__(self, kind: str, fds: list[int]) -> None:
        self.kind, self.fds = kind, fds


class Child:
    """A living child: its order, its process, and where its filter asks, if it does."""

    def __init__(self, order: dict, pid: int, path: str | None) -> None:
        self.job, self.pid, self.path, self.limit = order["job"], pid, path, order["folder"]
        self.handles: list[int] = []
        self.meter: meter.Meter | None = None
        self.polled = False  # whether its folder has to be looked at from outside
        self.too_full = False

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


class Zygote:
    """Forks, counts, waits and reports how each child ended."""

    def __init__(self, control: socket.socket, config: dict) -> None:
        self.control, self.config = control, config
        self.children: list[Child] = []
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.poll = select.poll()
        self._watch(control.fileno(), lambda _: self._order())
        self.filters: dict[tuple, list[bytes]] = {}
        self.folders = folders.Folders(config)

    def serve(self) -> None:
        while True:
            watched = any(child.polled for child in self.children)
            events = self.poll.poll(FOLDER_CHECK_MS if watched else None)
            known = [(handle, event, self.handlers[handle]) for handle, event in events]
            for handle, event, handler in known:
                if self.handlers.get(handle) is handler:  # not closed by one before it
                    handler(event)
            for child in self.children:
                if child.polled and folder.exceeds(
                    child.path, size=child.limit, entries=meter.MOST_ENTRIES
                ):
                    child.too_full = True
                    child.kill()

    def _watch(
        self, handle: int, handler: Callable[[int], None], child: Child | None = None
    ) -> None:
        if child:
            child.handles.append(handle)
        self.handlers[handle] = handler
        self.poll.register(handle, select.POLLIN)

    def _forget(self, handle: int, child: Child | None = None) -> None:
        if child:
            child.handles.remove(handle)
        del self.handlers[handle]
        self.poll.unregister(handle)
        os.close(handle)

    def _order(self) -> None:
        data, fds = _receive(self.control)
        if not data:  # the parent is gone, and its children with it
            self._end()
        order = json.loads(data)
        if "kill" in order:
            for child in self.children:
                if child.job == order["kill"]:
                    child.kill()
            return
        path = self.folders.make(order["name"], order["files"]) if order["folder"] else None
        ruleset = self.folders.ruleset(path)
        asks, answers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        filters = self._filters(order)
        pid = os.fork()
        if pid == 0:
            # Their descriptors belong to others soon: these must not close them at their end.
            SURVIVORS.extend([self, asks])
            self._child(order, fds, path, ruleset, filters, answers.detach())
        answers.close()
        for fd in fds:
            os.close(fd)
        child = Child(order, pid, path)
        self.children.append(child)
        self._watch(os.pidfd_open(pid), lambda _: self._bury(child), child)
        self._watch(asks.detach(), lambda _: self._listen(child), child)

    def _filters(self, order: dict) -> list[bytes]:
        """The seccomp filters of a child, made here once for all children of a kind."""
        if not self.config["seccomp"]:
            return []
        kind, folder, processes = order["kind"], order["folder"] > 0, order["processes"] > 0
        key = (kind, folder, processes)
        if key not in self.filters:
            column, _ = lock.machine()
            execs = kind == "exec"
            own = OWN[: {"exec": 0, "program": 1}.get(kind, 2)]
            rules = meter.rules(column, own, threads=not processes, files=folder, execs=execs)
            may = {"may_exec": execs, "may_fork": processes}
            asking = [lock.seccomp_program(**may, rules=rules)] if rules else []
            silent = lock.seccomp_program(**may, rules=rules, ask=False)
            self.filters[key] = [*asking, silent]
        return self.filters[key]

    def _child(
        self,
        order: dict,
        fds: list[int],
        path: str | None,
        ruleset: int | None,
        filters: list[bytes],
        answers: int,
    ) -> None:
        try:
            channel, out, err, *peer = fds
            # First out of the way of the places that they are moved to.
            high = [fcntl.fcntl(fd, fcntl.F_DUPFD, HIGH) for fd in (out, err, channel, *peer)]
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            kept = [
                h if h is None else fcntl.fcntl(h, fcntl.F_DUPFD, HIGH) for h in (answers, ruleset)
            ]
            for place, fd in enumerate(high, 1):
                os.dup2(fd, place)
            last = len(high)
            for fd in [*sorted(h for h in kept if h is not None), os.sysconf("SC_OPEN_MAX")]:
                os.closerange(last + 1, fd)
                last = fd
            if path:
                os.chdir(path)
                os.environ.update(HOME=path, TMPDIR=path)
            _fit_stacks(order["memory"])
            self._lock_in(order, filters, kept[1], kept[0])
            signal.signal(signal.SIGINT, signal.default_int_handler)
        except BaseException as error:
            with contextlib.suppress(BaseException):
                os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        raise _Become(order["kind"], OWN[: 1 + len(peer)])

    def _lock_in(
        self, order: dict, filters: list[bytes], ruleset: int | None, answers: int
    ) -> None:
        """Restrict this child, and hand the zygote the end at which its filter asks."""
        listener = lock.restrict(
            ruleset=ruleset,
            filters=filters,
            processes=order["processes"],
            cpu_s=order["cpu_s"],
            memory=order["memory"],
            file_size=order["file_size"],
            open_files=order["open_files"],
        )
        with socket.socket(fileno=answers) as end:
            socket.send_fds(end, [b"."], [] if listener is None else [listener])
        for handle in (listener, ruleset):
            if handle is not None:
                os.close(handle)

    def _listen(self, child: Child) -> None:
        """Take the end at which a child's filter asks, or find that there is none."""
        with socket.socket(fileno=os.dup(child.handles[1])) as asks:
            data, listeners, _, _ = socket.recv_fds(asks, 1, 1)
        self._forget(child.handles[1], child)
        if not listeners:
            child.polled = bool(data and child.path)
            return
        column, _ = lock.machine()
        child.meter = meter.Meter(
            listeners[0],
            column,
            child.limit,
            lambda most: folder.exceeds(child.path, size=UNLIMITED, entries=most),
        )
        self._watch(listeners[0], lambda event: self._answer(child, event), child)

    def _answer(self, child: Child, event: int) -> None:
        if not event & select.POLLIN:  # all that asked have ended
            self._forget(child.meter.listener, child)
            return
        child.meter.answer()
        if child.meter.spent:
            child.too_full = True
            child.kill()

    def _bury(self, child: Child) -> None:
        for handle in list(child.handles):
            self._forget(handle, child)
        self.children.remove(child)
        _, status, used = os.wait4(child.pid, 0)
        self._kill_strays()
        report = {
            "job": child.job,
            "status": status,
            "peak_kb": used.ru_maxrss,
            "too_full": child.too_full,
        }
        self.control.send(json.dumps(report).encode())
        # Where that fails this process ends, and the next program gets a fresh one.
        if child.path:
            self.folders.release(child.path)
        if not self.children:
            self.folders.empty()

    def _kill_strays(self) -> None:
        """What a program that may fork has left; this process is alone in its PID namespace."""
        if self.config["alone"] and not self.children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(-1, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass

    def _end(self) -> None:
        """Leave nothing, also where the parent was killed and cannot clean up."""
        for child in self.children:
            child.kill()
        for child in self.children:
            os.waitpid(child.pid, 0)
        self.folders.close()
        os._exit(0)


def _fit_stacks(memory: int) -> None:
    """Have threads reserve stacks of which many fit into a limited address space.

    A program that asks for half a gigabyte, to recurse deeply, gets a quarter of the memory: a
    call of a Python function takes none of that stack.
    """
    if not memory:
        return
    real, asked = threading.stack_size, 0
    usual, most = min(USUAL_STACK, memory // 128), memory // 4

    def stack_size(size: int = 0, /) -> int:
        nonlocal asked
        real(min(size, most) or usual)
        before, asked = asked, size
        return before

    real(max(usual, 1 << 16))
    for module in (threading, sys.modules["_thread"]):
        module.stack_size = stack_size


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    fds = array.array("i")
    data, ancillary, _, _ = control.recvmsg(1 << 20, socket.CMSG_SPACE(4 * fds.itemsize))
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return data, list(fds)


if __name__ == "__main__":
    main()
