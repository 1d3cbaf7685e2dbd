"""A scheduler's SIGTERM, a closed terminal and Ctrl-C: replies in flight land, and exit is 3."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading

import pytest
from support.chat_double import ledger_of, raw_server, words

IN_FLIGHT = 4


@contextlib.contextmanager
def run_with_requests_in_flight(run_dir):
    """A process whose teacher answers when `release` is set, and keeps four requests until then."""
    asked, release = threading.Semaphore(0), threading.Event()

    def answer(body, number):
        asked.release()
        release.wait(60)

    with raw_server(answer) as url:
        line = words(run_dir, url, "--decontaminate", "none", rows=400)
        process = subprocess.Popen(
            [sys.executable, "-m", "code_alpaca.cli", *line],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            for _ in range(IN_FLIGHT):
                assert asked.acquire(timeout=60)
            yield process, release
        finally:
            release.set()
            process.kill()
            process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_replies_in_flight_land_and_the_wait_is_announced(tmp_path, number):
    with run_with_requests_in_flight(tmp_path) as (process, release):
        process.send_signal(number)
        announced = next((said for said in process.stdout if "waiting up to" in said), "")
        release.set()
        _, error = process.communicate(timeout=60)
    assert f"{IN_FLIGHT} replies in flight" in announced
    assert process.returncode == 3
    assert "interrupted" in error and "Traceback" not in error
    with ledger_of(tmp_path) as ledger:
        assert ledger.usage()["replies"] == IN_FLIGHT


def test_a_second_signal_ends_the_wait(tmp_path):
    with run_with_requests_in_flight(tmp_path) as (process, _):
        process.send_signal(signal.SIGTERM)
        assert any("waiting up to" in said for said in process.stdout)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == -signal.SIGTERM
