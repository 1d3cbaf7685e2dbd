"""The keys of `code-alpaca release`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from code_alpaca.core.config import NonEmptyStr, Version
from code_alpaca.hub.release_plan import ReleaseKeys


class ReleaseConfig(ReleaseKeys):
    """The keys of `code-alpaca release`."""

    model_dir: Path = Field(description="model folder that sft wrote")
    results: list[Path] = Field(
        description="results.json of eval or its folder; several benchmarks separated by commas"
    )
    base_results: list[Path] = Field(
        [], description="results of the base model on the same benchmarks, for a comparison"
    )
    output_dir: Path = Field(Path("runs/release"), description="release folder to write")
    model_version: Version = Field("0.1.0", description="SemVer version of this release")
    license: NonEmptyStr = Field("other", description="Hub identifier of the weights' license")
    base_model: NonEmptyStr | None = Field(
        None, description="Hub id of the base model; required if training read it from a folder"
    )
    base_license: NonEmptyStr | None = Field(
        None, description="Hub identifier of the base model's license"
    )
    dataset_card: Path | None = Field(
        None, description="card of the training data to include as DATASET_CARD.md"
    )
    weight_diff: bool = Field(
        False,
        description="release the difference to the base model instead of the weights, if its "
        "license forbids redistribution; `code-alpaca recover` adds the two",
    )
    base_dir: Path | None = Field(
        None, description="base model folder for weight_diff; unset: the one that sft read"
    )
    hub_model_id: NonEmptyStr | None = Field(
        None, description="Hub repository ORG/NAME to release to; unset: only write the folder"
    )
    hub_revision: NonEmptyStr = Field("main", description="branch to commit to; created if missing")
    space: NonEmptyStr | None = Field(
        None, description="Space ORG/NAME to release with the model: the page of code-alpaca demo"
    )

    @property
    def name(self) -> str:
        """The name of the model on its card."""
        return self.hub_model_id.partition("/")[2] if self.hub_model_id else "code-alpaca-model"

    @field_validator("results", "base_results", mode="before")
    @classmethod
    def _wrap_single_path(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | Path) else value or []
