"""A program may write to one folder, of bounded size, that is removed when it ends."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support.needs import need, need_program
from support.python_process import run_python
from support.sandboxes import BACKENDS

from code_alpaca.sandbox import ResourceLimits, Worker, WorkerPool
from code_alpaca.sandbox.inside.folder_cleanup import empty_folder
from code_alpaca.sandbox.temp_folder import PREFIX

LIMITS = ResourceLimits(folder_bytes=16 << 20)


@pytest.fixture(scope="module", params=BACKENDS)
def pool(request):
    with WorkerPool(request.param, size=1) as pool:
        yield pool


ORDINARY = {
    "temporary files": """
import os, tempfile
with tempfile.TemporaryDirectory() as path:
    open(path + "/x", "w").write("1")
    assert os.listdir(path) == ["x"]
with tempfile.NamedTemporaryFile("w+") as file:
    file.write("hi")
tempfile.mkdtemp()
""",
    "a configuration below the home folder": """
from pathlib import Path
folder = Path.home() / ".config" / "matplotlib"
folder.mkdir(parents=True)
(folder / "matplotlibrc").write_text("")
""",
    "copies with their modes": """
import os, shelve, shutil
open("a", "w").write("text")
shutil.copy("a", "b"), shutil.copy2("a", "c"), shutil.move("b", "d")
os.chmod("a", 0o600)
with shelve.open("s") as shelf:
    shelf["a"] = 1
assert open("d").read() == "text"
""",
    "a database": """
import sqlite3
db = sqlite3.connect("x.db")
db.execute("CREATE TABLE t (a)")
for n in range(200):
    db.execute("INSERT INTO t VALUES (?)", (n,))
    db.commit()
""",
    "a log that is flushed, and opened again and again": """
log = open("log", "w")
for n in range(5_000):
    print(n, file=log, flush=True)
for n in range(5_000):
    open("again", "a").close()
""",
    "a mapped file": """
import mmap
with open("a", "w+b") as file:
    file.write(b"hello")
    file.flush()
    with mmap.mmap(file.fileno(), 0) as view:
        view[:1] = b"H"
assert open("a").read() == "Hello"
""",
    "standard output into a file and back": """
import os, tempfile
saved, file = os.dup(1), tempfile.TemporaryFile()
os.dup2(file.fileno(), 1)
print("captured", flush=True)
os.dup2(saved, 1)
file.seek(0)
assert file.read() == b"captured\\n"
""",
    "many short outputs": "for n in range(20_000): print(n, flush=True)",
    "64 threads at a time": """
import threading
barrier = threading.Barrier(65)
threads = [threading.Thread(target=barrier.wait) for _ in range(64)]
for thread in threads: thread.start()
barrier.wait()
for thread in threads: thread.join()
""",
    "a thousand threads in turn": """
import threading
for _ in range(1_000):
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
""",
    "deep recursion in a thread with a large stack": """
import sys, threading
sys.setrecursionlimit(10 ** 6)
threading.stack_size(512 << 20)
found = []
def depth(n): return 0 if n == 0 else 1 + depth(n - 1)
thread = threading.Thread(target=lambda: found.append(depth(50_000)))
thread.start()
thread.join()
assert found == [50_000]
""",
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_programs_run_in_the_default_limits(pool, name):
    result = pool.run_program(ORDINARY[name])
    assert result.status == "passed", result.stderr


# In a kernel without Landlock, only bwrap is safe.
KERNELS = [(name, True) for name in BACKENDS] + [("bwrap", False)] * ("bwrap" in BACKENDS)
JUDGE_AND_CLEAN = """
import sys
from code_alpaca.sandbox import ResourceLimits, SolutionTest, Worker
from support.attacks import CLEAN
backend, solution, test = sys.argv[1:]
limits = ResourceLimits(folder_bytes=1 << 20)
with Worker(backend) as worker:
    print(worker.test_solution(solution, SolutionTest(test, "f"), limits).status)
    print(worker.run_program(CLEAN, limits).status)
"""


@pytest.mark.parametrize(("backend", "landlock"), KERNELS)
def test_a_solution_and_its_tests_have_separate_folders(backend, landlock):
    solution = (
        "from os import getcwd, listdir\nopen('mine', 'w').write('x')\n"
        "def f(n):\n    return [listdir(), getcwd()]\n"
    )
    test = """
import os
open("tests file", "w").write("x")
def check(candidate):
    names, path = candidate(0)
    assert names == ["mine"] and os.listdir() == ["tests file"]
    assert path != os.getcwd() and path.startswith(os.path.dirname(os.getcwd()))
    for attempt in (lambda: os.listdir(".."), lambda: open("../x", "w")):
        try:
            attempt()
        except PermissionError:
            continue
        assert False, "the parent folder can be used"
"""
    done = run_python(JUDGE_AND_CLEAN, backend, solution, test, landlock=landlock)
    assert done.stdout.split() == ["passed", "passed"], done


ATTACK_FOLDERS = """
import json
from code_alpaca.sandbox import Worker
from support.attacks import run_folder_attacks
with Worker("bwrap") as worker:
    print(json.dumps(run_folder_attacks(worker)))
"""


def test_bubblewrap_resists_folder_attacks_without_landlock():
    need_program("bwrap", "bubblewrap")
    done = run_python(ATTACK_FOLDERS, landlock=False)
    assert done.returncode == 0, done.stderr
    assert {name: harm for name, harm in json.loads(done.stdout).items() if harm} == {}


def test_programs_run_where_another_filter_is_already_notified():
    """A container may use the only listener that the kernel allows."""
    need(os.uname().machine == "x86_64", "the filter of this test is written for x86-64")
    script = [sys.executable, "-c", IN_A_NOTIFYING_FILTER, *BACKENDS]
    done = subprocess.run(script, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["passed", "output_limit", "passed"] * len(BACKENDS), done


IN_A_NOTIFYING_FILTER = f"""
import ctypes, struct, sys
from code_alpaca.sandbox import ResourceLimits, Worker
libc = ctypes.CDLL(None)
libc.prctl(38, 1, 0, 0, 0)
allow = ctypes.create_string_buffer({struct.pack("HBBI", 6, 0, 0, 0x7FFF0000)!r}, 8)
program = struct.pack("HxxxxxxP", 1, ctypes.addressof(allow))
assert libc.syscall(317, 1, 8, ctypes.c_char_p(program)) > 0
full = "n = 0\\nwhile True:\\n  open(str(n % 900), 'wb').write(bytes(1 << 14)); n += 1"
for backend in sys.argv[1:]:
    with Worker(backend) as worker:
        for source in ("", full, "import os; assert not os.listdir()"):
            print(worker.run_program(source, ResourceLimits(folder_bytes=1 << 20)).status)
"""


def test_a_folder_of_any_shape_is_emptied(tmp_path):
    (tmp_path / "0").mkdir()
    for name in (b"\xff", b"\n", b"-rf", b"1", b"x" * 255):
        os.mkdir(os.fsencode(tmp_path) + b"/0/" + name)
    Path(tmp_path, "0", "1", "file").write_text("x")
    (tmp_path / "0" / "1").chmod(0o000)
    Path(tmp_path, "link").symlink_to("/")
    os.mkfifo(tmp_path / "pipe")
    handle = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1_100):  # longer than a path may be, and than the recursion limit
        os.mkdir("deep", dir_fd=handle)
        inner = os.open("deep", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    os.close(handle)
    empty_folder(str(tmp_path))
    assert os.listdir(tmp_path) == []


KEEPS_RUNNING = """
import sys
from code_alpaca.sandbox import ResourceLimits, WorkerPool
source = "import os; os.makedirs('a/b'); open('a/c', 'w')\\nwhile True: pass"
with WorkerPool("landlock", size=1) as pool:
    pool.run_program("")
    print("started", flush=True)
    pool.run_program(source, ResourceLimits(wall_s=60, folder_bytes=1 << 20))
"""


SLOW_SIGNALS = [pytest.param(n, marks=pytest.mark.slow) for n in ("SIGTERM", "SIGINT", "SIGHUP")]


@pytest.mark.parametrize("name", ["SIGKILL", *SLOW_SIGNALS])
def test_a_signal_leaves_no_folder_and_no_process(name, tmp_path):
    need("landlock" in BACKENDS, "bwrap keeps the files of programs in memory")
    process = subprocess.Popen(
        [sys.executable, "-c", KEEPS_RUNNING],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout.readline() == b"started\n"
    children = psutil.Process(process.pid).children(recursive=True)
    assert children and list(tmp_path.iterdir())
    process.send_signal(getattr(signal, name))
    process.wait(60)
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    assert list(tmp_path.iterdir()) == []
    process.stdout.close()


def test_folders_of_killed_processes_are_removed_at_the_next_start(tmp_path, monkeypatch):
    need("landlock" in BACKENDS, "bwrap keeps the files of programs in memory")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stale, used = tmp_path / f"{PREFIX}stale", tmp_path / f"{PREFIX}used"
    (stale / "program" / "deep").mkdir(parents=True)
    used.mkdir()
    (tmp_path / "another-folder").mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "another-folder")
    handle = os.open(used, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with Worker("landlock"):
        pass
    os.close(handle)
    remaining = {path.name for path in tmp_path.iterdir()}
    assert remaining == {used.name, "another-folder", f"{PREFIX}link"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_error_of_the_sandbox_fails_its_program_and_the_next_one_runs(backend):
    def broken(worker):
        worker.run_program("", LIMITS)
        raise RecursionError("in the supervisor")

    with WorkerPool(backend, size=1) as pool:
        result = pool.run(broken)
        assert result.status == "failed" and "RecursionError: in the supervisor" in result.stderr
        assert pool.run_program("").status == "passed"
