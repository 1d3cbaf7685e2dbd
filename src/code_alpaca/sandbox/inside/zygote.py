"""The process inside a sandbox from which every program gets a fresh child.

It runs nothing that is not ours. For each order (one datagram with file descriptors: the child's
channel, standard output, standard error and, where two children talk, its peer) it forks; the
child locks itself in (`lock.restrict`) before it reads the first line of what it is to run. So
nothing can leak from one program to the next: a program sees a private copy of this process's
memory, has no descriptor but its own, may not signal, trace or start processes, and the one
folder that it may write, if any, is emptied when it ends. A start costs a fork instead of an
interpreter.

    python -s -S zygote.py CONTROL_FD '{"readable": [...], "writable": "/sandbox", ...}'
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import gc
import io
import json
import os
import select
import shutil
import signal
import socket
import sys

import apart
import harness
import lock

# What programs import most; a child that imports them again pays next to nothing.
for name in ("bisect", "collections", "copy", "dataclasses", "datetime", "decimal", "enum",
             "fractions", "functools", "hashlib", "heapq", "itertools", "math", "operator",
             "random", "re", "statistics", "string", "struct", "textwrap", "typing"):  # fmt: skip
    __import__(name)

FOLDER_CHECK_MS = 100
KINDS = {
    "program": harness.program,
    "exec": harness.command,
    "solution": apart.solution,
    "tests": apart.tests,
}


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    config = json.loads(sys.argv[2])
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
    sys.path += config["packages"]
    ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: nobody reads this process's memory
    rulesets = {}
    if config["landlock"]:
        for writable in (None, config["writable"]):
            rulesets[writable] = lock.landlock_ruleset(config["readable"], writable)
    if config["writable"]:
        os.chdir(config["writable"])
    gc.collect()
    gc.freeze()
    control.send(b'{"ready": true}')
    Zygote(control, config, rulesets).serve()


class Zygote:
    """Forks, waits and tells; one line of state for each living child."""

    def __init__(self, control: socket.socket, config: dict, rulesets: dict) -> None:
        self.control, self.config, self.rulesets = control, config, rulesets
        self.children: dict[int, tuple[int, int, int]] = {}  # pidfd: (job, pid, folder limit)
        self.too_full: set[int] = set()
        self.poll = select.poll()
        self.poll.register(control, select.POLLIN)

    def serve(self) -> None:
        while True:
            watched = any(limit for _, _, limit in self.children.values())
            for handle, _ in self.poll.poll(FOLDER_CHECK_MS if watched else None):
                if handle == self.control.fileno():
                    self._order()
                else:
                    self._bury(handle)
            if watched:
                self._hold_folder()

    def _order(self) -> None:
        data, fds = _receive(self.control)
        if not data:  # the parent is gone, and its children with it
            self._end()
        order = json.loads(data)
        if "kill" in order:
            for job, pid, _ in self.children.values():
                if job == order["kill"]:
                    os.kill(pid, signal.SIGKILL)
            return
        for name, text in order["files"].items():
            path = os.path.join(self.config["writable"], name)
            with open(path, "w", encoding="utf-8", errors="surrogatepass") as file:
                file.write(text)
        pid = os.fork()
        if pid == 0:
            self._child(order, fds)
        for fd in fds:
            os.close(fd)
        pidfd = os.pidfd_open(pid)
        self.children[pidfd] = (order["job"], pid, order["folder"])
        self.poll.register(pidfd, select.POLLIN)

    def _child(self, order: dict, fds: list[int]) -> None:
        code = 1
        try:
            channel, out, err, *peer = fds
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out, 1)
            os.dup2(err, 2)
            ruleset = None
            if self.config["landlock"]:
                ruleset = self.rulesets[self.config["writable"] if order["folder"] else None]
            keep = sorted({channel, *peer, *([] if ruleset is None else [ruleset])})
            last = 2
            for fd in [*keep, os.sysconf("SC_OPEN_MAX")]:
                os.closerange(last + 1, fd)
                last = fd
            lock.restrict(
                ruleset=ruleset,
                seccomp=self.config["seccomp"],
                may_exec=order["kind"] == "exec",
                processes=order["processes"],
                cpu_s=order["cpu_s"],
                memory=order["memory"],
                file_size=order["file_size"],
                open_files=order["open_files"],
            )
            if ruleset is not None:
                os.close(ruleset)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            KINDS[order["kind"]](*map(_Lines, [channel, *peer]))
            code = 0
        except BaseException as error:
            with contextlib.suppress(BaseException):
                os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(code)

    def _bury(self, pidfd: int) -> None:
        self.poll.unregister(pidfd)
        os.close(pidfd)
        job, pid, limit = self.children.pop(pidfd)
        _, status, used = os.wait4(pid, 0)
        self._kill_strays()
        if limit or not self.children:
            self._empty_folder()
        told = {
            "job": job,
            "status": status,
            "peak_kb": used.ru_maxrss,
            "too_full": job in self.too_full,
        }
        self.control.send(json.dumps(told).encode())

    def _kill_strays(self) -> None:
        """What a program that may fork has left; this process is alone in its PID namespace."""
        if self.config["alone"] and not self.children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(-1, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass

    def _hold_folder(self) -> None:
        """End programs that write more than their folder may hold."""
        size = 0
        for root, _, names in os.walk(self.config["writable"]):
            for name in names:
                with contextlib.suppress(OSError):
                    size += os.lstat(os.path.join(root, name)).st_size
        for job, pid, limit in self.children.values():
            if limit and size > limit:
                self.too_full.add(job)
                os.kill(pid, signal.SIGKILL)

    def _empty_folder(self) -> None:
        folder = self.config["writable"]
        for name in os.listdir(folder) if folder else ():
            path = os.path.join(folder, name)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(path)

    def _end(self) -> None:
        for _, pid, _ in self.children.values():
            os.kill(pid, signal.SIGKILL)
        self._empty_folder()
        os._exit(0)


class _Lines:
    """Buffered reading and whole writes over one unbuffered channel."""

    def __init__(self, fd: int) -> None:
        self._raw = raw = io.FileIO(fd, "r+")
        self._in = io.BufferedReader(raw)
        self.close = raw.close

    def readline(self) -> bytes:
        return self._in.readline()

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._raw.write(view) :]

    def flush(self) -> None:
        pass


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    fds = array.array("i")
    data, ancillary, _, _ = control.recvmsg(1 << 20, socket.CMSG_SPACE(4 * fds.itemsize))
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return data, list(fds)


if __name__ == "__main__":
    main()
