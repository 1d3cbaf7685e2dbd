"""A Hub double, and dataset folders to release on it."""

from __future__ import annotations

import json

import pytest
from support.hub_fixtures import double, hub, shared_worker, start_worker, worker  # noqa: F401

from code_alpaca.dataset.folder import DatasetOptions
from code_alpaca.dataset.importing import import_dataset
from code_alpaca.dataset.source import DatasetSource


@pytest.fixture
def make_folder(tmp_path):
    """Return a function that makes a dataset folder of `rows` tasks."""

    def make(version, rows=4, name=None, output="x = {n}", draw_plots=False, **options):
        run_dir = tmp_path / (name or f"run-{version}")
        run_dir.mkdir(exist_ok=True)
        tasks = [
            {"instruction": f"Set x to {n}.", "input": "", "output": output.format(n=n)}
            for n in range(rows)
        ]
        (run_dir / "tasks.json").write_text(json.dumps(tasks))
        source = DatasetSource(str(run_dir / "tasks.json"))
        options = DatasetOptions(version, **options)
        return import_dataset(source, run_dir, options, draw_plots=draw_plots)

    return make
