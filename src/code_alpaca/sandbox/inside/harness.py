"""What a locked-in child does: run a program, answer calls as a solution, or test one.

A child talks to the parent over its own channel, in lines. The tests' child is the only one
that can say "passed"; the solution's child has no line to the verdict, only answers to calls,
which reach the tests as plain values (`wire`).

    parent -> solution   {"source"}                   solution -> tests    {"ready", "classes"}
    tests  -> solution   {"call", "args", "kwargs"}   solution -> tests    {"value"} | {"raise"}
    parent -> tests      {"prompt", "test", ...}      tests    -> parent   {"verdict", "detail"}
"""

from __future__ import annotations

import ast
import builtins
import json
import os
import sys
import traceback
from typing import BinaryIO

import wire

PASSED, FAILED, UNPLAIN, EXITED, OUT_OF_MEMORY = (
    "passed",
    "failed",
    "unplain",
    "exited",
    "out_of_memory",
)
DETAIL = 2_000  # characters


def program(channel: BinaryIO) -> None:
    """Run source text as a main program; the secret goes back only at its end."""
    order = json.loads(channel.readline())
    nonce, source = order["nonce"], order["source"]
    sys.argv = ["program.py"]
    status = _outcome(lambda: _run(source, {"__name__": "__main__"}))
    _flush()
    _send(channel, {"verdict": status, "nonce": nonce if status == PASSED else ""})


def solution(channel: BinaryIO) -> None:
    """Run a solution's source text, then answer calls of its functions."""
    source = json.loads(channel.readline())["source"]
    names: dict = {"__name__": "solution"}
    status = _outcome(lambda: _run(source, names))
    if status != PASSED:
        _flush()
        _send(channel, {"verdict": status})
        return
    given = [name for name, value in names.items() if callable(value) and name[:1] != "_"]
    classes = [name for name in given if isinstance(names[name], type)]
    functions = [name for name in given if name not in classes]
    _send(channel, {"ready": functions, "classes": classes})
    while line := channel.readline():
        channel.write(_answer(names, json.loads(line)).encode() + b"\n")
        channel.flush()


def _answer(names: dict, order: dict) -> str:
    try:
        args, kwargs = wire.decode(order["args"]), wire.decode(order["kwargs"])
        try:
            value = names[order["call"]](*args, **kwargs)
            told = {"value": wire.encode(value)}
        except SystemExit:
            return json.dumps({"verdict": EXITED})
        except MemoryError:
            return json.dumps({"verdict": OUT_OF_MEMORY})
        except wire.Unplain as error:
            return json.dumps({"unplain": str(error)})
        except RecursionError as error:
            told = {"raise": ["RecursionError", str(error)[:DETAIL]]}
        except BaseException as error:
            told = {"raise": [_builtin_name(error), str(error)[:DETAIL]]}
        after = wire.encode(args)  # the tests may look at what the call did to its arguments
        if after != order["args"]:
            told["args"] = after
        return json.dumps(told)
    except (wire.Unplain, RecursionError):
        return json.dumps({"unplain": "nested too deeply"})


def tests(channel: BinaryIO) -> None:
    """Run a problem's tests against a solution on the far side of the channel."""
    order = json.loads(channel.readline())
    names: dict = {"__name__": "tests"}
    detail = ""

    def run() -> None:
        if order["prompt"]:
            # Helpers that stand in the prompt are the benchmark's own: never the solution's.
            try:
                setup = compile(order["prompt"], "prompt.py", "exec")
            except (SyntaxError, ValueError):
                setup = None
            if setup:
                exec(setup, names)
        told = json.loads(channel.readline())
        if "ready" not in told:
            raise _Ended(told.get("verdict"))
        entry, ready = order["entry_point"], told["ready"]
        candidate = _Far(channel, entry)
        if entry:
            names[entry] = candidate
        code = ast.parse(order["test"], "tests.py")
        for name in _wanted(code) - set(names) - set(dir(builtins)):
            if name in ready:
                names[name] = _Far(channel, name)
            elif name in told["classes"]:
                raise wire.Unplain(f"the tests use the solution's own class {name}")
        exec(compile(code, "tests.py", "exec"), names)
        if order["check"]:
            names["check"](candidate)

    try:
        run()
        status = PASSED
    except wire.Unplain as error:
        status, detail = UNPLAIN, str(error)
    except MemoryError:
        status = OUT_OF_MEMORY
    except BaseException:
        status, detail = FAILED, traceback.format_exc()[-DETAIL:]
    if _Ended.last is not None:  # whatever the tests made of it
        status = _Ended.last
    _send(channel, {"verdict": status, "detail": detail})


class _Ended(BaseException):
    """The solution cannot answer any more; no `except` of a test hides that it happened."""

    last: str | None = None

    def __init__(self, verdict: object) -> None:
        _Ended.last = verdict if verdict in (EXITED, OUT_OF_MEMORY, FAILED) else FAILED
        super().__init__(_Ended.last)


class _Far:
    """A function of the solution, called over the channel."""

    def __init__(self, channel: BinaryIO, name: str) -> None:
        self._channel, self.__name__ = channel, name

    def __call__(self, *args: object, **kwargs: object) -> object:
        order = {"call": self.__name__, "args": wire.encode(args), "kwargs": wire.encode(kwargs)}
        _send(self._channel, order)
        line = self._channel.readline()
        try:
            told = json.loads(line)
            if "args" in told:
                for mine, theirs in zip(args, wire.decode(told["args"]), strict=False):
                    _become(mine, theirs)
            if "value" in told:
                return wire.loads_form(told["value"])
            error = _error(told)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            error = _Ended(FAILED)  # the end of the channel, or a line that is not ours
        raise error


def _error(told: dict) -> BaseException:
    if "raise" in told:
        name, text = told["raise"]
        return _builtin_error(name)(str(text))
    if "unplain" in told:
        return wire.Unplain(str(told["unplain"]))
    return _Ended(told.get("verdict"))


def _become(mine: object, theirs: object) -> None:
    """Let an argument change in place, as a call in the same process would have changed it."""
    if type(mine) is not type(theirs) or mine == theirs:
        return
    if isinstance(mine, list) and isinstance(theirs, list):
        mine[:] = theirs
    elif (isinstance(mine, dict) and isinstance(theirs, dict)) or (
        isinstance(mine, set) and isinstance(theirs, set)
    ):
        mine.clear()
        mine.update(theirs)


def _wanted(code: ast.Module) -> set[str]:
    return {
        node.id
        for node in ast.walk(code)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def _outcome(run) -> str:
    """How running ended; a traceback goes to standard error."""
    try:
        run()
        return PASSED
    except SystemExit:
        return EXITED
    except MemoryError:
        return OUT_OF_MEMORY
    except BaseException as error:
        try:
            traceback.print_exc()
        except BaseException:
            sys.stderr.write(type(error).__name__)
        return FAILED


def _run(source: str, names: dict) -> None:
    exec(compile(source, "program.py", "exec"), names)


def _builtin_name(error: BaseException) -> str:
    """The nearest built-in class of an exception: tests may expect a ValueError."""
    for kind in type(error).__mro__:
        if kind.__module__ == "builtins" and kind is not object:
            return kind.__name__
    return "Exception"


def _builtin_error(name: object) -> type[Exception]:
    found = getattr(builtins, name, None) if isinstance(name, str) else None
    if not (isinstance(found, type) and issubclass(found, Exception)):
        return Exception
    # StopIteration would end a loop of the tests over map(candidate, ...) as if it were done;
    # the others are not made from a text alone.
    odd = StopIteration | StopAsyncIteration | UnicodeError | BaseExceptionGroup
    return RuntimeError if issubclass(found, odd) else found


def _send(channel: BinaryIO, told: dict) -> None:
    channel.write(json.dumps(told).encode() + b"\n")
    channel.flush()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:  # the program may have put anything in their place
            continue


def exec_(channel: BinaryIO) -> None:
    """Become another program: an interpreter of another language, say."""
    order = json.loads(channel.readline())
    channel.close()
    try:
        os.execve(order["argv"][0], order["argv"], order["env"])
    except OSError as error:
        sys.stderr.write(f"cannot run {order['argv'][0]}: {error.strerror}\n")
        _flush()
        os._exit(127)


KINDS = {"program": program, "solution": solution, "tests": tests, "exec": exec_}
