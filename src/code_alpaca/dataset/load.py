"""Load a dataset from a file, a folder or the Hub, with the revision that identifies its rows."""

from __future__ import annotations

import hashlib
import json
import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from code_alpaca.core import console
from code_alpaca.core.console import plural
from code_alpaca.core.data_files import RecordList, UnreadableRecord, read_records
from code_alpaca.core.errors import InputError, error_message, explain_environment_error
from code_alpaca.core.fs import file_sha256
from code_alpaca.core.records import Manifest
from code_alpaca.core.row_formats import (
    ALPACA,
    TARGET_COLUMNS,
    RowFormat,
    contains_reasoning,
    detect_columns,
    detect_format,
)
from code_alpaca.dataset.manifest import MANIFEST, find_changed_files, read_manifest
from code_alpaca.hub.lookup import (
    HubReadError,
    HubUnreachable,
    find_dataset_file,
    look_up,
)

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

# Keys of a manifest that training records about its data.
ORIGIN_KEYS = ("version", "license", "teacher", "strategy", "prompt_version", "embedded_teacher",
               "source")  # fmt: skip
ACCEPTED_SOURCES = (
    "give an Alpaca JSON or JSONL file (or CSV, or Parquet), a dataset folder that code-alpaca "
    "publish wrote, or the id of a dataset on the Hub"
)
BATCH_ROWS = 1_000
SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".gz")


class OpenedDataset(NamedTuple):
    """The records of a dataset, how to read them as rows, and their revision."""

    records: RecordList | Dataset
    row_format: RowFormat
    revision: str


def load_rows(  # the parameters of `datasets.load_dataset`, and how to read the rows
    name: str,
    config: str = "default",
    revision: str | None = None,
    *,
    split: str = "train",
    column_map: Mapping[str, str] | None = None,
    blank: Literal["drop", "keep"] = "drop",
    log: console.Log | None = None,
) -> tuple[Dataset, str]:
    """Load the rows of a dataset, and the immutable revision that identifies them.

    Args:
        name: a dataset folder of `publish`, a file that `data_files` reads, or a Hub id.
        revision: tag, branch or commit of a Hub dataset.
        column_map: the columns that contain the Alpaca fields, if they have other names.
        blank: what to do with rows whose instruction or output is null or white space: "drop"
            them and log their number, or "keep" white space and refuse null.
        log: receives lines about renamed columns and dropped rows; stderr by default.

    Returns:
        The dataset, with at least the Alpaca columns as text, and its revision: the commit of a
        Hub dataset, `vX.Y.Z (sha256 ...)` for a folder, `sha256 ...` for a file.

    Raises:
        InputError: the dataset does not exist, is empty or has unknown columns, or a value is not
            text (the message names the row).
    """
    log = log or console.stage("dataset", stderr=True).print
    source = open_dataset(name, config, revision, split=split, column_map=column_map)
    if source.row_format.note:
        log(f"{name}: {source.row_format.note}")
    rows = _to_text_columns(source)
    complete: list[int] = []
    with_reasoning = 0
    for index, row in enumerate(_checked_rows(name, source, blank)):
        if all((row[key] or "").strip() for key in ("instruction", "output")):
            complete.append(index)
            with_reasoning += contains_reasoning(row["output"])
    if with_reasoning:
        log(
            f"{name}: {with_reasoning} of {plural(len(rows), 'output')} with a model's reasoning "
            "(<think>), kept; code-alpaca curate rejects such rows"
        )
    if num_blank := len(rows) - len(complete):
        first = next(i for i in range(len(rows)) if i == len(complete) or complete[i] != i)
        log(
            f"{name}: {num_blank} of {plural(len(rows), 'row')} without instruction or output (the "
            f"first is row {first + 1}), {'dropped' if blank == 'drop' else 'kept unchanged'}"
        )
    if blank == "drop":
        if not complete:
            raise InputError(f"dataset {name} has no row with an instruction and an output")
        rows = rows.select(complete) if num_blank else rows
    return rows, source.revision


def open_dataset(
    name: str,
    config: str = "default",
    revision: str | None = None,
    *,
    split: str = "train",
    column_map: Mapping[str, str] | None = None,
) -> OpenedDataset:
    """Open a dataset and detect the format of its rows, without reading every row."""
    location, revision = _locate(name, config, revision)
    if isinstance(location, RecordList):
        return OpenedDataset(location, detect_format(location, column_map, name), revision)
    rows = _load_dataset(name, config, split, None if location else revision)
    if not len(rows):
        raise InputError(f"dataset {name} contains no rows")
    row_format = detect_columns(rows.column_names, column_map, name)
    return OpenedDataset(rows, row_format, revision)


def stream_rows(
    name: str, config: str = "default", revision: str | None = None, *, split: str = "train"
) -> tuple[IterableDataset, str]:
    """Return the rows one by one as they are read, and their revision; deprecated."""
    message = "stream_rows is deprecated; use datasets.load_dataset(..., streaming=True)"
    warnings.warn(message, DeprecationWarning, stacklevel=2)
    location, revision = _locate(name, config, revision)
    if isinstance(location, RecordList):
        return load_rows(name, config)[0].to_iterable_dataset(), revision
    at = None if location else revision
    return _load_dataset(name, config, split, at, streaming=True), revision


def __getattr__(name: str) -> Any:
    """Return `load_rows` and `stream_rows` under their first names, `load` and `stream`."""
    if name not in ("load", "stream"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    message = f"{name} is deprecated; it is now called {name}_rows"
    warnings.warn(message, DeprecationWarning, stacklevel=2)
    return globals()[f"{name}_rows"]


def read_origin(name: str, revision: str) -> dict[str, Any]:
    """Return what a dataset's manifest records about its origin: license, teacher, strategy, ...

    It is empty if code-alpaca did not release the dataset. `load_rows` returns the `revision`.
    """
    manifest = _find_manifest(name, revision)
    if manifest is None:
        return {}
    values = manifest.as_dict()
    origin = {key: values[key] for key in ORIGIN_KEYS if values.get(key) is not None}
    if manifest.contamination and manifest.contamination.benchmarks:
        origin["decontaminated"] = manifest.contamination.benchmarks
    return origin


def slice_records(records: Sequence[Any] | Dataset, start: int, stop: int) -> list[Any]:
    """Return a slice of a list, or of a `datasets.Dataset`, whose own slices are columns."""
    rows = records[start:stop]
    if not isinstance(rows, dict):
        return list(rows)
    return [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]


def _checked_rows(
    name: str, source: OpenedDataset, blank: Literal["drop", "keep"]
) -> Iterator[dict[str, Any]]:
    """Yield every row; refuse unreadable ones, and null if blank rows are kept."""
    for index, row in enumerate(_read_rows(source)):
        if not isinstance(row, UnreadableRecord):
            null = next((key for key in ALPACA if row[key] is None), "")
            if not null or blank == "drop":
                yield row
                continue
            row = UnreadableRecord(f"{source.row_format.columns.get(null, null)!r} is null")
        records = source.records
        location = records.where(index) if isinstance(records, RecordList) else f"row {index + 1}"
        raise InputError(
            f"{name}, {location}: {row.problem}; correct it, or drop such rows with code-alpaca "
            f"curate --source {shlex.quote(name)}"
        )


def _read_rows(source: OpenedDataset) -> Iterator[dict[str, Any] | UnreadableRecord]:
    records, row_format = source.records, source.row_format
    if row_format.plain and not isinstance(records, RecordList):  # do not read the other columns
        records = records.select_columns([key for key in ALPACA if key in records.column_names])
    for start in range(0, len(records), BATCH_ROWS):
        yield from map(row_format.row, slice_records(records, start, start + BATCH_ROWS))


def _to_text_columns(source: OpenedDataset) -> Dataset:
    """Return the records as a `datasets.Dataset` whose Alpaca columns are text."""
    from datasets import Dataset, Features, Value

    row_format, records = source.row_format, source.records
    fields = dict.fromkeys((*ALPACA, *row_format.columns))
    text = Features({key: Value("string") for key in fields})

    def texts(record: Mapping[str, Any] | UnreadableRecord) -> dict[str, str | None]:
        row = row_format.row({**record} if isinstance(record, Mapping) else record)
        row = {} if isinstance(row, UnreadableRecord) else row
        return {key: row.get(key) if isinstance(row.get(key), str) else None for key in fields}

    if isinstance(records, RecordList):
        return Dataset.from_list(list(map(texts, records)), features=text)
    if row_format.plain and all(_is_text_column(records, key) for key in ALPACA):
        return records
    others = [key for key in records.column_names if key in TARGET_COLUMNS and key not in fields]
    features = Features({**text, **{key: records.features[key] for key in others}})
    unused = [key for key in records.column_names if key not in features]
    return records.map(texts, remove_columns=unused, features=features, desc="reading rows")


def _is_text_column(rows: Dataset, column: str) -> bool:
    """Return whether a column is text; `input` must not be null in any row either."""
    if getattr(rows.features.get(column), "dtype", "") not in ("string", "large_string"):
        return False
    return column != "input" or not rows.data.column(column).null_count


def _locate(name: str, config: str, revision: str | None) -> tuple[RecordList | Path | None, str]:
    """Return the revision, and the records of a file, the path of a folder, or None for the Hub."""
    if not name.strip():
        raise InputError(f"the name of the dataset is empty; {ACCEPTED_SOURCES}")
    path = Path(name)
    if revision is not None and path.exists():
        raise InputError(f"{name} is local and has no revisions; leave revision out")
    if path.is_file():
        if config != "default":
            raise InputError(f"{name} is a file and has no config {config!r}; leave it out")
        records = read_records(path)
        if not records:
            raise InputError(f"{path} contains no rows")
        return records, f"sha256 {file_sha256(path)}"
    if (path / MANIFEST).is_file():
        return path, _folder_revision(path)
    if path.exists():
        raise InputError(f"{name} is not a dataset folder (no {MANIFEST}); {ACCEPTED_SOURCES}")
    if path.suffix in SUFFIXES:
        raise InputError(f"cannot read {name}: no such file; {ACCEPTED_SOURCES}")
    if name.startswith((".", "/")) or name.count("/") > 1:
        raise InputError(f"no dataset at {name}; {ACCEPTED_SOURCES}")
    return None, _resolve_commit(name, revision)


def _load_dataset(
    name: str, config: str, split: str, revision: str | None, *, streaming: bool = False
) -> Any:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        return load_dataset(name, config, split=split, revision=revision, streaming=streaming)
    except (DatasetsError, ValueError, OSError) as error:
        if explain_environment_error(error):
            raise  # of the machine, such as a cache folder that cannot be written
        manifest = _find_manifest(name, revision)
        if manifest and manifest.counts.get(config) == 0:
            raise InputError(
                f"config {config!r} of {name} has no rows"
                f"{', since no row passed tests of its own' if config == 'verified' else ''}; load "
                "another config"
            ) from None
        raise InputError(f"cannot load {name}, config {config!r}: {error_message(error)}") from None


def _find_manifest(name: str, revision: str | None) -> Manifest | None:
    """Return the manifest of a folder or Hub dataset; None if code-alpaca did not make it."""
    path = find_dataset_file(name, MANIFEST, revision)
    return read_manifest(path.parent) if path else None


def _folder_revision(path: Path) -> str:
    """Return the version of a dataset folder and a hash of its shards, which are verified."""
    manifest = read_manifest(path)
    assert manifest is not None
    for shard in find_changed_files(path, manifest.sha256):
        raise InputError(
            f"{path / shard} differs from {MANIFEST}; run code-alpaca publish again to rebuild "
            "the folder"
        )
    shards = json.dumps(manifest.sha256, sort_keys=True)
    return f"v{manifest.version} (sha256 {hashlib.sha256(shards.encode()).hexdigest()})"


def _resolve_commit(name: str, revision: str | None) -> str:
    """Return the commit that a revision of a Hub dataset currently points to."""
    try:
        return str(look_up(name, "dataset", revision).sha)
    except HubUnreachable as error:
        raise InputError(
            f"cannot load dataset {name}: no such file or folder, and the Hub is unreachable "
            f"({error}); check the path, or the network"
        ) from None
    except HubReadError as error:
        raise InputError(
            f"cannot find dataset {name} at revision {revision or 'main'} ({error}); "
            f"{ACCEPTED_SOURCES} that your token can read"
        ) from None
