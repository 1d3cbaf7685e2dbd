"""Runs of generation share one embedded teacher, and draw no plots."""

from __future__ import annotations

import pytest

from code_alpaca.teacher import offline


@pytest.fixture(scope="session")
def teacher_url():
    """The URL of an embedded teacher without faults."""
    with offline.start_server() as url:
        yield url


@pytest.fixture(autouse=True, scope="module")
def without_plots_of_datasets(without_plots):
    """The tests of `dataset` draw them."""
