"""Fixtures of tests that release on a Hub double; a conftest.py imports them."""

from __future__ import annotations

import pytest

from support.hub_client import HubWorker
from support.hub_double import HubDouble


@pytest.fixture(scope="session")
def double():
    with HubDouble() as double:
        yield double


@pytest.fixture
def hub(double):
    """An empty Hub, whose address is the same in all tests."""
    double.reset()
    return double


@pytest.fixture(scope="session")
def shared_worker(double, tmp_path_factory):
    worker = HubWorker(double, tmp_path_factory.mktemp("home"))
    yield worker
    worker.kill()


@pytest.fixture
def worker(hub, shared_worker):
    """A worker process of alice that all tests share, since starting one is slow."""
    return shared_worker


@pytest.fixture
def start_worker(hub, tmp_path):
    """Return a function that starts another worker, with an empty cache, which a test may kill."""
    started = []

    def start():
        started.append(HubWorker(hub, tmp_path / f"home-{len(started)}"))
        return started[-1]

    yield start
    for worker in started:
        worker.kill()
