"""Run a solution in one sandboxed process and serve calls of its functions to another.

The tests run in the other process (`solution_tester`), so a solution can change nothing that its
verdict depends on: it returns plain values (`value_codec`), and only the tests' process has a
channel to the supervisor. The two exchange JSON lines over another socket (`peer`):

    solution -> tests   {"functions", "classes", "values"}: its public names
    tests -> solution   {"call", "arguments"}
    solution -> tests   {"result"}, {"exception", "result"}, {"unsupported_value"} or {"verdict"}

Values do not show everything (two rows that are the same list, a list that is returned again
later), and some cannot be sent at all (verdict `unsupported_value`). Graders therefore also run
the tests in the solution's own process.
"""

from __future__ import annotations

import contextlib
import json

from . import harness
from .plain_types import UnsupportedValue
from .value_codec import ValueCodec

UNSUPPORTED_VALUE = "unsupported_value"
MAX_DETAIL = 2_000  # characters


def serve_solution(fd: int, peer_fd: int) -> None:
    """Run a solution's source text, then serve calls until the tests end."""
    source = json.loads(harness.Channel(fd).readline())["source"]
    peer = harness.Channel(peer_fd)
    module = harness.make_module("solution", source, "solution.py")
    harness.add_recursion_headroom()
    status = harness.run_and_classify(lambda: harness.execute(module, source, "solution.py"))
    if status != harness.PASSED:
        harness.flush_output()
        peer.send({"verdict": status})
        return
    names = vars(module)
    public = [name for name in names if name[:1] != "_"]
    classes = [name for name in public if isinstance(names[name], type)]
    functions = [name for name in public if callable(names[name]) and name not in classes]
    values = [name for name in public if not callable(names[name])]
    peer.send({"functions": functions, "classes": classes, "values": values})
    while line := peer.readline():
        peer.write(answer_call(names, json.loads(line)).encode() + b"\n")


def answer_call(names: dict, request: dict) -> str:
    """Call a function of the solution, and return the reply as JSON."""
    codec = ValueCodec(names)
    try:
        args, kwargs = codec.decode(request["arguments"])
        try:
            reply = {"result": codec.encode(names[request["call"]](*args, **kwargs))}
        except SystemExit:
            return json.dumps({"verdict": harness.EXITED})
        except MemoryError:
            return json.dumps({"verdict": harness.OUT_OF_MEMORY})
        except UnsupportedValue:
            raise
        except BaseException as error:
            reply = {"exception": _encode_exception(codec, error), "result": codec.encode(None)}
        return json.dumps(reply)
    except (UnsupportedValue, RecursionError) as error:
        return json.dumps({UNSUPPORTED_VALUE: str(error)[:MAX_DETAIL]})


def _encode_exception(codec: ValueCodec, error: BaseException) -> dict:
    """Encode an exception: its classes' names, nearest first, its text and, if plain, its args."""
    classes = [[kind.__module__, kind.__qualname__] for kind in type(error).__mro__]
    args, text = None, ""
    with contextlib.suppress(UnsupportedValue, RecursionError):
        args = codec.encode(error.args)
    with contextlib.suppress(BaseException):
        text = str(error)[:MAX_DETAIL]
    return {"classes": classes, "args": args, "text": text}
