"""A Hub of each test alone, and dataset folders to release on it."""

from __future__ import annotations

import json

import pytest
from support.hub_double import HubDouble

from code_alpaca.dataset.folder import DatasetOptions
from code_alpaca.dataset.importing import ImportSource, import_dataset


@pytest.fixture
def hub():
    with HubDouble() as double:
        yield double


@pytest.fixture
def folder(tmp_path):
    """Makes a dataset folder of some tasks."""

    def make(version, rows=4, name=None, answer="x = {n}", draw=False, **options):
        home = tmp_path / (name or f"run-{version}")
        home.mkdir(exist_ok=True)
        tasks = [
            {"instruction": f"Set x to {n}.", "input": "", "output": answer.format(n=n)}
            for n in range(rows)
        ]
        (home / "tasks.json").write_text(json.dumps(tasks))
        source = ImportSource(str(home / "tasks.json"))
        return import_dataset(source, home, DatasetOptions(version, **options), draw_plots=draw)

    return make
