"""Load a dataset from where it is, and say exactly which one it was."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from code_alpaca.core.data_files import RecordList, UnreadableRecord, read_records
from code_alpaca.core.errors import InputError, error_message
from code_alpaca.core.fs import file_sha256
from code_alpaca.core.row_formats import (
    ALPACA,
    TARGET_COLUMNS,
    RowFormat,
    contains_reasoning,
    detect_columns,
    detect_format,
)
from code_alpaca.dataset.manifest import MANIFEST, changed_files, manifest_of

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

# Of a manifest: how the rows came about, for whoever learns from them.
LINEAGE = ("version", "license", "teacher", "strategy", "prompt_version", "embedded_teacher",
           "source")  # fmt: skip
ACCEPTED = (
    "give an Alpaca JSON or JSONL file (or CSV, or Parquet), a dataset folder that code-alpaca "
    "publish made, or the id of a dataset on the Hub"
)
BATCH = 1_000  # rows checked at once


class Source(NamedTuple):
    """A dataset as it was found: its records, how to read them as rows, and its revision."""

    records: RecordList | Dataset
    form: RowFormat
    revision: str


def _log(line: str) -> None:
    print(f"dataset   {line}", file=sys.stderr)


def load(
    name: str,
    config: str = "default",
    revision: str | None = None,
    *,
    split: str = "train",
    column_map: Mapping[str, str] | None = None,
    blank: Literal["drop", "keep"] = "drop",
    say: Callable[[str], None] = _log,
) -> tuple[Dataset, str]:
    """Load the rows of `name` and the revision that names them for ever.

    Args:
        name: a dataset folder of `publish`, a file that `records` reads, or a Hub id.
        revision: a tag, branch or commit of a Hub dataset; what it means now is pinned.
        column_map: the columns that hold the Alpaca fields, where they have other names.
        blank: what to do with rows whose instruction or output is null or white space. "drop"
            leaves them out and says how many; "keep" keeps those of white space and refuses null.
        say: gets a line for columns read under other names, and for rows left out.

    Returns:
        The dataset with at least the Alpaca columns, all of them text, and: the commit sha of a
        Hub dataset, the `vX.Y.Z (sha256 ...)` of a folder, the `sha256 ...` of a file.

    Raises:
        InputError: it does not exist, is empty, its columns are unknown, or a row (named by its
            number) holds something else than text.
    """
    source = open_source(name, config, revision, split=split, column_map=column_map)
    if source.form.note:
        say(f"{name}: {source.form.note}")
    rows = _dataset(source)
    full: list[int] = []
    thinking = 0
    for number, row in enumerate(_checked(name, source, blank)):
        if _is_full(row):
            full.append(number)
            thinking += contains_reasoning(row["output"])
    if thinking:
        say(
            f"{name}: {thinking} of {len(rows)} outputs hold a model's reasoning (<think>); they "
            "are kept, and code-alpaca curate rejects them"
        )
    if empty := len(rows) - len(full):
        first = next(i for i in range(len(rows)) if i == len(full) or full[i] != i)
        say(
            f"{name}: {empty} of {len(rows)} rows have no instruction or no output (the first is "
            f"row {first + 1}); they are {'left out' if blank == 'drop' else 'kept as they are'}"
        )
    if blank == "drop":
        if not full:
            raise InputError(f"dataset {name} holds no row with an instruction and an output")
        rows = rows.select(full) if empty else rows
    return rows, source.revision


def open_source(
    name: str,
    config: str = "default",
    revision: str | None = None,
    *,
    split: str = "train",
    column_map: Mapping[str, str] | None = None,
) -> Source:
    """Find a dataset and the format of its rows, without a look at each row.

    Raises:
        InputError: it does not exist, is empty, or its columns are unknown.
    """
    place, sha = _find(name, config, revision)
    if isinstance(place, RecordList):
        return Source(place, detect_format(place, column_map, name), sha)
    rows = _load(name, place, config, split, sha, streaming=False)
    if not len(rows):
        raise InputError(f"dataset {name} holds no rows")
    return Source(rows, detect_columns(rows.column_names, column_map, name), sha)


def stream(
    name: str, config: str = "default", revision: str | None = None, *, split: str = "train"
) -> tuple[IterableDataset, str]:
    """As `load`, but rows come one by one as they are read, and nothing is written to a cache.

    Of a Hub dataset or a folder alone, and with the Alpaca columns.
    """
    place, sha = _find(name, config, revision)
    if isinstance(place, RecordList):
        return load(name, config)[0].to_iterable_dataset(), sha
    rows = _load(name, place, config, split, sha, streaming=True)
    columns = rows.column_names or list(rows.resolve_features().column_names)
    if missing := [column for column in ALPACA if column not in columns]:
        raise InputError(f"dataset {name} has no column {', '.join(missing)}")
    return rows, sha


def lineage(name: str, revision: str) -> dict[str, Any]:
    """What a dataset's manifest says of its origin: licence, teacher, strategy and the like.

    Args:
        revision: as `load` returns it.

    Returns:
        Nothing for rows that no release of ours holds.
    """
    path = Path(name)
    if not path.exists():
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            path = Path(
                hf_hub_download(name, MANIFEST, repo_type="dataset", revision=revision)
            ).parent
        except (HfHubHTTPError, LocalEntryNotFoundError):
            return {}
    if not (path / MANIFEST).is_file():
        return {}
    manifest = manifest_of(path) or {}
    origin = {key: manifest[key] for key in LINEAGE if manifest.get(key) is not None}
    against = (manifest.get("contamination") or {}).get("benchmarks")
    return {**origin, **({"decontaminated": against} if against else {})}


def listed(records: Sequence[Any] | Dataset, start: int, stop: int) -> list[Any]:
    """A slice of records: of a list, or of a `datasets.Dataset`, whose slices are columns."""
    rows = records[start:stop]
    if not isinstance(rows, dict):
        return list(rows)
    return [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]


def _checked(name: str, source: Source, blank: Literal["drop", "keep"]) -> Iterator[dict[str, Any]]:
    """Every row as it is read; null is refused where blank rows are kept."""
    for number, row in enumerate(_rows(source)):
        if not isinstance(row, UnreadableRecord):
            null = next((key for key in ALPACA if row[key] is None), "")
            if not null or blank == "drop":
                yield row
                continue
            row = UnreadableRecord(f"{source.form.columns.get(null, null)!r} is null")
        records = source.records
        where = records.where(number) if isinstance(records, RecordList) else f"row {number + 1}"
        raise InputError(
            f"{name}, {where}: {row.problem}; correct it, or drop such rows with code-alpaca "
            f"curate --source {name}"
        )


def _is_full(row: dict[str, Any]) -> bool:
    return all((row[key] or "").strip() for key in ("instruction", "output"))


def _rows(source: Source) -> Iterator[dict[str, Any] | UnreadableRecord]:
    records, form = source.records, source.form
    if form.plain and not isinstance(records, RecordList):  # read no other column
        records = records.select_columns([key for key in ALPACA if key in records.column_names])
    for start in range(0, len(records), BATCH):
        yield from map(form.row, listed(records, start, start + BATCH))


def _dataset(source: Source) -> Dataset:
    """The records as a `datasets.Dataset` in which the Alpaca columns are text."""
    from datasets import Dataset, Features, Value

    form, records = source.form, source.records
    fields = dict.fromkeys((*ALPACA, *form.columns))
    text = Features({key: Value("string") for key in fields})

    def only_text(record: Mapping[str, Any] | UnreadableRecord) -> dict[str, str | None]:
        row = form.row({**record} if isinstance(record, Mapping) else record)
        row = {} if isinstance(row, UnreadableRecord) else row
        return {key: row.get(key) if isinstance(row.get(key), str) else None for key in fields}

    if isinstance(records, RecordList):
        return Dataset.from_list(list(map(only_text, records)), features=text)
    if form.plain and all(_is_text(records, key) for key in ALPACA):
        return records
    others = [key for key in records.column_names if key in TARGET_COLUMNS and key not in fields]
    features = Features({**text, **{key: records.features[key] for key in others}})
    unused = [key for key in records.column_names if key not in features]
    return records.map(only_text, remove_columns=unused, features=features, desc="reading rows")


def _is_text(rows: Dataset, column: str) -> bool:
    """Whether a column is text in every row; `input` must be null nowhere."""
    if getattr(rows.features.get(column), "dtype", "") not in ("string", "large_string"):
        return False
    return column != "input" or not rows.data.column(column).null_count


def _find(name: str, config: str, revision: str | None) -> tuple[RecordList | Path | None, str]:
    """The records of a file, a folder, or None for the Hub; and the revision of it."""
    if not name.strip():
        raise InputError(f"the name of the dataset is empty; {ACCEPTED}")
    path = Path(name)
    if revision is not None and path.exists():
        raise InputError(f"{name} is on this disk and has one revision; leave the revision out")
    if path.is_file():
        if config != "default":
            raise InputError(f"{name} is a file and has no config {config!r}; leave it out")
        records = read_records(path)
        if not records:
            raise InputError(f"{path} holds no rows")
        return records, f"sha256 {file_sha256(path)}"
    if (path / MANIFEST).is_file():
        return path, _folder_revision(path)
    if path.exists():
        raise InputError(f"{name} is no dataset folder (no {MANIFEST}); {ACCEPTED}")
    if path.suffix in (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".gz"):
        raise InputError(f"cannot read {name}: no such file")
    if name.startswith((".", "/")) or name.count("/") > 1:
        raise InputError(f"no dataset at {name}; {ACCEPTED}")
    return None, _resolve(name, revision)


def _load(
    name: str, folder: Path | None, config: str, split: str, sha: str, *, streaming: bool
) -> Any:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        return load_dataset(
            name, config, split=split, revision=None if folder else sha, streaming=streaming
        )
    except (DatasetsError, ValueError, OSError) as error:
        raise InputError(f"cannot load {name}, config {config!r}: {error_message(error)}") from None


def _folder_revision(path: Path) -> str:
    manifest = manifest_of(path) or {}
    for shard in changed_files(path, manifest):
        raise InputError(
            f"{path / shard} is not what {MANIFEST} says; make the folder again with code-alpaca "
            "publish"
        )
    shards = json.dumps(manifest["sha256"], sort_keys=True)
    return f"v{manifest['version']} (sha256 {hashlib.sha256(shards.encode()).hexdigest()})"


def _resolve(name: str, revision: str | None) -> str:
    """The commit that a Hub revision means now; training records it."""
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        return HfApi().dataset_info(name, revision=revision).sha
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, httpx2.HTTPError) as error:
        raise InputError(
            f"cannot find dataset {name} at revision {revision or 'main'} "
            f"({error_message(error)}); {ACCEPTED} that you may read"
        ) from None
