"""A Hub of each test alone, and dataset folders to release on it."""

from __future__ import annotations

import json

import pytest
from support.hub_double import HubDouble

from code_alpaca.dataset.build import build_from_source


@pytest.fixture
def hub():
    with HubDouble() as double:
        yield double


@pytest.fixture
def folder(tmp_path):
    """Makes a dataset folder of some tasks."""

    def make(version, rows=4, name=None, answer="x = {n}", draw=False, **keys):
        home = tmp_path / (name or f"run-{version}")
        home.mkdir(exist_ok=True)
        tasks = [
            {"instruction": f"Set x to {n}.", "input": "", "output": answer.format(n=n)}
            for n in range(rows)
        ]
        (home / "tasks.json").write_text(json.dumps(tasks))
        return build_from_source(str(home / "tasks.json"), home, dataset_version=version, draw=draw,
                                 **keys)  # fmt: skip

    return make
