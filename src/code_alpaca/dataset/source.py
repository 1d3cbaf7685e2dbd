"""Open a dataset of any origin: a file, a folder or the Hub, with a revision of its content."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from code_alpaca.core.console import plural
from code_alpaca.core.conversations import MULTI_TURN
from code_alpaca.core.data_files import read_records, table_records
from code_alpaca.core.data_folders import FilesBySplit, find_data_files, read_files
from code_alpaca.core.errors import InputError, error_message, explain_environment_error
from code_alpaca.core.fs import file_sha256
from code_alpaca.core.json_records import RecordList, UnreadableRecord
from code_alpaca.core.records import Manifest, RecordFormatError
from code_alpaca.core.row_formats import SAMPLE_SIZE, RowFormat, detect_format
from code_alpaca.dataset.manifest import CARD, MANIFEST, find_changed_files, read_manifest
from code_alpaca.dataset.unkept_columns import describe_unkept
from code_alpaca.hub.lookup import HubReadError, HubUnreachable, find_dataset_file, look_up

if TYPE_CHECKING:
    from datasets import Dataset

ACCEPTED_SOURCES = (
    "give a JSON, JSONL, CSV or Parquet file, a folder of them, a dataset folder that code-alpaca "
    "publish wrote, or the id of a dataset on the Hub"
)
DEFAULT_CONFIG, DEFAULT_SPLIT = "default", "train"
BATCH_ROWS = 1_000
LOCAL_SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".parquet", ".gz", ".bz2", ".xz", ".zst")
SPLIT_SLICE = re.compile(r"\[[^\]]*\]")  # in train[:100]+test
Location = RecordList | Path | None  # the records themselves, a folder for `datasets`, or the Hub


@dataclass(frozen=True, slots=True)
class DatasetSource:
    """A dataset, and how to read its rows.

    Args:
        name: a file or folder of data, a dataset folder of `publish`, or a Hub id.
        config: of a folder or Hub dataset.
        revision: tag, branch or commit of a Hub dataset.
        split: of a folder or Hub dataset.
        column_map: the columns that contain the Alpaca fields, if they have other names.
        first_turn: keep the first question and answer of conversations with several.
    """

    name: str
    config: str = DEFAULT_CONFIG
    revision: str | None = None
    split: str = DEFAULT_SPLIT
    column_map: Mapping[str, str] | None = None
    first_turn: bool = False

    @property
    def part(self) -> str:
        """The config and the split if they are not the default ones."""
        config = f"config {self.config}" if self.config != DEFAULT_CONFIG else ""
        split = f"split {self.split}" if self.split != DEFAULT_SPLIT else ""
        return ", ".join(filter(None, (config, split)))

    @property
    def label(self) -> str:
        """The name, and which part of the dataset is read."""
        return ", ".join(filter(None, (self.name, self.part)))


class TurnCounts(NamedTuple):
    """What conversations contain beside one question and its answer."""

    several_turns: int = 0  # rows
    system_prompts: int = 0  # rows
    different_prompts: int = 0


class OpenedDataset(NamedTuple):
    """The records of a dataset, how to read them as rows, and their revision."""

    source: DatasetSource
    records: RecordList | Dataset
    row_format: RowFormat
    revision: str

    def slice(self, start: int, stop: int | None = None) -> list[Any]:
        """Return a slice of the records."""
        return _slice(self.records, start, len(self.records) if stop is None else stop)

    def where(self, index: int) -> str:
        """Return the place of a record for messages."""
        records = self.records
        return records.where(index) if isinstance(records, RecordList) else f"row {index + 1}"

    def count_turns(self) -> TurnCounts:
        """Count the rows with several turns and with a system prompt, in one pass."""
        if not self.row_format.has_turns:
            return TurnCounts()
        form = replace(self.row_format, first_turn=False)
        several, prompts = 0, []
        for start in range(0, len(self.records), BATCH_ROWS):
            for record in self.slice(start, start + BATCH_ROWS):
                row = form.row(record)
                several += isinstance(row, UnreadableRecord) and row.reason == MULTI_TURN
                prompts += filter(None, [form.system_prompt(record)])
        return TurnCounts(several, len(prompts), len(set(prompts)))

    def describe(self, turns: TurnCounts, *, all_turns: bool = False) -> str:
        """Return the number of rows, their form, and what of them is not read.

        Args:
            all_turns: whether system prompts and later turns are read.
        """
        parts = [f"{plural(len(self.records), 'row')} in {self.row_format.describe()}"]
        if turns.several_turns and all_turns and not self.row_format.first_turn:
            parts.append(f"{turns.several_turns:,} of several turns")
        elif turns.several_turns and self.row_format.first_turn:
            parts.append(f"{turns.several_turns:,} of several turns, of which the first is read")
        if turns.system_prompts and not all_turns:
            different = turns.different_prompts
            count = f" ({different:,} different)" if different > 1 else ""
            parts.append(f"{turns.system_prompts:,} with a system prompt{count}, which is not read")
        return "; ".join(parts)

    def provenance(self, turns: TurnCounts, unkept: Sequence[str]) -> str | None:
        """Return what a card reports of how the rows were read; None for all of plain Alpaca."""
        if self.row_format.plain and not self.source.part and not unkept:
            return None
        parts = self.source.part, self.describe(turns), describe_unkept(unkept)
        return "; ".join(filter(None, parts))


def open_dataset(source: DatasetSource) -> OpenedDataset:
    """Open a dataset and detect the form of its rows, without reading every row.

    Raises:
        InputError: the dataset does not exist, is empty or has unknown columns.
    """
    location, revision = locate(source)
    if isinstance(location, RecordList):
        records: RecordList | Dataset = location
    else:
        records = load_hub_format(source, location, revision)
        source = _name_loaded_config(source, records)
    if not len(records):
        raise InputError(f"dataset {source.label} contains no rows")
    form = detect_format(_sample(records), source.column_map, source.name)
    return OpenedDataset(source, records, replace(form, first_turn=source.first_turn), revision)


def locate(source: DatasetSource) -> tuple[Location, str]:
    """Return where the records of a dataset are, and their revision.

    The revision is the commit of a Hub dataset, `vX.Y.Z (sha256 ...)` of a dataset folder, or
    `sha256 ...` of files.
    """
    name = source.name
    if not name.strip():
        raise InputError(f"the name of the dataset is empty; {ACCEPTED_SOURCES}")
    path = Path(name)
    if source.revision is not None and path.exists():
        raise InputError(f"{name} is local and has no revisions; leave revision out")
    if path.is_file():
        for key, default in (("config", DEFAULT_CONFIG), ("split", DEFAULT_SPLIT)):
            if (value := getattr(source, key)) != default:
                raise InputError(f"{name} is a file and has no {key} {value!r}; leave it out")
        return read_records(path), f"sha256 {file_sha256(path)}"
    if path.is_dir():
        return _locate_folder(path, source)
    if path.suffix.lower() in LOCAL_SUFFIXES:
        raise InputError(f"cannot read {name}: no such file; {ACCEPTED_SOURCES}")
    if name.startswith((".", "/")) or name.count("/") > 1:
        raise InputError(f"no dataset at {name}; {ACCEPTED_SOURCES}")
    return None, _resolve_commit(name, source.revision)


def load_hub_format(
    source: DatasetSource, folder: Path | None, revision: str, *, streaming: bool = False
) -> Any:
    """Load a Hub dataset, or a folder in its layout, with `datasets`.

    A dataset of another origin without the config `default` is loaded with the config that its card
    marks as the default one, or with its only one.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    at = {} if folder else {"revision": revision}

    def load(config: str | None) -> Any:
        return load_dataset(source.name, config, split=source.split, streaming=streaming, **at)

    try:
        return load(source.config)
    except (DatasetsError, ValueError, OSError) as error:
        if explain_environment_error(error):
            raise  # of the machine, such as a cache folder that cannot be written
        manifest = find_manifest(source.name, at.get("revision"))
        if manifest is None and source.config == DEFAULT_CONFIG:
            with contextlib.suppress(DatasetsError, ValueError, OSError):
                return load(None)
        raise _explain_failed_load(source, error, at, manifest) from None


def find_manifest(name: str, revision: str | None) -> Manifest | None:
    """Return the manifest of a folder or Hub dataset; None if code-alpaca did not make it."""
    path = find_dataset_file(name, MANIFEST, revision)
    try:
        return read_manifest(path.parent) if path else None
    except RecordFormatError:  # of another tool: `locate` refuses a damaged one in a folder
        return None


def _name_loaded_config(source: DatasetSource, rows: Dataset) -> DatasetSource:
    """Return a source with the config that was loaded because there is no config `default`."""
    name = rows.info.config_name or DEFAULT_CONFIG
    is_default = name == DEFAULT_CONFIG or name.startswith(f"{DEFAULT_CONFIG}-")
    return source if is_default else replace(source, config=name)


def _sample(records: RecordList | Dataset) -> list[Any]:
    """Return the first records; those of a `datasets.Dataset` without decoding images or audio."""
    if isinstance(records, RecordList):
        return records[:SAMPLE_SIZE]
    return table_records(records.with_format("arrow")[:SAMPLE_SIZE])


def _slice(records: RecordList | Dataset, start: int, stop: int) -> list[Any]:
    rows = records[start:stop]
    if not isinstance(rows, dict):
        return list(rows)
    # A slice of a `datasets.Dataset` is its columns.
    return [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]


def _locate_folder(path: Path, source: DatasetSource) -> tuple[Location, str]:
    if (path / MANIFEST).is_file():
        return path, _folder_revision(path)
    if (path / "ledger.sqlite").is_file():
        raise InputError(f"{path} is the folder of a run; give its dataset, {path / 'dataset'}")
    if any((path / name).is_file() for name in ("state.json", "dataset_dict.json")):
        raise InputError(
            f"{path} was written by save_to_disk of datasets; write Parquet instead (to_parquet)"
        )
    files = find_data_files(path)
    if not files:
        raise InputError(f"{path} contains no data files; {ACCEPTED_SOURCES}")
    if card := next(path.rglob(CARD.as_posix()), None):
        raise InputError(f"{path} contains the dataset {card.parents[1]}; give that folder")
    revision = f"sha256 {_hash_files(path, files)}"
    if _declares_configs(path):
        return path, revision
    if source.config != DEFAULT_CONFIG:
        raise InputError(f"{path} declares no configs; leave config {source.config!r} out")
    if source.split not in files:
        raise _missing_choice(source.name, "split", source.split, sorted(files))
    return read_files(path, files[source.split]), revision


def _declares_configs(folder: Path) -> bool:
    """Return whether the card in a folder, such as a clone from the Hub, declares configs."""
    from huggingface_hub import metadata_load

    readme = folder / "README.md"
    try:
        return readme.is_file() and bool((metadata_load(readme) or {}).get("configs"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the metadata of {readme}: {error_message(error)}") from None


def _hash_files(folder: Path, files: FilesBySplit) -> str:
    """Return the SHA-256 of the paths and contents of all data files of a folder."""
    hashes = {
        path.relative_to(folder).as_posix(): file_sha256(path)
        for paths in files.values()
        for path in paths
    }
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


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


def _explain_failed_load(
    source: DatasetSource, error: Exception, at: Mapping[str, str], manifest: Manifest | None
) -> InputError:
    """Return what to do after `datasets` failed: most often the config or the split is missing."""
    if manifest and manifest.counts.get(source.config) == 0:
        passed = ", since no row passed tests of its own" if source.config == "verified" else ""
        return InputError(
            f"config {source.config!r} of {source.name} has no rows{passed}; load another config"
        )
    for kind, wanted, valid in _list_choices(source, at):
        for value in wanted:
            if value not in valid:
                return _missing_choice(source.name, kind, value, valid)
    return InputError(f"cannot load {source.label}: {error_message(error)}")


def _list_choices(
    source: DatasetSource, at: Mapping[str, str]
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield what a Hub dataset offers: the key, the values given for it, and the valid ones."""
    from datasets import get_dataset_config_names, get_dataset_split_names
    from datasets.exceptions import DatasetsError

    with contextlib.suppress(DatasetsError, ValueError, OSError):
        configs, config = get_dataset_config_names(source.name, **at), source.config
        if config == DEFAULT_CONFIG and len(configs) == 1:
            config = configs[0]
        yield "config", [config], configs
        splits = SPLIT_SLICE.sub("", source.split).split("+")
        yield "split", splits, get_dataset_split_names(source.name, config, **at)


def _missing_choice(name: str, kind: str, value: str, valid: Sequence[str]) -> InputError:
    return InputError(
        f"{name} has no {kind} {value!r}; set source_{kind} (sft: dataset_{kind}) to one of "
        f"{', '.join(valid)}"
    )
