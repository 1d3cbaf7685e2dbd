"""Errors of the Hub that are worth a retry."""

from __future__ import annotations

import socket
import threading

import pytest

from code_alpaca.hub.errors import http_library, is_transient, is_unreachable


def request_error(port: int) -> Exception:
    http = http_library()
    with pytest.raises(http.TransportError) as caught:
        http.get(f"http://127.0.0.1:{port}/api/whoami-v2", timeout=10, trust_env=False)
    return caught.value


def test_an_unreachable_server_differs_from_one_that_closed_the_connection():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        threading.Thread(target=lambda: server.accept()[0].close()).start()
        closed = request_error(port)
    refused = request_error(port)
    assert is_transient(closed) and not is_unreachable(closed)
    assert is_transient(refused) and is_unreachable(refused)
