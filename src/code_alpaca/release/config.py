"""The keys of `code-alpaca release`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from code_alpaca.core.config import NonEmptyStr, StageConfig, Version


class ReleaseConfig(StageConfig):
    """The keys of `code-alpaca release`."""

    model_dir: Path = Field(description="model folder that sft wrote")
    results: list[Path] = Field(
        description="results.json of eval, or its folder; several, with commas, of other benchmarks"
    )
    base_results: list[Path] = Field(
        [], description="the same of the base model: the card compares the two"
    )
    output_dir: Path = Field(Path("runs/release"), description="the release folder to write")
    model_version: Version = Field("0.1.0", description="SemVer of this release")
    license: NonEmptyStr = Field("other", description="licence of the weights, by its Hub name")
    base_model: NonEmptyStr | None = Field(
        None, description="Hub id of the base model; needed where training read it from a folder"
    )
    base_license: NonEmptyStr | None = Field(None, description="its licence, by its Hub name")
    dataset_card: Path | None = Field(None, description="card of the training data, to go along")
    weight_diff: bool = Field(
        False, description="release the difference to the base model, whose licence does not let "
        "you pass its weights on; `code-alpaca recover` adds the two"
    )  # fmt: skip
    base_dir: Path | None = Field(
        None, description="folder of the base model, for weight_diff; none: what sft started from"
    )
    hub_model_id: NonEmptyStr | None = Field(
        None, description="ORG/NAME on the Hub to release it as; none: the folder alone"
    )
    hub_revision: NonEmptyStr = Field(
        "main", description="branch for the commit; made where it is not"
    )
    private: bool = Field(False, description="of repositories that are made now: only for you")
    space: NonEmptyStr | None = Field(
        None, description="ORG/NAME of a Space to release with it: the page of `code-alpaca demo`"
    )
    allow_older: bool = Field(False, description="release a version lower than the last one")
    replace: bool = Field(
        False, description="release over weights, or a Space, that code-alpaca did not release"
    )
    dry_run: bool = Field(False, description="say what would be written and sent, do neither")

    @field_validator("results", "base_results", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | Path) else value or []
