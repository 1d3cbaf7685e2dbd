"""Helpers of tests that release a tiny trained model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from code_alpaca.core.fs import weights_sha256
from code_alpaca.release.config import ReleaseConfig

REPO, SPACE = "alice/coder", "alice/coder-space"


class TrainedModel(NamedTuple):
    """Folders of a model that sft wrote, and of its results."""

    model_dir: Path
    results: Path


def update_json(path: Path, **changes: object) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def release_command(trained: TrainedModel, output_dir: Path, *words: Any) -> list[str]:
    """Return the command that releases a model; `words` are more keys."""
    return ["release", "--model_dir", str(trained.model_dir), "--results", str(trained.results),
            "--output_dir", str(output_dir), *map(str, words)]  # fmt: skip


def release_config(trained: TrainedModel, **keys: Any) -> ReleaseConfig:
    """Return the keys of a release of a model."""
    return ReleaseConfig(model_dir=trained.model_dir, results=[trained.results], **keys)


def match_results(trained: TrainedModel) -> None:
    """Make the results match weights that a test has changed."""
    path = trained.results / "results.json"
    model = json.loads(path.read_text())["model"]
    update_json(path, model={**model, "sha256": weights_sha256(trained.model_dir)})
