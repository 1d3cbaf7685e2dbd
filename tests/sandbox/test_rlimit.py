"""Every way in which a program ends has its own status, and none of them hurts the parent."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from code_alpaca import sandbox


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
        ("open('big', 'w').write('x' * (8 << 20))", "failed"),
        ("def f(): return f()\nf()", "failed"),
        ("import ctypes; ctypes.string_at(0)", "failed"),
        ("x = '\\ud800'", "passed"),
    ],
)  # fmt: skip
def test_status(program, status):
    result = sandbox.run(program, timeout=2)
    assert result.status == status, result


def test_environment_and_folder_are_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = sandbox.run("import os; print(dict(os.environ)); print(os.getcwd())")
    assert result.status == "passed"
    assert "hf_secret" not in result.stdout and str(tmp_path) not in result.stdout
    assert not Path(result.stdout.splitlines()[-1]).exists()


def test_children_end_with_the_program(tmp_path):
    mark = tmp_path / "alive"
    program = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        f"    time.sleep(1.5); open({str(mark)!r}, 'w').close(); os._exit(0)\n"
    )
    assert sandbox.run(program).status == "passed"
    time.sleep(2)
    assert not mark.exists()


def test_many_at_once_leave_no_descriptor_and_no_thread_behind():
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    sandbox.run("pass")
    before, threads = descriptors(), threading.active_count()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: sandbox.run(f"assert {n} % 2 == 0"), range(40)))
    assert [r.status for r in results] == ["passed", "failed"] * 20
    assert descriptors() == before
    assert threading.active_count() == threads
