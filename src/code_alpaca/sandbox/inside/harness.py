"""What a locked-in child does: run a program, run a command, or be one end of `apart`.

A child talks to the parent in lines over its own channel. Standard library alone.
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


def program(fd: int) -> None:
    """Run source text as a module, and report how it ended.

    It is judged by its own process, which it can write to as it likes: a program that knows this
    file can forge the report. Generic tricks cannot: no frame or object holds the channel while
    the program runs, and the report has to echo a word that the parent sends only once the end
    is announced, so an early exit or a write to every descriptor says nothing.
    """
    order = json.loads(Channel(fd).readline())
    file = f"{order['file']}.py"
    sys.argv = [file]
    module = make_module(order["module"], order["source"], file)
    # `unittest.main()`, `doctest.testmod()` and `from __main__ import f` look there.
    sys.modules["__main__"] = module
    add_headroom()
    status = outcome(lambda: run_in(module, order["source"], file))
    flush()
    channel = Channel(fd)
    channel.send({"ended": status})
    channel.send({"verdict": status, "word": json.loads(channel.readline())["word"]})


def command(fd: int) -> None:
    """Become another program: an interpreter of another language, say."""
    order = json.loads(Channel(fd).readline())
    os.close(fd)
    try:
        os.execve(order["argv"][0], order["argv"], order["env"])
    except OSError as error:
        sys.stderr.write(f"cannot run {order['argv'][0]}: {error.strerror}\n")
        flush()
        os._exit(127)


class Channel:
    """JSON lines over a socket: buffered reading, complete writes."""

    def __init__(self, fd: int) -> None:
        self._raw = io.FileIO(fd, "r+", closefd=False)
        self._in = io.BufferedReader(self._raw)

    def readline(self) -> bytes:
        return self._in.readline()

    def send(self, message: dict) -> None:
        self.write(json.dumps(message).encode() + b"\n")

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._raw.write(view) :]


def make_module(name: str, source: str, file: str) -> types.ModuleType:
    """Make an empty module that pickle, dataclasses, doctest and inspect find by its name."""
    module = types.ModuleType(name)
    module.__file__ = file
    module.__builtins__ = builtins  # as a script has it: the module, not its names
    sys.modules[name] = module
    linecache.cache[file] = (len(source), None, source.splitlines(True), file)
    return module


def run_in(module: types.ModuleType, source: str, file: str) -> None:
    # Without dont_inherit the code would be compiled under this file's `annotations` import.
    source = source.removeprefix("\ufeff")  # the mark that a file may begin with
    exec(compile(source, file, "exec", dont_inherit=True), vars(module))


def add_headroom() -> None:
    """Leave as many frames as a script of its own would have above its first."""
    depth, frame = 8, sys._getframe()
    while frame is not None:
        depth, frame = depth + 1, frame.f_back
    sys.setrecursionlimit(sys.getrecursionlimit() + depth)


def outcome(run) -> str:
    """How running ended; a traceback goes to standard error."""
    try:
        run()
        return PASSED
    except SystemExit as error:
        return _of_exit(error)
    except MemoryError:
        return OUT_OF_MEMORY
    except BaseException as error:
        try:
            traceback.print_exc()
        except BaseException:
            sys.stderr.write(type(error).__name__)
        return FAILED


def _of_exit(error: SystemExit) -> str:
    """`unittest.main()` leaves by an exit whose code is its verdict; any other exit is early."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is not None and place.tb_frame.f_globals.get("__name__") == "unittest.main":
        return FAILED if error.code else PASSED
    return EXITED


def flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:  # the program may have put anything in their place
            continue
