"""Run a command until it ends or standard input does, and leave no process of it behind.

Standard input is a pipe that the process which needs the command holds open. The kernel closes it
when that process ends, even by SIGKILL, and whichever of its threads started this one. This file is
run by its path and imports only the standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence

GRACE_S = 10.0  # between SIGTERM and SIGKILL
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # of prctl(2)
SIGNAL_EXIT_CODE = 128  # plus the number of the signal, as in a shell


def main(command: Sequence[str]) -> int:
    """Run a command and return its exit code."""
    _set_process_option(PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
    except OSError as error:
        print(f"cannot start {command[0]}: {error.strerror}", flush=True)
        return 1
    threading.Thread(target=_stop_at_eof, args=(process,), daemon=True).start()
    try:
        code = process.wait()
    finally:
        _kill_group(process.pid, signal.SIGKILL)
        process.wait()
        _kill_orphans()
    return code if code >= 0 else SIGNAL_EXIT_CODE - code


def _stop_at_eof(process: subprocess.Popen[bytes]) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    _kill_group(process.pid, signal.SIGTERM)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        _kill_group(process.pid, signal.SIGKILL)


def _kill_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _kill_orphans() -> None:
    """Kill the descendants that left the process group; Linux made them children of this one."""
    while children := list(_list_children()):
        for pid in children:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _list_children() -> Iterator[int]:
    for path in glob.glob("/proc/[0-9]*/stat"):
        with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
            parent = file.read().rpartition(")")[2].split()[1]  # after the name: state, parent, ...
            if int(parent) == os.getpid():
                yield int(path.split("/")[2])


def _end_with_parent() -> None:
    _set_process_option(PR_SET_PDEATHSIG, signal.SIGKILL)  # if this supervisor is killed


def _set_process_option(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
