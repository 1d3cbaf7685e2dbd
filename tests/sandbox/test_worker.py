"""Each way in which a program ends has a status, and a program leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from support.memory import measure_peak
from support.sandboxes import BACKENDS

from code_alpaca.core.errors import InputError
from code_alpaca.sandbox import ResourceLimits, Worker, WorkerPool, backends


@pytest.fixture(scope="module", params=BACKENDS)
def worker(request):
    with Worker(request.param) as worker:
        yield worker


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("assert 1 + 1 == 2", "passed"),
        ("", "passed"),
        ("assert 1 + 1 == 3", "failed"),
        ("this is not python", "failed"),
        ("import sys; sys.exit(0)", "exited"),
        ("import os; os._exit(0)", "exited"),
        ("raise KeyboardInterrupt", "failed"),
        ("while True: pass", "timeout"),
        ("import time; time.sleep(60)", "timeout"),
        ("import signal as s, time; s.signal(s.SIGTERM, s.SIG_IGN); time.sleep(60)", "timeout"),
        ("x = ' ' * (4 << 30)", "out_of_memory"),
        ("while True: print('x' * 10000)", "output_limit"),
        ("def f(): return f()\nf()", "failed"),
        ("import ctypes; ctypes.string_at(0)", "failed"),
        ("x = '\\ud800'", "passed"),
        ("print('\\ud800')", "failed"),
        ("import threading as t; x = t.Thread(target=print); x.start(); x.join()", "passed"),
        ("import asyncio; asyncio.run(asyncio.sleep(0))", "passed"),
        ("open('x', 'w')", "failed"),
    ],
)  # fmt: skip
def test_each_end_of_a_program_has_its_status(worker, program, status):
    limits = ResourceLimits(wall_s=1 if status == "timeout" else 30)
    result = worker.run_program(program, limits)
    assert result.status == status, result


def test_large_output_takes_little_memory(worker):
    program = "import os\nwhile True: os.write(1, b'x' * (1 << 20))"
    with measure_peak() as peak:
        result = worker.run_program(program, ResourceLimits(wall_s=60, output_bytes=1 << 26))
    assert result.status == "output_limit", result
    assert peak.num_bytes < 4 << 20


EVERY_CHANNEL = """
import os
def send(text):
    for fd in range(3, 20):
        view = memoryview(text)
        try:
            while view:
                view = view[os.write(fd, view):]
        except OSError:
            pass
"""


@pytest.mark.parametrize(
    "flood",
    [
        "send(b'\\n' * 4_000_000)",
        "while True: send(b'\\n' * 65536)",
        "send(b'[' + b'1,' * 30_000_000 + b'1]\\n')",
        "while True: send(b'x' * 65536)",
    ],
)
def test_a_flooded_channel_is_ended_at_its_limit_and_takes_little_memory(worker, flood):
    with measure_peak() as peak:
        result = worker.run_program(EVERY_CHANNEL + flood, ResourceLimits(wall_s=60))
    assert result.status == "output_limit", result
    assert peak.num_bytes < 64 << 20


def test_lines_before_the_verdict_do_not_change_it(worker):
    program = EVERY_CHANNEL + 'send(b\'{"verdict": "failed"}\\n\' * 1000)'
    assert worker.run_program(program, ResourceLimits()).status == "passed"


def test_the_next_program_gets_an_empty_folder(worker):
    write = "import os; assert not os.listdir(); os.makedirs('a/b'); open('a/b/x', 'w').write('y')"
    limits = ResourceLimits(folder_bytes=1 << 20)
    for _ in range(2):
        result = worker.run_program(write, limits)
        assert result.status == "passed", result
    many_files = "n = 0\nwhile True:\n  open(f'{n}', 'wb').write(bytes(1 << 19)); n += 1"
    large_file = "open('x', 'wb').write(bytes(2 << 20))"
    for program in (many_files, large_file):
        assert worker.run_program(program, limits).status in ("output_limit", "failed")
    assert worker.run_program(write, limits).status == "passed"


def test_syncs_do_nothing(worker):
    result = worker.run_program("import os\nos.sync()\nos.fsync(60)", ResourceLimits())
    assert result.status == "passed", result.stderr


def test_changes_to_modules_do_not_reach_the_next_program(worker):
    leak = "import json, builtins, sys; json.leak = builtins.leak = sys.leak = 1"
    worker.run_program(leak, ResourceLimits())
    program = "import json, sys\nassert not any(hasattr(m, 'leak') for m in (json, sys))\nleak"
    assert "NameError: name 'leak'" in worker.run_program(program, ResourceLimits()).stderr


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["/bin/sh", "-c", "exit 0"], "passed"),
        (["/bin/sh", "-c", "exit 3"], "failed"),
        (["/bin/sh", "-c", "while :; do :; done"], "timeout"),
        (["/bin/cat", "input.txt"], "passed"),
        (["/nonexistent"], "failed"),
    ],
)
def test_each_end_of_a_command_has_its_status(worker, argv, status):
    limits = ResourceLimits(wall_s=1 if status == "timeout" else 30, folder_bytes=1 << 20)
    result = worker.run_command(argv, limits, {"input.txt": "hello\ud800"})
    assert result.status == status, result
    if argv[0] == "/bin/cat":
        assert "hello" in result.stdout
    if argv[0] == "/nonexistent":
        assert "cannot run /nonexistent" in result.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_pool_leaves_no_process_descriptor_thread_mount_or_file(backend, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # other tests run beside this one

    def state() -> tuple:
        me = psutil.Process()
        # Direct children only: idle workers of other tests fork in the background.
        counts = len(me.children()), me.num_fds(), threading.active_count()
        return counts, Path("/proc/self/mounts").read_text(), os.listdir(tmp_path)

    before = state()
    with WorkerPool(backend, size=4) as pool:
        programs = [f"assert {n} % 2 == 0" for n in range(40)]
        with ThreadPoolExecutor(8) as threads:
            results = list(threads.map(pool.run_program, programs))
        assert [result.status for result in results] == ["passed", "failed"] * 20
    assert state() == before


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_worker_that_dies_is_replaced_and_its_program_run_again(backend):
    workers = []

    def job(worker):
        workers.append(worker)
        if len(workers) > 1:
            return worker.run_program("print('second run')", ResourceLimits())
        num_idle, ended = len(psutil.Process().children(recursive=True)), threading.Event()
        with ThreadPoolExecutor(1) as threads:
            threads.submit(kill_children_above, num_idle, ended)
            try:
                return worker.run_program("while True: pass", ResourceLimits(wall_s=60))
            finally:
                ended.set()

    with WorkerPool(backend, size=1) as pool:
        result = pool.run(job)
        assert (result.status, result.stdout) == ("passed", "second run\n")
        assert len(workers) == 2 and workers[0] is not workers[1]
        assert pool.run_program("1/0").status == "failed"


def kill_children_above(num_idle: int, ended: threading.Event) -> None:
    """Kill all children of this process once it has more than when the sandbox is idle."""
    children = []
    while len(children) <= num_idle and not ended.wait(0.01):
        children = psutil.Process().children(recursive=True)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):  # it died with its parent
            child.kill()


def test_a_sandbox_that_does_not_start_reports_its_error(monkeypatch):
    monkeypatch.setattr(backends, "FORK_SERVER", Path("/nonexistent.py"))
    with pytest.raises(InputError, match=r"does not start: .*nonexistent"):
        Worker(BACKENDS[0])
