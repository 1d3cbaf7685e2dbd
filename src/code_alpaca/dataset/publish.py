"""Build the versioned dataset folder of a run, or import a dataset, and release it on the Hub."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path

from pydantic import Field

from code_alpaca.core import console
from code_alpaca.core.config import TITLE_HELP, NonEmptyStr, Title, Version
from code_alpaca.core.errors import InputError
from code_alpaca.core.records import Manifest
from code_alpaca.dataset.build import build_dataset
from code_alpaca.dataset.contents import refuse_foreign_files
from code_alpaca.dataset.folder import DatasetOptions
from code_alpaca.dataset.importing import import_dataset
from code_alpaca.dataset.manifest import recover_manifest
from code_alpaca.dataset.push import check_push, preview_push, push_dataset
from code_alpaca.dataset.source_keys import SourceKeys
from code_alpaca.hub.release_plan import ReleaseKeys, VersionExistsError


class PublishConfig(SourceKeys, ReleaseKeys):
    """The keys of `code-alpaca publish`."""

    run_dir: Path = Field(description="run folder; its dataset/ is written")
    source: str | None = Field(
        None,
        description="dataset to import instead of a run, in any form that curate reads: a file, "
        "folder or Hub dataset",
    )
    replace: bool = Field(
        False,
        description="overwrite or delete files on the Hub that code-alpaca did not release; also "
        "release if columns were added or removed",
    )
    dataset_version: Version | None = Field(
        None, description="SemVer version; unset: keep the current one"
    )
    title: Title = Field(None, description=TITLE_HELP)
    license: NonEmptyStr | None = Field(
        None, description="Hub identifier of the data's license; unset: keep the current one"
    )
    validation_fraction: float | None = Field(
        None, ge=0, lt=1, description="fraction of rows to hold out; unset: keep the current one"
    )
    hub_dataset_id: NonEmptyStr | None = Field(
        None, description="Hub repository ORG/NAME to release to; unset: only write the folder"
    )


def publish_dataset(config: PublishConfig) -> None:
    """Write `<run_dir>/dataset`, and release it if `hub_dataset_id` is set."""
    output = console.stage("publish")
    if config.dry_run:
        _preview(config, output)
        return
    repo_id = config.hub_dataset_id
    if repo_id:  # first, so that a refusal leaves the folder unchanged
        _check_push(config, repo_id)
    folder = _build(config)
    output.print(f"{folder}, {_summarize(folder)}")
    if repo_id:
        push_dataset(folder, repo_id, config.terms, output.print)


def _check_push(config: PublishConfig, repo_id: str) -> None:
    """Refuse a push that cannot succeed; an existing version must have the same rows."""
    try:
        check_push(repo_id, config.dataset_version, config.run_dir, config.terms)
    except VersionExistsError:
        with tempfile.TemporaryDirectory(prefix="code-alpaca-") as output_dir:
            preview_push(_build(config, Path(output_dir)), repo_id, config.run_dir, config.terms)


def _preview(config: PublishConfig, output: console.Stage) -> None:
    with tempfile.TemporaryDirectory(prefix="code-alpaca-") as output_dir:
        folder = _build(config, Path(output_dir))
        output.print(f"would write {config.run_dir / 'dataset'}: {_summarize(folder)}")
        if config.hub_dataset_id:
            changes = preview_push(folder, config.hub_dataset_id, config.run_dir, config.terms)
            for change in changes:
                output.print(change)
    output.print("nothing was written or sent")


def _build(config: PublishConfig, output_dir: Path | None = None) -> Path:
    """Write the dataset folder, by default to `run_dir`, and return its path."""
    folder = config.run_dir / "dataset"
    options = DatasetOptions(
        config.dataset_version,
        config.license,
        config.validation_fraction,
        config.hub_dataset_id,
        config.title,
    )
    previous = recover_manifest(folder)
    if previous:
        refuse_foreign_files(folder, previous)  # a rebuild would delete them
    if config.source is not None:
        source = config.dataset_source
        return import_dataset(source, config.run_dir, options, output_dir=output_dir)
    if previous and previous.config is None:
        _refuse_changes(config, folder, previous)
        return folder
    return build_dataset(config.run_dir, options, output_dir=output_dir)


def _refuse_changes(config: PublishConfig, folder: Path, previous: Manifest) -> None:
    """Refuse other options for an imported dataset, which cannot be rebuilt without its source."""
    current = {
        "dataset_version": previous.version,
        "title": previous.title,
        "license": previous.license,
        "validation_fraction": previous.validation_fraction,
    }
    for key, value in current.items():
        if getattr(config, key) not in (None, value):
            raise InputError(
                f"{folder} was imported; to change its {key}, add its source: "
                f"--source {shlex.quote(previous.source or 'FILE_OR_DATASET')}"
            )


def _summarize(folder: Path) -> str:
    manifest = Manifest.load(folder)
    return f"version {manifest.version}: {manifest.printed_counts}"
