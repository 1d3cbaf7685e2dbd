"""Shared by all tests: nothing leaves this machine, and no setting of the user's leaks in."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import socket
import tempfile
from pathlib import Path

import pytest
from support import plots

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # tests expect the same with and without a GPU
for name in (
    "OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_VERSION", "AZURE_OPENAI_API_KEY",
    "AZURE_OPENAI_AD_TOKEN", "AZURE_OPENAI_ENDPOINT", "HF_TOKEN", "HF_ENDPOINT",
):  # fmt: skip
    os.environ.pop(name, None)

# Everything that this run caches, until its end.
CACHES = tempfile.TemporaryDirectory(prefix="tests-", ignore_cleanup_errors=True)
# Of other libraries, and not of what is tested: DeepSpeed's compiled extensions, fonts.
KEPT_CACHES = ("torch_extensions", "matplotlib")


def isolate_caches(folder: Path) -> None:
    """Redirect caches to a folder; the processes of pytest-xdist share that of code-alpaca."""
    os.environ["HF_HOME"] = str(folder / "huggingface")
    if "PYTEST_XDIST_WORKER" in os.environ:  # XDG_CACHE_HOME is that of the main process
        return
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    own = folder / "cache"
    own.mkdir()
    for name in KEPT_CACHES:
        with contextlib.suppress(OSError):  # a home that cannot be written
            (users / name).mkdir(parents=True, exist_ok=True)
            (own / name).symlink_to(users / name)
    os.environ["XDG_CACHE_HOME"] = str(own)


isolate_caches(Path(CACHES.name))


def pytest_unconfigure() -> None:
    CACHES.cleanup()


# Tests send Ctrl-C to themselves, which processes of pytest-xdist may ignore.
signal.signal(signal.SIGINT, signal.default_int_handler)

_connect, _connect_ex = socket.socket.connect, socket.socket.connect_ex


def _refuse_the_world(address: object) -> None:
    if not isinstance(address, tuple):
        return  # a Unix socket
    host = address[0]
    if host in ("localhost", ""):
        return
    try:
        if ipaddress.ip_address(host).is_loopback:
            return
    except ValueError:
        pass
    raise AssertionError(f"a test tried to reach {host}: tests use 127.0.0.1 alone")


@pytest.fixture(scope="module")
def without_plots():
    """Build datasets without the plots of their cards."""
    with plots.without_plots():
        yield


@pytest.fixture(scope="session")
def pool():
    """The strongest sandbox of this machine."""
    from code_alpaca import sandbox

    with sandbox.WorkerPool(sandbox.choose_backend().backend) as workers:
        yield workers


@pytest.fixture(autouse=True, scope="session")
def only_loopback():
    """Any connection of this process to another machine fails the test that made it."""

    def connect(self, address):
        _refuse_the_world(address)
        return _connect(self, address)

    def connect_ex(self, address):
        _refuse_the_world(address)
        return _connect_ex(self, address)

    socket.socket.connect, socket.socket.connect_ex = connect, connect_ex
    yield
    socket.socket.connect, socket.socket.connect_ex = _connect, _connect_ex
