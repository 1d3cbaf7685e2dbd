"""One embedded teacher for all runs of generation that need none of their own."""

from __future__ import annotations

import pytest

from code_alpaca.teacher import offline


@pytest.fixture(scope="session")
def teacher_url():
    """The URL of an embedded teacher without faults."""
    with offline.start_server() as url:
        yield url
