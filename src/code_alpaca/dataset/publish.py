"""Make the versioned dataset folder, with card and manifest, and release it on the Hub."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from pydantic import Field
from rich.console import Console

from code_alpaca.core.config import NonEmptyStr, StageConfig, Version
from code_alpaca.core.errors import InputError
from code_alpaca.core.row_formats import ColumnMap
from code_alpaca.dataset.build import build, build_from_source
from code_alpaca.dataset.contents import require_no_others
from code_alpaca.dataset.manifest import MANIFEST, mended
from code_alpaca.dataset.push import look, preview, push


class PublishConfig(StageConfig):
    """The keys of `code-alpaca publish`."""

    run_dir: Path = Field(description="the run; its dataset/ is written")
    source: str | None = Field(
        None, description="import this instead: an Alpaca JSON or JSONL file, a dataset folder, or "
        "a dataset on the Hub"
    )  # fmt: skip
    source_config: str = Field("default", description="the config of a folder or Hub dataset")
    revision: str | None = Field(None, description="tag, branch or commit of a Hub source")
    column_map: ColumnMap = Field(
        None, description="columns of the source that hold the Alpaca fields, e.g. "
        "{instruction: problem, output: solution}"
    )  # fmt: skip
    dataset_version: Version | None = Field(None, description="SemVer; none: as it was")
    license: NonEmptyStr | None = Field(
        None, description="licence of the data, by its Hub name; none: as it was, never guessed"
    )
    validation_fraction: float | None = Field(
        None, ge=0, lt=1, description="share of rows for a validation split; none: as it was"
    )
    hub_dataset_id: NonEmptyStr | None = Field(
        None, description="ORG/NAME on the Hub to release it as; none: the folder alone"
    )
    private: bool = Field(False, description="of a repository that is made now: only for you")
    allow_older: bool = Field(False, description="release a version lower than the last one")
    replace: bool = Field(
        False, description="release over other columns, or over files of no release"
    )
    dry_run: bool = Field(
        False, description="say what would be written and how it differs from the last version on "
        "the Hub, change nothing"
    )  # fmt: skip


def publish_dataset(config: PublishConfig) -> None:
    """Write `<run_dir>/dataset`, and release it where `hub_dataset_id` is given.

    Raises:
        InputError: no run, a bad source or version, or what `push` refuses.
        Stopped: the Hub does not answer.
    """
    console = Console(highlight=False, soft_wrap=True)
    terms = {key: getattr(config, key) for key in ("private", "allow_older", "replace")}
    if config.dry_run:
        # In the temporary folder stands the dataset as it would be.
        with tempfile.TemporaryDirectory(prefix="code-alpaca-") as folder:
            made = _make(config, Path(folder))
            console.print(f"publish   would write {config.run_dir / 'dataset'}: {_told(made)}")
            if config.hub_dataset_id:
                for sentence in preview(made, config.hub_dataset_id, config.run_dir, **terms):
                    console.print(f"publish   {sentence}", markup=False)
        console.print("publish   nothing was written or sent")
        return
    if config.hub_dataset_id:  # a refusal must not leave the folder at another version
        look(
            config.hub_dataset_id,
            config.dataset_version,
            config.run_dir,
            **terms,
        )
    folder = _make(config)
    console.print(f"publish   {folder}, {_told(folder)}")
    if config.hub_dataset_id:
        push(
            folder,
            config.hub_dataset_id,
            say=lambda text: console.print(text, markup=False),
            **terms,
        )


def _make(config: PublishConfig, into: Path | None = None) -> Path:
    folder = config.run_dir / "dataset"
    if found := mended(folder):
        require_no_others(folder, found)  # which would be lost
    if config.source is not None:
        return build_from_source(
            config.source,
            config.run_dir,
            dataset_version=config.dataset_version or "0.1.0",
            license=config.license or "other",
            source_config=config.source_config,
            revision=config.revision,
            column_map=config.column_map,
            validation_fraction=config.validation_fraction or 0.0,
            repository=config.hub_dataset_id,
            into=into,
        )
    before = mended(folder)
    if before and before["config"] is None:  # imported: there is no run to make it from again
        changed = [
            key
            for key in ("dataset_version", "license", "validation_fraction")
            if getattr(config, key) not in (None, before[key.removeprefix("dataset_")])
        ]
        if changed:
            raise InputError(
                f"{folder} was imported; to change its {changed[0]}, give its source again: "
                f"--source {before['source']}"
            )
        return folder
    return build(
        config.run_dir,
        dataset_version=config.dataset_version,
        license=config.license,
        validation_fraction=config.validation_fraction,
        repository=config.hub_dataset_id,
        into=into,
    )


def _told(folder: Path) -> str:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    counts = ", ".join(f"{name} {count}" for name, count in manifest["counts"].items())
    return f"version {manifest['version']}: {counts}"
