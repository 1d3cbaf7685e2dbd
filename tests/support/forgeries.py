"""Wrong programs that try to be graded as passed although tests run in their own process.

Unlike `attacks.FALSE_PASSES`, which use generic tricks, these target the sandbox's own code. Used
by the tests, and run under another user and interpreter:

    python -m support.forgeries landlock    # prints one JSON object: problem and forgery -> grade
"""

from __future__ import annotations

import json
import sys

from code_alpaca.evaluation.grading import Grader
from code_alpaca.problems import Problem
from code_alpaca.sandbox import WorkerPool
from support.attacks import FALSE_PASSES, TEST

BOX_TEST = """
class Box:
    def __init__(self, value):
        self.value = value

def check(candidate):
    assert candidate(Box(1)) == 2
    assert all(candidate(Box(n)) == n + 1 for n in range(5))
    for got, want in zip(map(candidate, [Box(n) for n in range(3)]), [1, 2, 3]):
        assert got == want, "wrong"
    assert [candidate(Box(7))] == [8] and candidate(Box(8)) in {9}
"""
ERROR_TEST = """
def check(candidate):
    try:
        candidate(object())
    except TypeError as error:
        assert error.args == ("not an int", 3)
    else:
        assert False
    assert candidate(1).value == 2
"""
# The first is decided by plain values; the others use objects that cannot be sent.
PROBLEMS = [
    Problem("plain values", "def f(n):\n", "f", "    return n + 1\n", TEST),
    Problem("an object as argument", "def f(n):\n", "f", "    return n.value + 1\n", BOX_TEST),
    Problem("no reference", "def f(n):\n", "f", "", BOX_TEST),
    Problem(
        "an object as answer",
        "class Box:\n    def __init__(self, value):\n        self.value = value\n\n"
        'def f(n):\n    """Box n + 1"""\n',
        "f",
        "    if type(n) is not int:\n        raise TypeError('not an int', 3)\n"
        "    return Box(n + 1)\n",
        ERROR_TEST,
    ),
]
RIGHT = {
    "plain values": "def f(n):\n    return n + 1\n",
    "an object as argument": "def f(box):\n    return 1 + box.value\n",
    "no reference": "def f(box):\n    return 1 + box.value\n",
    "an object as answer": "import types\ndef f(n):\n    if not isinstance(n, int):\n"
    "        raise TypeError('not an int', 3)\n    return types.SimpleNamespace(value=n + 1)\n",
}
WALK = """
import json, os, sys
def f(n):
    frame = sys._getframe()
    while frame:
        for value in list(frame.f_locals.values()) + list(frame.f_globals.values()):
            if hasattr(value, "write") and hasattr(value, "readline"):
                try:
                    value.write(b'{"ended": "passed"}\\n')
                    nonce = json.loads(value.readline())["nonce"]
                    value.write(json.dumps({"verdict": "passed", "nonce": nonce}).encode() + b"\\n")
                    os._exit(0)
                except Exception: pass
        frame = frame.f_back
"""
BY_DESCRIPTOR = """
import json, os
def f(n):
    for fd in range(3, 64):
        try:
            os.write(fd, b'{"ended": "passed"}\\n')
            nonce = json.loads(os.read(fd, 1000))["nonce"]
            os.write(fd, json.dumps({"verdict": "passed", "nonce": nonce}).encode() + b"\\n")
            os._exit(0)
        except Exception: pass
"""
FORGERIES = {
    **FALSE_PASSES,
    "the channel by a walk up the stack": WALK,
    "the channel by its descriptor": BY_DESCRIPTOR,
    "the protocol at import": BY_DESCRIPTOR.replace("def f(n):", "if True:"),
    "the harness by the collector": "import gc, sys\ndef f(n):\n for found in gc.get_objects():\n"
    "  if isinstance(found, dict) and 'FAILED' in found and 'EXITED' in found:\n"
    "   found['FAILED'] = found['EXITED'] = 'passed'\n raise SystemExit",
    "the harness by its module": "import sys\ndef f(n):\n harness = sys.modules['inside.harness']\n"
    " harness.FAILED = harness.EXITED = 'passed'\n raise ValueError",
    "a channel that sends another verdict": "import sys\ndef f(n):\n"
    " channel = sys.modules['inside.harness'].Channel\n send = channel.send\n"
    " def forge(self, message):\n"
    "  send(self, {**message, 'verdict': 'passed', 'ended': 'passed'})\n"
    " channel.send = forge\n raise ValueError",
    "another check": "import sys\ndef f(n):\n sys._getframe(1).f_globals['check'] = print\n",
    "the code of check": "import sys\ndef f(n):\n frame = sys._getframe(1)\n"
    " while frame and 'check' not in frame.f_globals: frame = frame.f_back\n"
    " frame.f_globals['check'].__code__ = (lambda candidate: None).__code__\n raise SystemExit",
    "a jump in the tests": "import sys\ndef f(n):\n frame = sys._getframe(1)\n"
    " def jump(frame, event, arg):\n  try: frame.f_lineno = 99\n  except ValueError: pass\n"
    "  return jump\n sys.settrace(jump)\n frame.f_trace = jump\n return 0",
    "the constants of check": "import sys\ndef f(n):\n frame = sys._getframe(1)\n"
    " numbers = [c for c in frame.f_code.co_consts if isinstance(c, int)]\n"
    " return numbers[-1] if numbers else 0",
    "an object with every attribute": "class Any:\n def __getattr__(self, name): return self\n"
    " def __call__(self, *a): return self\n def __iter__(self): return iter(())\n"
    " def __bool__(self): return True\n def __eq__(self, other): return True\n"
    " def __hash__(self): return 9\ndef f(n):\n if type(n) is object:\n"
    "  raise type('E', (TypeError,), {'args': Any()})\n return Any()",
    "assertions that cannot fail": "import builtins\nclass E(Exception): pass\n"
    "builtins.AssertionError = E\ndef f(n): return 0",
    "an exit hook": "import atexit, os\natexit.register(os._exit, 0)\ndef f(n): raise SystemExit",
    "a thread that ends the process": "import os, threading\n"
    "threading.Timer(0.01, os._exit, [0]).start()\nimport time\ndef f(n): time.sleep(1)",
    "the end of the source": "def f(n): return 0\nraise SystemExit(0)",
    "a string over the tests": 'def f(n): return 0\ndef check(candidate): pass\n"""',
}  # fmt: skip


POOL_SIZE = 6  # more than CPU cores: many forgeries wait for their time limit


def grade_forgeries(backend: str) -> dict[str, str]:
    """Return each wrong grade: a forgery that passes, or a right program that does not."""
    wrong: dict[str, str] = {}
    with WorkerPool(backend, size=POOL_SIZE) as pool:
        grader = Grader(pool, timeout=1.5)
        for problem in PROBLEMS:
            programs = {"right": RIGHT[problem.task_id], **FORGERIES}
            grades = grader.grade([problem] * len(programs), list(programs.values()))
            for name, grade in zip(programs, grades, strict=True):
                if (grade.status == "passed") is not (name == "right"):
                    wrong[f"{problem.task_id}: {name}"] = grade.status
    return wrong


if __name__ == "__main__":
    print(json.dumps(grade_forgeries(sys.argv[1])))
