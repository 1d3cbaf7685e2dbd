"""A fresh Python process with limits: what it does, and what it does not.

It does: give each program an interpreter of its own (`-I -S`: no user site, no environment,
no installed packages), a temporary folder as working directory, limits on CPU time, memory,
file size and output, and an end for the whole process group. A program counts as passed only
if it ran to its end: the runner then hands back a secret, so exiting early proves nothing.

It does NOT: hide the file system or the network, or stop a program from leaving its process
group. Code that means harm can read what you can read, and code that reads the runner's
frames can forge the secret. Run only what you would run yourself, or use a container.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

BACKEND = "rlimit"
OUTPUT_BYTES = 1 << 20
KEPT_OUTPUT = 4_000  # characters of each stream that a result carries

FAILED, OUT_OF_MEMORY, EXITED = 101, 102, 103

# Runs inside the child. The limits are set here and not in a preexec_fn, which would cost the
# parent a full fork for each program and is unsafe beside threads.
RUNNER = f"""
import sys, os
nonce, verdict, seconds, memory, output = sys.stdin.readline().split()
program = sys.stdin.read()
import resource as r
r.setrlimit(r.RLIMIT_CPU, (int(seconds), int(seconds) + 1))
r.setrlimit(r.RLIMIT_AS, (int(memory), int(memory)))
r.setrlimit(r.RLIMIT_FSIZE, (int(output), int(output)))
r.setrlimit(r.RLIMIT_CORE, (0, 0))
r.setrlimit(r.RLIMIT_NOFILE, (64, 64))
del r
code = {FAILED}
try:
    exec(compile(program, "program.py", "exec"), {{"__name__": "__main__"}})
    sys.stdout.flush()
    os.write(int(verdict), nonce.encode())
    code = 0
except SystemExit:
    code = {EXITED}
except MemoryError:
    code = {OUT_OF_MEMORY}
except BaseException as error:
    try:
        from traceback import print_exc
        print_exc()
    except BaseException:
        sys.stderr.write(type(error).__name__)
try:
    sys.stdout.flush()
    sys.stderr.flush()
finally:
    os._exit(code)
"""


@dataclass(frozen=True, slots=True)
class Result:
    """How a program ended.

    `status` is one of passed, failed, timeout, out_of_memory, exited, output_limit;
    `stdout` and `stderr` hold the last characters of each; `duration` is in seconds.
    """

    status: str
    stdout: str
    stderr: str
    duration: float


def run(program: str, *, timeout: float = 10.0, memory_mb: int = 512) -> Result:
    """Run Python source text to its end or to a limit. Safe to call from many threads.

    Args:
        timeout: wall-clock seconds; CPU time is held to the next whole second.
        memory_mb: address space of the process.
    """
    nonce = secrets.token_hex(16)
    reader, writer = os.pipe()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sandbox-", ignore_cleanup_errors=True) as folder:
        out, err = Path(folder, ".stdout"), Path(folder, ".stderr")
        try:
            with out.open("wb") as out_file, err.open("wb") as err_file:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", RUNNER],
                    stdin=subprocess.PIPE,
                    stdout=out_file,
                    stderr=err_file,
                    cwd=folder,
                    env={"PATH": "/usr/bin:/bin", "HOME": folder, "LANG": "C.UTF-8"},
                    pass_fds=(writer,),
                    start_new_session=True,
                )
            os.close(writer)
            head = f"{nonce} {writer} {int(timeout) + 1} {memory_mb << 20} {OUTPUT_BYTES}\n"
            timed_out = _feed_and_wait(process, head + program, timeout)
            passed = _read_now(reader) == nonce.encode()
        finally:
            os.close(reader)
        too_much = max(out.stat().st_size, err.stat().st_size) >= OUTPUT_BYTES
        status = _status(process.returncode, passed, timed_out, too_much)
        return Result(status, _tail(out), _tail(err), time.monotonic() - started)


def _feed_and_wait(process: subprocess.Popen[bytes], text: str, timeout: float) -> bool:
    """Hand over the program, wait, and leave nothing of its group alive. True: out of time."""
    try:
        process.communicate(text.encode("utf-8", "surrogatepass"), timeout=timeout)
        return False
    except subprocess.TimeoutExpired:
        return True
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _status(code: int, passed: bool, timed_out: bool, too_much: bool) -> str:
    if timed_out or code == -signal.SIGXCPU:
        return "timeout"
    if passed and code == 0:
        return "passed"
    if too_much:
        return "output_limit"
    if code == OUT_OF_MEMORY:
        return "out_of_memory"
    return "failed" if code == FAILED or code < 0 else "exited"


def _read_now(reader: int) -> bytes:
    """What is in the pipe; a stray grandchild may hold its other end, so do not wait for it."""
    os.set_blocking(reader, False)
    try:
        return os.read(reader, 64)
    except BlockingIOError:
        return b""


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - KEPT_OUTPUT))
        return file.read(KEPT_OUTPUT).decode("utf-8", "replace")
