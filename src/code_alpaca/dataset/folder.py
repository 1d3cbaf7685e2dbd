"""Write a dataset folder atomically: Parquet shards, manifest, plots and card.

The folder is byte for byte what a release uploads to the Hub. It is written next to the old one
and then renamed, so that a kill leaves a complete dataset. The same rows give the same bytes: the
date in the manifest changes only if something else does.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from code_alpaca import __version__
from code_alpaca.core import fs
from code_alpaca.core.errors import InputError
from code_alpaca.core.ledger import utc_now
from code_alpaca.core.records import Manifest
from code_alpaca.core.schema import CONFIGS, DERISK_ROWS
from code_alpaca.dataset import card, plots
from code_alpaca.dataset.conversational import to_messages, to_prompt
from code_alpaca.dataset.describe import RowStatistics
from code_alpaca.dataset.manifest import CARD, MANIFEST, read_manifest
from code_alpaca.dataset.origin_files import write_origin_files
from code_alpaca.dataset.shards import SPLITS, ShardWriter, assign_split, column_types

Rows = Callable[[], Iterator[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class DatasetOptions:
    """What the user sets for a dataset; None keeps the value of the existing folder."""

    version: str | None = None
    license: str | None = None
    validation_fraction: float | None = None
    repository: str | None = None  # on the Hub
    title: str | None = None  # of the card

    def resolve(self, previous: Manifest | None, default_version: str) -> DatasetOptions:
        """Return the options with every None replaced by the previous value or the default."""
        base = previous or DatasetOptions(default_version, "other", 0.0)
        fraction = self.validation_fraction
        return DatasetOptions(
            self.version or base.version,
            self.license or base.license,
            base.validation_fraction if fraction is None else fraction,
            self.repository or base.repository,
            self.title or base.title,
        )


@dataclass(frozen=True, slots=True)
class DatasetContent:
    """The rows of a dataset, and their origin."""

    accepted: Rows
    rejected: Rows  # called after `accepted` is exhausted
    provenance: dict[str, Any]  # fields of the manifest
    origin_files: dict[str, str] = field(default_factory=dict)  # text by path in the folder
    optional_columns: Sequence[str] = ()  # of `schema.OPTIONAL_COLUMNS`


@dataclass(frozen=True, slots=True)
class _WrittenRows:
    """What was written to the shards."""

    shards: dict[tuple[str, str], ShardWriter]  # by config and split, without empty ones
    first_row: dict[str, Any] | None
    statistics: RowStatistics
    rejected_by_reason: Counter[str]


def write_dataset(
    output_dir: Path,
    content: DatasetContent,
    options: DatasetOptions,
    previous: Manifest | None,
    *,
    draw_plots: bool = True,
) -> Path:
    """Write `<output_dir>/dataset` and return its path.

    Args:
        options: from `DatasetOptions.resolve`.
        previous: the manifest of the dataset that this one replaces. Its date is kept if nothing
            else changed.

    Raises:
        InputError: code-alpaca did not create `dataset/`, or there is no accepted row; rejected
            rows are written first.
    """
    target = output_dir / "dataset"
    with fs.lock(target, wait=True):
        read_manifest(target)  # refuses to replace a folder that code-alpaca did not create
        with fs.atomic_folder(target, replace=True) as folder:
            rows = _write_shards(folder, content, options.validation_fraction or 0.0)
            if rows.first_row is None and (
                not rows.rejected_by_reason or (previous and previous.counts.get("default"))
            ):
                raise InputError(f"{output_dir} has no accepted row yet; generate some first")
            manifest = _make_manifest(folder, rows, content, options)
            same = manifest.describes_same_dataset(previous)
            created_at = previous.created_at if previous and same else utc_now()
            manifest = manifest.model_copy(update={"created_at": created_at})
            drawn = []
            if draw_plots and rows.first_row:
                drawn = plots.draw_plots(manifest, folder / "assets")
            manifest.save(folder / MANIFEST)
            text = card.render_card(manifest, rows.first_row, drawn)
            (folder / CARD).parent.mkdir(exist_ok=True)
            for name in ("README.md", CARD):
                (folder / name).write_text(text, encoding="utf-8")
    if rows.first_row is None:
        raise InputError(
            f"{output_dir}: no row was accepted; the rejected rows and their reasons are in "
            f"{target / 'data/rejected'}"
        )
    return target


def _write_shards(folder: Path, content: DatasetContent, fraction: float) -> _WrittenRows:
    statistics, reasons = RowStatistics(), Counter[str]()
    first_row = None
    with contextlib.ExitStack() as stack:
        shards = {
            (name, split): stack.enter_context(
                ShardWriter(folder / "data" / name, name, split, optional=content.optional_columns)
            )
            for name in CONFIGS
            for split in SPLITS
        }
        for index, row in enumerate(content.accepted()):
            first_row = first_row or row
            statistics.add(row)
            split = assign_split(row["id"], fraction)
            shards["default", split].add(row)
            if index < DERISK_ROWS:
                shards["derisk", split].add(row)
            shards["messages", split].add(to_messages(row))
            if row["verification"] == "passed":
                shards["verified", split].add(row)
                if row["tests"]:  # imported rows can have passed without them
                    shards["rl", split].add(to_prompt(row))
        for row in content.rejected():
            reasons[row["reason"]] += 1
            shards["rejected", "train"].add(row)
    if shards["default", "validation"].num_rows and not shards["default", "train"].num_rows:
        raise InputError(
            f"validation_fraction {fraction} leaves no row to train on; choose a smaller one"
        )
    # `datasets` cannot load a split without rows.
    filled = {key: shard for key, shard in shards.items() if shard.num_rows}
    return _WrittenRows(filled, first_row, statistics, reasons)


def _make_manifest(
    folder: Path, rows: _WrittenRows, content: DatasetContent, options: DatasetOptions
) -> Manifest:
    reasons = rows.rejected_by_reason
    paths = [path for shard in rows.shards.values() for path in shard.paths]
    splits: dict[str, dict[str, int]] = {name: {} for name in CONFIGS}
    for (name, split), shard in rows.shards.items():
        splits[name][split] = shard.num_rows
    counts = {name: sum(sizes.values()) for name, sizes in splits.items()}
    return Manifest(
        version=options.version,
        license=options.license,
        repository=options.repository,
        **({"title": options.title} if options.title else {}),
        counts=counts,
        splits=splits,
        validation_fraction=options.validation_fraction,
        columns=column_types(content.optional_columns),
        sha256={path.relative_to(folder).as_posix(): fs.file_sha256(path) for path in paths},
        bytes=sum(path.stat().st_size for path in paths),
        assets=write_origin_files(folder, content.origin_files),
        **content.provenance,
        candidates=counts["default"] + reasons.total(),
        rejected_by_reason=dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        statistics=rows.statistics.as_dict(),
        tools={"code-alpaca": __version__, "pyarrow": version("pyarrow")},
    )
