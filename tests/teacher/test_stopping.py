"""A stopping run waits for the replies in flight, records them and exits with status 3."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading

import pytest
from support.chat_double import generate_args, http_bytes, open_ledger, raw_server

from code_alpaca.cli import main

IN_FLIGHT = 4
UNAUTHORIZED = http_bytes('{"error": {"message": "no such key"}}').replace(b"200 OK", b"401 No")


class HoldingTeacher:
    """A teacher that holds its replies until `release` is set.

    Args:
        refuse: whether to refuse the last of the first IN_FLIGHT requests.
        on_in_flight: called when IN_FLIGHT requests have arrived.
    """

    def __init__(self, *, refuse: bool = False, on_in_flight=lambda: None) -> None:
        self.in_flight, self.release = threading.Event(), threading.Event()
        self.refuse, self.on_in_flight = refuse, on_in_flight

    def respond(self, body, index):
        if index == IN_FLIGHT - 1:
            self.in_flight.set()
            self.on_in_flight()
            if self.refuse:
                return UNAUTHORIZED
        self.release.wait(60)
        return None


class ReleaseOnWait(io.StringIO):
    """A standard output that releases the replies once the command reports that it waits."""

    def __init__(self, teacher: HoldingTeacher) -> None:
        super().__init__()
        self.teacher = teacher

    def write(self, text: str) -> int:
        if "waiting up to" in text:
            self.teacher.release.set()
        return super().write(text)


def generate_until_stopped(run_dir, teacher: HoldingTeacher) -> tuple[int, str]:
    """Run `generate` in this process; return its exit code and output."""
    output = ReleaseOnWait(teacher)
    with raw_server(teacher.respond) as url, contextlib.redirect_stdout(output):
        code = main(generate_args(run_dir, url, "--decontaminate", "none", rows=400))
    return code, output.getvalue()


def test_a_fatal_error_records_the_slower_replies(tmp_path, capsys):
    code, output = generate_until_stopped(tmp_path, HoldingTeacher(refuse=True))
    assert code == 3 and "replies in flight" in output
    assert "no such key" in capsys.readouterr().err
    with open_ledger(tmp_path) as ledger:
        assert ledger.usage()["replies"] >= IN_FLIGHT - 1


@pytest.fixture(params=[signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=lambda n: n.name)
def stop_signal(request):
    """A signal that fails the test, instead of ending pytest, if the command does not handle it."""

    def fail(number, frame):
        raise AssertionError(f"signal {number} was not handled")

    before = signal.getsignal(request.param)
    if request.param != signal.SIGINT:  # asyncio handles Ctrl-C only in place of Python's handler
        signal.signal(request.param, fail)
    yield request.param
    signal.signal(request.param, before)


def test_a_signal_records_the_replies_in_flight(tmp_path, capsys, stop_signal):
    teacher = HoldingTeacher(on_in_flight=lambda: os.kill(os.getpid(), stop_signal))
    code, output = generate_until_stopped(tmp_path, teacher)
    assert code == 3 and f"{IN_FLIGHT} replies in flight" in output
    error = capsys.readouterr().err
    assert "interrupted" in error and "Traceback" not in error
    with open_ledger(tmp_path) as ledger:
        assert ledger.usage()["replies"] == IN_FLIGHT


def test_a_second_signal_ends_the_wait(tmp_path):
    teacher = HoldingTeacher()
    with raw_server(teacher.respond) as url:
        args = generate_args(tmp_path, url, "--decontaminate", "none", rows=400)
        command = [sys.executable, "-m", "code_alpaca.cli", *args]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert teacher.in_flight.wait(60)
                process.send_signal(signal.SIGTERM)
                assert any("waiting up to" in line for line in process.stdout)
                process.send_signal(signal.SIGTERM)
                assert process.wait(timeout=20) == -signal.SIGTERM
            finally:
                process.kill()
                teacher.release.set()
