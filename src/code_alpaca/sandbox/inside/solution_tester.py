"""Run tests against a solution in another sandboxed process (see `solution_server`)."""

from __future__ import annotations

import ast
import builtins
import json
import sys
import threading
import traceback

from . import harness
from .plain_types import UnsupportedValue
from .solution_server import MAX_DETAIL, UNSUPPORTED_VALUE
from .value_codec import ValueCodec


def run_tests(fd: int, peer_fd: int) -> None:
    """Run a problem's tests against the solution at the other end of `peer_fd`."""
    channel, peer = harness.Channel(fd), harness.Channel(peer_fd)
    order = json.loads(channel.readline())
    module = harness.make_module("tests", order["test"], "tests.py")
    names = vars(module)
    solution = RemoteSolution(peer, names)
    detail = ""
    try:
        harness.add_recursion_headroom()
        _execute_tests(order, names, solution)
        status = harness.PASSED
    except MemoryError:
        status = harness.OUT_OF_MEMORY
    except BaseException as error:
        status, detail = harness.FAILED, _format_traceback(error)[-MAX_DETAIL:]
    if solution.ended is not None:  # even if the tests caught the exception
        status, detail = solution.ended
    channel.send({"verdict": status, "detail": detail})


def _execute_tests(order: dict, names: dict, solution: RemoteSolution) -> None:
    _execute_prompt(order["prompt"], names)
    public = solution.start()
    entry_point = order["entry_point"]
    candidate = solution.make_function(entry_point)
    if entry_point:
        names[entry_point] = candidate
    tree = ast.parse(order["test"], "tests.py")
    used, bound = _find_names(tree)
    for name in used - set(names) - set(dir(builtins)):
        if name in public["functions"]:
            names[name] = solution.make_function(name)
        elif name not in bound and (name in public["classes"] or name in public["values"]):
            solution.end(UNSUPPORTED_VALUE, f"the tests use {name} of the solution")
    exec(compile(tree, "tests.py", "exec", dont_inherit=True), names)
    if order["check"]:
        names["check"](candidate)


def _execute_prompt(prompt: str, names: dict) -> None:
    """Define the helpers in the prompt for the tests: the benchmark's, not the solution's."""
    prompt = prompt.removeprefix("\ufeff")
    for source in (prompt, prompt + "\n    pass\n"):  # a prompt may end in a bare signature
        try:
            code = compile(source, "prompt.py", "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            continue
        exec(code, names)
        return


def _find_names(tree: ast.Module) -> tuple[set[str], set[str]]:
    """Return the names that the tests read, and those that they bind, in any scope."""
    used: set[str] = set()
    bound: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(ctx=ast.Load()):
                used.add(node.id)
            case ast.Name(ctx=ast.Store()):
                bound.add(node.id)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                bound.add(node.name)
            case ast.arg():
                bound.add(node.arg)
            case ast.alias():
                bound.add(node.asname or node.name.partition(".")[0])
    return used, bound


def _format_traceback(error: BaseException) -> str:
    """Format the traceback, starting at the first line of the tests."""
    start = error.__traceback__
    while start is not None and start.tb_frame.f_code.co_filename != "tests.py":
        start = start.tb_next
    return "".join(traceback.format_exception(type(error), error, start))


class SolutionEnded(BaseException):
    """The solution serves no more calls; `RemoteSolution.ended` records why."""


class RemoteSolution:
    """A solution in another process, called over the channel `peer`.

    Classes of the values that it returns are looked up in `names`, the namespace of the tests.
    """

    def __init__(self, peer: harness.Channel, names: dict) -> None:
        self._peer, self._names, self._lock = peer, names, threading.RLock()
        # Verdict and detail. An `except` in the tests may catch the exception, but not undo this.
        self.ended: tuple[str, str] | None = None

    def start(self) -> dict:
        """Wait until the solution has been executed, and return its public names by kind."""
        line = self._peer.readline()
        reply = _parse(line)
        if "functions" not in reply:
            self.end(reply.get("verdict") if line else harness.EXITED)
        kinds = ("functions", "classes", "values")
        return {kind: [str(name) for name in reply.get(kind, ())] for kind in kinds}

    def make_function(self, name: str):
        """Return a function that calls the solution's function of this name."""

        def call(*args: object, **kwargs: object) -> object:
            return self._call(name, args, kwargs)

        call.__name__ = call.__qualname__ = name
        return call

    def end(self, verdict: object, detail: str = "") -> None:
        """Record the verdict, unless there is one, and leave the tests."""
        known = (harness.EXITED, harness.OUT_OF_MEMORY, harness.FAILED, UNSUPPORTED_VALUE)
        self.ended = self.ended or (verdict if verdict in known else harness.FAILED, detail)
        raise SolutionEnded

    def _call(self, name: str, args: tuple, kwargs: dict) -> object:
        codec = ValueCodec(self._names)
        try:
            arguments = codec.encode([args, kwargs])
        except (UnsupportedValue, RecursionError) as error:
            self.end(UNSUPPORTED_VALUE, f"an argument: {error}")
        with self._lock:  # tests may call from several threads
            self._peer.send({"call": name, "arguments": arguments})
            line = self._peer.readline()
        if not line:
            self.end(harness.EXITED)
        reply = _parse(line)
        error = None
        try:
            if "result" in reply:
                result = codec.decode(reply["result"])
                if "exception" not in reply:
                    return result
                error = _decode_exception(codec, reply["exception"], self._names)
        except UnsupportedValue as unsupported:
            self.end(UNSUPPORTED_VALUE, f"a value of the solution: {unsupported}")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self.end(harness.FAILED, "malformed reply")
        if error is not None:
            raise error
        if UNSUPPORTED_VALUE in reply:
            self.end(UNSUPPORTED_VALUE, f"a value of the solution: {reply[UNSUPPORTED_VALUE]}")
        self.end(reply.get("verdict"))


def _parse(line: bytes) -> dict:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def _decode_exception(codec: ValueCodec, encoded: dict, names: dict) -> Exception:
    """Create an exception of the nearest base class that this side has, with the same name."""
    args = codec.decode(encoded["args"]) if encoded["args"] is not None else (str(encoded["text"]),)
    if type(args) is not tuple:
        raise ValueError("args")
    (_, original_name), *_ = encoded["classes"]
    kinds = (_find_exception_class(module, name, names) for module, name in encoded["classes"])
    kind = next((kind for kind in kinds if kind is not None), Exception)
    if kind.__name__ != original_name and kind is not RuntimeError:
        kind = type(str(original_name).rpartition(".")[2], (kind,), {})
    error = kind.__new__(kind, *args)
    error.args = args
    return error


def _find_exception_class(module: object, name: object, names: dict) -> type[Exception] | None:
    if not (isinstance(module, str) and isinstance(name, str)):
        raise ValueError("not a class")
    if module == "solution":
        kind = names.get(name)
    else:
        kind = vars(sys.modules[module]).get(name) if module in sys.modules else None
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        return None
    # StopIteration would silently end a loop of the tests over map(candidate, ...), unittest does
    # not count its own exceptions (SkipTest) as failures, and groups need more than arguments.
    special = StopIteration | StopAsyncIteration | BaseExceptionGroup
    if issubclass(kind, special) or any(c.__module__.startswith("unittest") for c in kind.__mro__):
        return RuntimeError
    return kind
