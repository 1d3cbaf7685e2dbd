"""A detector of planted benchmark problems."""

from __future__ import annotations

import pytest
from support.decontamination import detector_of
from support.reference_problems import RECORDS


@pytest.fixture(scope="session")
def detector(tmp_path_factory):
    return detector_of(tmp_path_factory.mktemp("benchmark") / "own.jsonl", RECORDS)
