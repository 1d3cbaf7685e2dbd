"""A Hub of this test alone."""

from __future__ import annotations

import pytest
from hub_double import HubDouble


@pytest.fixture
def hub():
    with HubDouble() as double:
        yield double
