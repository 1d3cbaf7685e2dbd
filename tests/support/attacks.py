"""Programs that try to pass tests with wrong answers, or to do harm; none may succeed.

Used by the tests, and run under another user and interpreter:

    python -m support.attacks landlock      # prints one JSON object: attack -> what it achieved
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from unittest import mock

from code_alpaca.sandbox import ResourceLimits, RunResult, SolutionTest, Worker

RIGHT = "def f(n):\n    return n + 1\n"
WRONG = "def f(n):\n    return 0\n"
# As benchmarks write tests: a comparison, all(), a loop over map().
TEST = """
def check(candidate):
    assert candidate(1) == 2
    assert all(candidate(n) == n + 1 for n in range(5))
    for got, want in zip(map(candidate, range(3)), [1, 2, 3]):
        assert got == want, "wrong"
    assert [candidate(7)] == [8] and candidate(8) in {9}
"""
LIMITS = ResourceLimits(wall_s=1.5, memory_mb=256, output_bytes=1 << 20)
EVERY_FD = "import os\ndef send(text):\n for fd in range(20):\n  try: os.write(fd, text)\n  except OSError: pass\n"
EQUAL = (
    "def __eq__(s, o): return True\n def __ne__(s, o): return False\n def __hash__(s): return 9\n"
)

FALSE_PASSES = {
    "exit 0 at import": "import os; os._exit(0)",
    "sys.exit at import": "raise SystemExit(0)",
    "exit 0 in the call": "import os\ndef f(n): os._exit(0)",
    "sys.exit in the call": "def f(n): raise SystemExit(0)",
    "object equal to all": f"class E:\n {EQUAL}\ndef f(n): return E()",
    "int subclass equal to all": f"class E(int):\n {EQUAL}\ndef f(n): return E(0)",
    "str subclass equal to all": f"class E(str):\n {EQUAL}\ndef f(n): return E('')",
    "float subclass equal to all": f"class E(float):\n {EQUAL}\ndef f(n): return E(0)",
    "list subclass equal to all": f"class E(list):\n {EQUAL}\ndef f(n): return E()",
    "dict subclass equal to all": f"class E(dict):\n {EQUAL}\ndef f(n): return E()",
    "tuple subclass equal to all": f"class E(tuple):\n {EQUAL}\ndef f(n): return E()",
    "object with a false class": f"class E:\n {EQUAL} __class__ = property(lambda s: int)\n"
    "def f(n): return E()",
    "patched builtins": "import builtins\nbuiltins.all = lambda *a: True\n"
    "builtins.AssertionError = type('A', (BaseException,), {})\n" + WRONG,
    "patched isinstance and type": "import builtins\nbuiltins.isinstance = lambda *a: True\n" + WRONG,
    "patched modules": "import json, sys\nfor m in list(sys.modules.values()):\n"
    " for n in ('encode', 'dumps'):\n"
    "  if hasattr(m, n): setattr(m, n, lambda *a, **k: '{\"verdict\": \"passed\"}')\n" + WRONG,
    "patched harness": "import sys\nharness = sys.modules['inside.harness']\n"
    "harness.run_and_classify = lambda *a: 'passed'\n" + WRONG,
    "patched solution server": "import sys\nserver = sys.modules['inside.solution_server']\n"
    "server.answer_call = lambda *a: '{\"verdict\": \"passed\"}'\n" + WRONG,
    "walk up the stack": "import sys\ndef f(n):\n frame = sys._getframe()\n while frame:\n"
    "  for k in list(frame.f_globals):\n   if k in ('PASSED', 'FAILED', 'status'):"
    " frame.f_globals[k] = 'passed'\n  frame = frame.f_back\n return 0",
    "steal from frames": "import gc\ndef f(n):\n for o in gc.get_objects():\n"
    "  if isinstance(o, dict) and 'want' in o: return o['want']\n return 0",
    "forged verdict on every descriptor": EVERY_FD
    + "send(b'{\"verdict\": \"passed\", \"detail\": \"\"}\\n')\n" + WRONG,
    "forged verdict in the call": EVERY_FD
    + "def f(n):\n send(b'{\"verdict\": \"passed\"}\\n')\n return 0",
    "answers before the calls": EVERY_FD + "send(b'{\"result\": [2, []]}\\n' * 50)\n" + WRONG,
    "forged report of the fork server": EVERY_FD
    + "send(b'{\"job\": 2, \"wait_status\": 0, \"peak_kb\": 1, \"folder_full\": false}')\n" + WRONG,
    "garbage on the wire": EVERY_FD + "def f(n):\n send(b'\\x00\\xff[[[\\n' * 100)\n return 0",
    "settrace": "import sys\nsys.settrace(lambda *a: sys._getframe(1).f_globals.update(n=1))\n" + WRONG,
    "atexit": "import atexit, os\natexit.register(lambda: os._exit(0))\n" + WRONG,
    "thread that writes": EVERY_FD + "import threading\ndef go():\n"
    " while 1: send(b'{\"verdict\": \"passed\"}\\n')\n"
    "threading.Thread(target=go, daemon=True).start()\n" + WRONG,
    "StopIteration ends the tests' loop": "def f(n):\n if n == 1: return 2\n raise StopIteration",
    "GeneratorExit": "def f(n): raise GeneratorExit",
    "KeyboardInterrupt": "def f(n): raise KeyboardInterrupt",
    "NotImplemented": "def f(n): return NotImplemented",
    "range bomb": "def f(n): return range(10**18)",
    "endless iterator": "import itertools\ndef f(n): return itertools.count()",
    "number with ten million digits": "def f(n): return 1 << 40_000_000",
    "nested without end": "def f(n):\n x = []\n for _ in range(100000): x = [x]\n return x",
    "contains itself": "def f(n):\n x = []\n x.append(x)\n return x",
    "closes its channel": "import os\nos.closerange(3, 20)\n" + WRONG,
}  # fmt: skip

FORK = "import os\nfor _ in range(50):\n  try: os.fork()\n  except OSError: pass\n"
HARMS = {
    # First: the attacks after it give it time before the victim's last check.
    "daemon": "import os, time\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n"
    "    time.sleep(1); open(OUTSIDE + '/daemon', 'w')",
    "endless loop": "while True: pass",
    "ignored signals": "import signal\nfor s in range(1, 64):\n  try: signal.signal(s, signal.SIG_IGN)\n"
    "  except (OSError, ValueError): pass\nwhile True: pass",
    "sleep": "import time; time.sleep(100)",
    "memory": "x = [bytearray(1 << 20) for _ in range(10000)]",
    "memory in threads": "import threading\ndef eat(): x = bytearray(1 << 30)\n"
    "[threading.Thread(target=eat).start() for _ in range(20)]",
    "fork storm": FORK * 4,
    "subprocess": "import subprocess\nsubprocess.run(['touch', OUTSIDE + '/touched'])",
    "write outside": "open(OUTSIDE + '/written', 'w').write('x')",
    "overwrite outside": "open(OUTSIDE + '/victim', 'w').write('x')",
    "truncate outside": "import os; os.truncate(OUTSIDE + '/victim', 0)",
    "delete outside": "import os; os.remove(OUTSIDE + '/victim')",
    "delete a folder": "import shutil; shutil.rmtree(OUTSIDE)",
    "rename outside": "import os; os.rename(OUTSIDE + '/victim', OUTSIDE + '/moved')",
    "link outside": "import os; os.link(OUTSIDE + '/victim', OUTSIDE + '/linked')",
    "change mode outside": "import os; os.chmod(OUTSIDE + '/victim', 0o777)",
    "change times outside": "import os; os.utime(OUTSIDE + '/victim', (1, 1))",
    "read a secret": "print(open(OUTSIDE + '/secret').read())",
    "list outside": "import os; os.listdir(OUTSIDE); print('SECRET')",
    "watch outside": "import ctypes\nlibc = ctypes.CDLL(None)\n"
    "if libc.inotify_add_watch(libc.inotify_init1(0), OUTSIDE.encode(), 0xfff) >= 0: print('SECRET')",
    "environment": "import os; print(os.environ)",
    "parent's environment": "import os\nfor p in (os.getppid(), PARENT):\n"
    "  try: print(open(f'/proc/{p}/environ').read())\n  except OSError: pass",
    "parent's memory": "import os\nfor p in (os.getppid(), PARENT):\n"
    "  try: open(f'/proc/{p}/mem', 'r+b')\n  except OSError: continue\n  print('SECRET')",
    "token file": "import os\nprint(open(HOME + '/.cache/huggingface/token').read())",
    "loopback TCP": "import socket; socket.create_connection(('127.0.0.1', PORT), 1)",
    "listen on TCP": "import socket; socket.create_server(('127.0.0.1', 0)); print('SECRET')",
    "kill the parent": "import os, signal\nfor p in (os.getppid(), PARENT):\n"
    "  try: os.kill(p, signal.SIGKILL)\n  except OSError: pass",
    "kill everything": "import os, signal\nos.kill(-1, signal.SIGKILL)",
    "kill the group": "import os, signal\nos.killpg(0, signal.SIGKILL)",
    "signal through a descriptor's owner": "import fcntl, os, signal\nr, w = os.pipe()\n"
    "fcntl.fcntl(r, fcntl.F_SETOWN, os.getppid()); print('SECRET')",
    "trace the parent": "import ctypes, os\nr = ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0)\n"
    "if r == 0: print('SECRET')",
    "raise its limits": "import resource\n"
    "resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2); print('SECRET')",
    "outlive the parent": "import ctypes\nif ctypes.CDLL(None).prctl(1, 0, 0, 0, 0) == 0: print('SECRET')",
    "new namespaces": "import ctypes\nif ctypes.CDLL(None).unshare(0x10000000) == 0: print('SECRET')",
    "System V memory": "import ctypes\nif ctypes.CDLL(None).shmget(77, 4096, 0o1666) >= 0: print('SECRET')",
    "output flood": "while True: print('x' * 100000)",
    "error flood": "import sys\nwhile True: sys.stderr.write('x' * 100000)",
    "channel flood": "import os\nwhile True:\n  for fd in range(3, 9):\n"
    "    try: os.write(fd, b'x' * 100000)\n    except OSError: pass",
    "segfault": "import ctypes; ctypes.string_at(0)",
    "recursion": "import sys\nsys.setrecursionlimit(10**9)\ndef g(): g()\ng()",
    "huge file": "open('big', 'wb').write(bytes(100 << 20))",
    "many files": "x = [open('/dev/null') for _ in range(10000)]",
    "execute another program": "import os; os.execv('/bin/sh', ['sh', '-c', 'echo SECRET'])",
}  # fmt: skip

SMALL = ResourceLimits(wall_s=5, memory_mb=256, folder_bytes=4 << 20)
MAX_WRITTEN = 4 * SMALL.folder_bytes  # bytes: of all files of a program together
MAX_ENTRIES, MAX_THREADS = 4_096, 256
MANY = "for n in range(1, 70_000):\n  {}\n  if n % 512 == 0: print(n, flush=True)\n"
# Each prints how much it has used so far (bytes, files or threads), with how much is allowed.
FILLS = {
    "many files": ("n = 0\nwhile True:\n  open(f'{n}', 'wb').write(bytes(1 << 20)); n += 1\n"
                   "  print(n << 20, flush=True)", MAX_WRITTEN),
    "deleted but open files": (
        "import os\nx = []\nwhile True:\n  f = open('a', 'wb', buffering=0); os.unlink('a')\n"
        "  f.write(bytes(1 << 20)); x.append(f); print(len(x) << 20, flush=True)", MAX_WRITTEN),
    "files in memory": (
        "import os\nx = []\nwhile True:\n  f = os.memfd_create('x'); os.write(f, bytes(1 << 20))\n"
        "  x.append(f); print(len(x) << 20, flush=True)", MAX_WRITTEN),
    "mapped files": (
        "import mmap\nn = 0\nwhile True:\n  f = open(f'{n}', 'w+b'); f.truncate(1 << 20); n += 1\n"
        "  m = mmap.mmap(f.fileno(), 1 << 20); m.write(bytes(1 << 20)); m.close(); f.close()\n"
        "  print(n << 20, flush=True)", MAX_WRITTEN),
    "files on standard error": (
        "import os\nn = 0\nwhile True:\n  f = open(f'{n}', 'wb'); os.dup2(f.fileno(), 2); n += 1\n"
        "  f.close(); os.write(2, bytes(1 << 20)); print(n << 20, flush=True)", MAX_WRITTEN),
    "files on the channel": (
        "import os\nn = 0\nwhile True:\n  f = open('a', 'wb', buffering=0); n += 1\n"
        "  for fd in range(3, 20):\n    try: os.dup2(f.fileno(), fd); os.write(fd, bytes(1 << 16))\n"
        "    except OSError: pass\n  print(n << 16, flush=True)", MAX_WRITTEN),
    "calls without a size in a register": (
        "import os\nn = 0\nsource = open('a', 'w+b'); source.write(bytes(1 << 20)); source.flush()\n"
        "while True:\n  f = open(f'{n}', 'wb')\n"
        "  for copy in (lambda: os.sendfile(f.fileno(), source.fileno(), 0, 1 << 20),\n"
        "      lambda: os.copy_file_range(source.fileno(), f.fileno(), 1 << 20, 0),\n"
        "      lambda: os.writev(f.fileno(), [bytes(1 << 20)]),\n"
        "      lambda: os.posix_fallocate(f.fileno(), 0, 1 << 20)):\n"
        "    try: copy(); n += 1\n    except OSError: pass\n"
        "  print(n << 20, flush=True)", MAX_WRITTEN),
    "files in a folder that only it can list": (
        "import os\nos.umask(0o477); os.mkdir('d'); os.umask(0o077); n = 0\nwhile True:\n"
        "  open(f'd/{n}', 'wb').write(bytes(1 << 20)); n += 1; print(n << 20, flush=True)",
        MAX_WRITTEN),
    "empty files": (MANY.format("open(f'{n}', 'w').close()"), MAX_ENTRIES),
    "empty folders": ("import os\n" + MANY.format("os.mkdir(str(n))"), MAX_ENTRIES),
    "links": ("import os\nopen('a', 'w')\n" + MANY.format("os.link('a', str(n))"), MAX_ENTRIES),
    "threads": (
        "import threading, time\nthreading.stack_size(32768)\n" + MANY.format(
            "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()")
        .replace("512", "64"), MAX_THREADS),
}  # fmt: skip
# However these end, the next program must not notice.
LITTER = {
    "nested folders": "import os\nfor _ in range(1500): os.mkdir('a'); os.chdir('a')",
    "nested folders without permissions": "import os\nos.umask(0o477)\n"
    "for _ in range(1500): os.mkdir('a'); os.chdir('a')",
    "entries without a mode": "import os\nos.umask(0o777)\nos.mkdir('d'); open('f', 'w')",
    "odd names": "import os\nfor name in (b'\\xff', b'\\n', b'-rf', b'\\xe2\\x80\\xae', b'x' * 255):\n"
    "  os.mkdir(name); open(name + b'/' + name, 'w').close()",
    "links to everywhere": "import os\nfor n, to in enumerate(('/', '..', '/etc/passwd', '0')):\n"
    "  os.symlink(to, str(n))",
    "a folder that has grown": "import os\nfor n in range(900): open(f'{n:0200}', 'w').close()\n"
    "for n in range(900): os.unlink(f'{n:0200}')",
    "timers": "import ctypes\nlibc, timer = ctypes.CDLL(None), ctypes.c_void_p()\n"
    "if libc.timer_create(0, None, ctypes.byref(timer)) == 0: print('SECRET')",
    "files in shared places": "import os\nfor place in ('/dev/shm', '/dev', '/tmp', '/var/tmp', '/',\n"
    "    '/sandbox', '..', '/run/user/0'):\n"
    "  try: open(place + '/left', 'w').write('SECRET'); print('SECRET')\n  except OSError: pass",
    "another seccomp filter": "import ctypes\nlibc = ctypes.CDLL(None)\n"
    "if libc.prctl(22, 1, 0, 0, 0) == 0 or libc.syscall(317, 0, 0, 0) == 0: print('SECRET')",
}
CLEAN = (
    "import os, tempfile\nassert os.listdir() == [] and os.stat('.').st_size < 1 << 16\n"
    "tempfile.mkdtemp()"
)


class Victim:
    """A folder with files to harm, a listener, a secret in the environment, and a token file."""

    SECRET = "SECRET-5d41402abc4b2a76"

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="victim-")
        self.home = tempfile.mkdtemp(prefix="home-")
        token = Path(self.home, ".cache", "huggingface", "token")
        token.parent.mkdir(parents=True)
        token.write_text(self.SECRET)
        Path(self.folder, "victim").write_text("unharmed")
        Path(self.folder, "secret").write_text(self.SECRET)
        os.chmod(self.folder, 0o777)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.before = self._state()

    def __enter__(self) -> Victim:
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.home, ignore_errors=True)

    def variables(self) -> str:
        """Return the first lines of an attack, which locate the victim."""
        return (
            f"OUTSIDE = {self.folder!r}\nHOME = {self.home!r}\nPARENT = {os.getpid()}\n"
            f"PORT = {self.listener.getsockname()[1]}\n"
        )

    def find_harm(self, printed: str) -> str:
        """Describe the harm that was done; "" for none."""
        if "SECRET" in printed:  # the secret contains it, and attacks print it on success
            return "a secret was printed"
        if self._state() != self.before:
            return "files changed"
        try:
            self.listener.accept()
            return "the network was reached"
        except BlockingIOError:
            return ""

    def _state(self) -> object:
        entries = sorted(os.listdir(self.folder))
        stat = os.stat(Path(self.folder, "victim")) if "victim" in entries else None
        return entries, stat and (stat.st_size, stat.st_mode, stat.st_mtime, stat.st_nlink)


Attack = Callable[[Worker, Victim], str]
THREADS = 3
MAX_DELAY_S = 3.0


def run_attacks(backend: str, *, max_delay_s: float = float("inf")) -> dict[str, str]:
    """Run every attack on a backend; return what each achieved, "" for nothing.

    The attacks are divided among a few threads. Each has one worker, which must survive, and one
    victim. A program may overrun its time limit by `max_delay_s`.
    """
    attacks: dict[str, Attack] = {
        f"harm: {name}": partial(do_harm, source, max_delay_s) for name, source in HARMS.items()
    }
    attacks |= {f"false pass: {name}": partial(pass_falsely, s) for name, s in FALSE_PASSES.items()}
    attacks |= FOLDER_ATTACKS

    def run_slice(names: list[str]) -> dict[str, str]:
        with Worker(backend) as worker, Victim() as victim:
            achieved = {name: attacks[name](worker, victim) for name in names}
            achieved[f"{names[0]}, and those after it"] = victim.find_harm("")
            status = judge(worker, RIGHT).status
            achieved[f"right answer after {names[-1]}"] = "" if status == "passed" else status
        return achieved

    names = list(attacks)
    in_environment = mock.patch.dict(os.environ, HF_TOKEN=Victim.SECRET)
    with in_environment, ThreadPoolExecutor(THREADS) as threads:
        slices = threads.map(run_slice, [names[n::THREADS] for n in range(THREADS)])
        return {name: result for achieved in slices for name, result in achieved.items()}


def run_folder_attacks(worker: Worker) -> dict[str, str]:
    """Run the attacks on the folder of a program, and on the program after it, on one worker."""
    with Victim() as victim:
        return {name: attack(worker, victim) for name, attack in FOLDER_ATTACKS.items()}


def pass_falsely(source: str, worker: Worker, victim: Victim) -> str:
    return "fooled" if judge(worker, source).status == "passed" else ""


def do_harm(source: str, max_delay_s: float, worker: Worker, victim: Victim) -> str:
    """Run a harmful program by itself and as a solution."""
    program = victim.variables() + source
    by_itself = worker.run_program(program, LIMITS)
    as_solution = judge(worker, program + "\n" + WRONG)
    outputs = (by_itself.stdout, by_itself.stderr, as_solution.stdout, as_solution.stderr)
    # A traceback quotes the program's own lines.
    own_lines = {line.strip() for line in source.splitlines()}
    printed = [
        line for text in outputs for line in text.splitlines() if line.strip() not in own_lines
    ]
    if harm := victim.find_harm("\n".join(printed)):
        return harm
    if as_solution.status == "passed":
        return "fooled"
    delay = max(by_itself.duration, as_solution.duration) - LIMITS.wall_s
    return "exceeded its time limit" if delay > max_delay_s else ""


def fill_up(source: str, allowed: int, worker: Worker, victim: Victim) -> str:
    result = worker.run_program(source, SMALL)
    used = [int(line) for line in result.stdout.split() if line.isdigit()]
    return "used too much" if max(used, default=0) > allowed else ""


def leave_litter(source: str, worker: Worker, victim: Victim) -> str:
    printed = worker.run_program(source, SMALL).stdout
    if "SECRET" in printed:
        return "it was possible"
    after = worker.run_program(CLEAN, SMALL)
    return "" if after.status == "passed" else f"the next program: {after.stderr}"


def judge(worker: Worker, source: str) -> RunResult:
    return worker.test_solution(source, SolutionTest(TEST, "f"), LIMITS)


FOLDER_ATTACKS: dict[str, Attack] = {
    **{f"fill: {name}": partial(fill_up, *fill) for name, fill in FILLS.items()},
    **{f"litter: {name}": partial(leave_litter, source) for name, source in LITTER.items()},
}


if __name__ == "__main__":
    print(json.dumps(run_attacks(sys.argv[1], max_delay_s=MAX_DELAY_S)))
