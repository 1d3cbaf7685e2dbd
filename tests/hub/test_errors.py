"""Which errors of the Hub are worth another try."""

from __future__ import annotations

import socket
import threading

import httpx2
import pytest

from code_alpaca.hub.errors import is_transient, is_unreachable


def error_of(port: int) -> Exception:
    with pytest.raises(httpx2.TransportError) as caught:
        httpx2.get(f"http://127.0.0.1:{port}/api/whoami-v2", timeout=10, trust_env=False)
    return caught.value


def test_a_server_that_was_never_reached_differs_from_one_that_hung_up():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        threading.Thread(target=lambda: server.accept()[0].close()).start()
        hung_up = error_of(port)
    nobody_there = error_of(port)
    assert is_transient(hung_up) and not is_unreachable(hung_up)
    assert is_transient(nobody_there) and is_unreachable(nobody_there)
