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
def workers(double, tmp_path_factory):
    """Returns the worker process of a user; all tests share it, since starting one is slow."""
    started = {}

    def get(user="alice"):
        if user not in started:
            started[user] = HubWorker(double, tmp_path_factory.mktemp("home"), user)
        return started[user]

    yield get
    for worker in started.values():
        worker.kill()


@pytest.fixture
def worker(hub, workers):
    """The shared worker process of alice."""
    return workers()


@pytest.fixture
def start_worker(hub, tmp_path):
    """Starts a worker process for a test that kills it."""
    started = []

    def start(user="alice"):
        started.append(HubWorker(hub, tmp_path / f"home-{user}", user))
        return started[-1]

    yield start
    for worker in started:
        worker.kill()
