"""Judge a solution by values alone: it runs in one sandbox, the tests in another.

The two talk over a socket of their own (`peer`). The solution answers calls of its functions
with plain values (`wire`) and has no way to a verdict: only the tests' process has a line to the
parent, and it holds no object that the solution made.

    parent   -> solution  {"source"}                 solution -> tests   {"ready", "classes"}
    tests    -> solution  {"call", "in"}             solution -> tests   {"out"} | {"raise", "out"}
    parent   -> tests     {"prompt", "test", ...}    tests    -> parent  {"verdict", "detail"}

What a value cannot show (two rows that are one list, a list that is returned again later) is not
seen here, and what cannot cross is `unplain`: hence the second judge, in one process.
"""

from __future__ import annotations

import ast
import builtins
import json
import sys
import threading
import traceback

import harness
import wire

UNPLAIN = "unsupported_value"
DETAIL = 2_000  # characters


# -- the solution's side -----------------------------------------------------------------------


def solution(fd: int, peer_fd: int) -> None:
    """Run a solution's source text, then answer calls of its functions."""
    source = json.loads(harness.Channel(fd).readline())["source"]
    peer = harness.Channel(peer_fd)
    module = harness.make_module("solution", source, "solution.py")
    harness.add_headroom()
    status = harness.outcome(lambda: harness.run_in(module, source, "solution.py"))
    if status != harness.PASSED:
        harness.flush()
        peer.send({"verdict": status})
        return
    names = vars(module)
    public = [name for name in names if name[:1] != "_"]
    classes = [name for name in public if isinstance(names[name], type)]
    ready = [name for name in public if callable(names[name]) and name not in classes]
    others = [name for name in public if not callable(names[name])]
    peer.send({"ready": ready, "classes": classes, "others": others})
    while line := peer.readline():
        peer.write(_answer(names, json.loads(line)).encode() + b"\n")


def _answer(names: dict, order: dict) -> str:
    graph = wire.Graph(names)
    try:
        args, kwargs = graph.load(order["in"])
        try:
            reply = {"out": graph.dump(names[order["call"]](*args, **kwargs))}
        except SystemExit:
            return json.dumps({"verdict": harness.EXITED})
        except MemoryError:
            return json.dumps({"verdict": harness.OUT_OF_MEMORY})
        except wire.Unplain:
            raise
        except BaseException as error:
            reply = {"raise": _exception_form(graph, error), "out": graph.dump(None)}
        return json.dumps(reply)
    except (wire.Unplain, RecursionError) as error:
        return json.dumps({UNPLAIN: str(error)[:DETAIL]})


def _exception_form(graph: wire.Graph, error: BaseException) -> dict:
    """An exception by its classes' names, nearest first, its text and, where plain, its args."""
    classes = [[kind.__module__, kind.__qualname__] for kind in type(error).__mro__]
    try:
        args = graph.dump(error.args)
    except (wire.Unplain, RecursionError):
        args = None
    return {"classes": classes, "args": args, "text": _text(error)}


def _text(error: BaseException) -> str:
    try:
        return str(error)[:DETAIL]
    except BaseException:
        return ""


# -- the tests' side ---------------------------------------------------------------------------


def tests(fd: int, peer_fd: int) -> None:
    """Run a problem's tests against the solution at the other end of `peer_fd`."""
    channel, peer = harness.Channel(fd), harness.Channel(peer_fd)
    order = json.loads(channel.readline())
    module = harness.make_module("tests", order["test"], "tests.py")
    names = vars(module)
    far = _Solution(peer, names)
    detail = ""

    def run() -> None:
        _run_prompt(order["prompt"], names)
        ready = far.start()
        entry = order["entry_point"]
        candidate = far.function(entry)
        if entry:
            names[entry] = candidate
        code = ast.parse(order["test"], "tests.py")
        own = _bound(code)
        for name in _wanted(code) - set(names) - set(dir(builtins)):
            if name in ready["ready"]:
                names[name] = far.function(name)
            elif name not in own and (name in ready["classes"] or name in ready["others"]):
                far.end(UNPLAIN, f"the tests use {name} of the solution")
        exec(compile(code, "tests.py", "exec", dont_inherit=True), names)
        if order["check"]:
            names["check"](candidate)

    try:
        harness.add_headroom()
        run()
        status = harness.PASSED
    except MemoryError:
        status = harness.OUT_OF_MEMORY
    except BaseException as error:
        status, detail = harness.FAILED, _traceback(error)[-DETAIL:]
    if far.ended is not None:  # whatever the tests made of it
        status, detail = far.ended
    channel.send({"verdict": status, "detail": detail})


def _run_prompt(prompt: str, names: dict) -> None:
    """Give the tests the helpers that stand in the prompt: the benchmark's, not the solution's."""
    prompt = prompt.removeprefix("\ufeff")
    for source in (prompt, prompt + "\n    pass\n"):  # a prompt may end in a bare signature
        try:
            code = compile(source, "prompt.py", "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            continue
        exec(code, names)
        return


def _wanted(code: ast.Module) -> set[str]:
    return {
        node.id
        for node in ast.walk(code)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def _bound(code: ast.Module) -> set[str]:
    """Names that the tests import, define or assign, in whatever scope."""
    found: set[str] = set()
    for node in ast.walk(code):
        if isinstance(node, ast.alias):
            found.add(node.asname or node.name.partition(".")[0])
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def _traceback(error: BaseException) -> str:
    """The traceback from the tests' first line on."""
    place = error.__traceback__
    while place is not None and place.tb_frame.f_code.co_filename != "tests.py":
        place = place.tb_next
    return "".join(traceback.format_exception(type(error), error, place))


class _Ended(BaseException):
    """The solution cannot answer any more; `_Solution.ended` remembers why."""


class _Solution:
    """The solution as the tests see it: functions that are called over the channel."""

    def __init__(self, peer: harness.Channel, names: dict) -> None:
        self._peer, self._names, self._lock = peer, names, threading.RLock()
        self.ended: tuple[str, str] | None = None  # no `except` in a test hides that it happened

    def start(self) -> dict:
        """Wait for the solution to be defined; the names that it has."""
        line = self._peer.readline()
        ready = _parsed(line)
        if "ready" not in ready:
            self.end(ready.get("verdict") if line else harness.EXITED)
        return {key: [str(n) for n in ready.get(key, ())] for key in ("ready", "classes", "others")}

    def function(self, name: str):
        def call(*args: object, **kwargs: object) -> object:
            return self._call(name, args, kwargs)

        call.__name__ = call.__qualname__ = name
        return call

    def end(self, verdict: object, detail: str = "") -> None:
        known = (harness.EXITED, harness.OUT_OF_MEMORY, harness.FAILED, UNPLAIN)
        self.ended = self.ended or (verdict if verdict in known else harness.FAILED, detail)
        raise _Ended

    def _call(self, name: str, args: tuple, kwargs: dict) -> object:
        graph = wire.Graph(self._names)
        try:
            message = graph.dump([args, kwargs])
        except (wire.Unplain, RecursionError) as error:
            self.end(UNPLAIN, f"an argument: {error}")
        with self._lock:  # tests may call from several threads
            self._peer.send({"call": name, "in": message})
            line = self._peer.readline()
        if not line:
            self.end(harness.EXITED)
        reply = _parsed(line)
        try:
            if "out" in reply:
                if "raise" not in reply:
                    return graph.load(reply["out"])
                graph.load(reply["out"])
                error = _exception(graph, reply["raise"], self._names)
            else:
                error = None
        except wire.Unplain as unplain:
            self.end(UNPLAIN, f"a value of the solution: {unplain}")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self.end(harness.FAILED, "malformed reply")
        if error is not None:
            raise error
        if UNPLAIN in reply:
            self.end(UNPLAIN, f"a value of the solution: {reply[UNPLAIN]}")
        self.end(reply.get("verdict"))


def _parsed(line: bytes) -> dict:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _exception(graph: wire.Graph, form: dict, names: dict) -> Exception:
    """An exception of the nearest class that this side has, under the name that it had there."""
    args = graph.load(form["args"]) if form["args"] is not None else (str(form["text"]),)
    if type(args) is not tuple:
        raise ValueError("args")
    (_, first), *_ = form["classes"]
    for module, name in form["classes"]:
        kind = _exception_class(module, name, names)
        if kind is not None:
            break
    else:
        kind = Exception
    if kind.__name__ != first and kind is not RuntimeError:
        kind = type(str(first).rpartition(".")[2], (kind,), {})
    error = kind.__new__(kind, *args)
    error.args = args
    return error


def _exception_class(module: object, name: object, names: dict) -> type[Exception] | None:
    if not (isinstance(module, str) and isinstance(name, str)):
        raise ValueError("a class")
    if module == "solution":
        found = names.get(name)
    else:
        found = vars(sys.modules[module]).get(name) if module in sys.modules else None
    if not (isinstance(found, type) and issubclass(found, Exception)):
        return None
    # StopIteration would end a loop of the tests over map(candidate, ...) as if it were done, and
    # unittest takes its own (SkipTest) for no failure; groups are not made from arguments alone.
    odd = StopIteration | StopAsyncIteration | BaseExceptionGroup
    if issubclass(found, odd) or any(k.__module__.startswith("unittest") for k in found.__mro__):
        return RuntimeError
    return found
