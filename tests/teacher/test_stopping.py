"""A stopping run waits for the replies in flight, records them and exits with status 3."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter

import httpx2
import pytest
from support.chat_double import generate_args, http_bytes, open_ledger, raw_server
from support.simulated_teacher import (
    SimulatedServer,
    complete_all,
    complete_prompts,
    error,
    is_reply,
    prompt_number,
    run_with_teacher,
)

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


NUM_PROMPTS = 12
FAULTS = (
    lambda: error(500, "broken"),
    lambda: error(503, "busy", **{"Retry-After": "1"}),
    lambda: httpx2.ReadError("connection closed"),
)


@pytest.mark.parametrize("seed", range(20))
def test_stops_during_retries_lose_no_reply_and_skip_no_request(tmp_path, seed):
    """Every prompt fails up to seven times, and ten starts of the run are stopped at any time."""
    rng = random.Random(seed)
    num_faults = {number: rng.randint(0, 7) for number in range(NUM_PROMPTS)}
    written: Counter[int] = Counter()

    def respond(body, _):
        number = prompt_number(body)
        if num_faults[number]:
            num_faults[number] -= 1
            return rng.choice(FAULTS)()
        written[number] += 1
        return None

    async def stop_after_a_while(teacher):
        asyncio.get_running_loop().call_later(rng.uniform(0, 10), teacher.stop_sending)
        return await complete_all(teacher, range(NUM_PROMPTS))

    server = SimulatedServer(respond, latency=lambda _: rng.uniform(0.1, 2))
    for _ in range(10):
        run_with_teacher(tmp_path, server, stop_after_a_while)
    assert all(map(is_reply, complete_prompts(tmp_path, server).results))
    assert written == dict.fromkeys(range(NUM_PROMPTS), 1), "every reply was paid for once"
