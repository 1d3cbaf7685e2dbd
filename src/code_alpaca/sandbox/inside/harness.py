"""Run a Python program, or a command of another language, in a confined child.

A child exchanges JSON lines with the supervisor over a socket, its channel. `solution_server` and
`solution_tester` run a solution and its tests in separate processes.
"""

from __future__ import annotations

import builtins
import io
import json
import linecache
import os
import sys
import traceback
import types

PASSED, FAILED, EXITED, OUT_OF_MEMORY = "passed", "failed", "exited", "out_of_memory"


def run_program(fd: int) -> None:
    """Run source text as a module, and report how it ended.

    The program shares this process and can write to it: one that targets this file can forge the
    report. Generic tricks cannot: no frame or object references the channel while the program
    runs, and the report must echo a nonce that the supervisor sends only after the end has been
    announced, so an early exit or a write to every descriptor proves nothing.
    """
    order = json.loads(Channel(fd).readline())
    file = f"{order['file']}.py"
    sys.argv = [file]
    module = make_module(order["module"], order["source"], file)
    # For `unittest.main()`, `doctest.testmod()` and `from __main__ import f`.
    sys.modules["__main__"] = module
    add_recursion_headroom()
    status = run_and_classify(lambda: execute(module, order["source"], file))
    flush_output()
    channel = Channel(fd)
    channel.send({"ended": status})
    channel.send({"verdict": status, "nonce": json.loads(channel.readline())["nonce"]})


def run_command(fd: int) -> None:
    """Replace this process by a command, such as the interpreter of another language."""
    order = json.loads(Channel(fd).readline())
    os.close(fd)
    try:
        os.execve(order["argv"][0], order["argv"], order["env"])
    except OSError as error:
        sys.stderr.write(f"cannot run {order['argv'][0]}: {error.strerror}\n")
        flush_output()
        os._exit(127)


class Channel:
    """JSON lines over a socket: buffered reads, complete writes."""

    def __init__(self, fd: int) -> None:
        self._raw = io.FileIO(fd, "r+", closefd=False)
        self.readline = io.BufferedReader(self._raw).readline  # b"" once the socket is closed

    def send(self, message: dict) -> None:
        """Send one JSON object."""
        self.write(json.dumps(message).encode() + b"\n")

    def write(self, data: bytes) -> None:
        """Write all bytes."""
        view = memoryview(data)
        while view:
            view = view[self._raw.write(view) :]


def make_module(name: str, source: str, file: str) -> types.ModuleType:
    """Create an empty module that pickle, dataclasses, doctest and inspect find by its name."""
    module = types.ModuleType(name)
    module.__file__ = file
    module.__builtins__ = builtins  # the module, as in a script, not its namespace
    sys.modules[name] = module
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    return module


def execute(module: types.ModuleType, source: str, file: str) -> None:
    """Execute source text in a module's namespace."""
    source = source.removeprefix("\ufeff")  # a byte order mark
    # Without dont_inherit, the code would be compiled under this file's `annotations` import.
    exec(compile(source, file, "exec", dont_inherit=True), vars(module))


def add_recursion_headroom() -> None:
    """Raise the recursion limit by the number of frames that a script would not have above it."""
    depth, frame = 8, sys._getframe()
    while frame is not None:
        depth, frame = depth + 1, frame.f_back
    sys.setrecursionlimit(sys.getrecursionlimit() + depth)


def run_and_classify(function) -> str:
    """Call a function and return how it ended; print a traceback to standard error."""
    try:
        function()
        return PASSED
    except SystemExit as error:
        return classify_exit(error)
    except MemoryError:
        return OUT_OF_MEMORY
    except BaseException as error:
        try:
            traceback.print_exc()
        except BaseException:
            sys.stderr.write(type(error).__name__)
        return FAILED


def classify_exit(error: SystemExit) -> str:
    """Read the verdict of `unittest.main()` from its exit code; any other exit is early."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is not None and last.tb_frame.f_globals.get("__name__") == "unittest.main":
        return FAILED if error.code else PASSED
    return EXITED


def flush_output() -> None:
    """Flush standard output and error, which the program may have replaced."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            continue
