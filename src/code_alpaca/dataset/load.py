"""Load a dataset from where it is, and say exactly which one it was."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from code_alpaca.dataset.manifest import MANIFEST, changed_files, manifest_of, sha256
from code_alpaca.errors import InputError, one_line
from code_alpaca.schema import is_unicode

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

ALPACA = ("instruction", "input", "output")
# Of a manifest: how the rows came about, for whoever learns from them.
LINEAGE = ("version", "license", "teacher", "strategy", "prompt_version", "embedded_teacher",
           "source")  # fmt: skip
ACCEPTED = (
    "give an Alpaca JSON or JSONL file, a dataset folder that code-alpaca publish made, or the "
    "id of a dataset on the Hub"
)


def load(
    name: str, config: str = "default", revision: str | None = None, *, split: str = "train"
) -> tuple[Dataset, str]:
    """The rows of `name` and the revision that names them for ever.

    Args:
        name: a dataset folder of `publish`, an Alpaca JSON or JSONL file, or a Hub id.
        revision: a tag, branch or commit of a Hub dataset; what it means now is pinned.

    Returns:
        The dataset with at least the Alpaca columns, and: the commit sha of a Hub dataset, the
        `vX.Y.Z (sha256 ...)` of a folder, the `sha256 ...` of a file.

    Raises:
        InputError: it does not exist, is empty, or lacks a column.
    """
    place, sha = _find(name, config, revision)
    if isinstance(place, list):
        from datasets import Dataset

        return Dataset.from_list(place), sha
    rows = _load(name, place, config, split, sha, streaming=False)
    if not len(rows):
        raise InputError(f"dataset {name} holds no rows")
    return rows, sha


def stream(
    name: str, config: str = "default", revision: str | None = None, *, split: str = "train"
) -> tuple[IterableDataset, str]:
    """As `load`, but rows come one by one as they are read, and nothing is written to a cache."""
    place, sha = _find(name, config, revision)
    if isinstance(place, list):
        from datasets import Dataset

        return Dataset.from_list(place).to_iterable_dataset(), sha
    return _load(name, place, config, split, sha, streaming=True), sha


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


def _find(
    name: str, config: str, revision: str | None
) -> tuple[list[dict[str, str]] | Path | None, str]:
    """The rows of a file, a folder, or None for the Hub; and the revision of it."""
    if not name.strip():
        raise InputError(f"the name of the dataset is empty; {ACCEPTED}")
    path = Path(name)
    if revision is not None and path.exists():
        raise InputError(f"{name} is on this disk and has one revision; leave the revision out")
    if path.is_file():
        if config != "default":
            raise InputError(f"{name} is a file and has no config {config!r}; leave it out")
        return read_alpaca_file(path), f"sha256 {sha256(path)}"
    if (path / MANIFEST).is_file():
        return path, _folder_revision(path)
    if path.exists():
        raise InputError(f"{name} is no dataset folder (no {MANIFEST}); {ACCEPTED}")
    if path.suffix in (".json", ".jsonl"):
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
        rows = load_dataset(
            name, config, split=split, revision=None if folder else sha, streaming=streaming
        )
        columns = rows.column_names or list(rows.resolve_features().column_names)
    except (DatasetsError, ValueError, OSError) as error:
        raise InputError(f"cannot load {name}, config {config!r}: {one_line(error)}") from None
    if missing := [column for column in ALPACA if column not in columns]:
        raise InputError(f"dataset {name} has no column {', '.join(missing)}")
    return rows


def read_records(path: Path) -> list[Any]:
    """The records of a JSON list or JSONL file, whatever they are.

    Raises:
        InputError: unreadable, no text, neither of the two, or empty.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}") from None
    except UnicodeDecodeError:
        raise InputError(
            f"{path} is no UTF-8 text; unpack it if it is packed, or {ACCEPTED}"
        ) from None
    try:
        if text.lstrip().startswith("["):
            records = json.loads(text)
        else:
            records = [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is neither a JSON list nor JSONL ({error}); {ACCEPTED}") from None
    if not records:
        raise InputError(f"{path} holds no rows")
    return records


def read_alpaca_file(path: Path) -> list[dict[str, str]]:
    """The rows of an Alpaca JSON list or JSONL file as instruction, input, output.

    Raises:
        InputError: unreadable, empty, or a row (named by its number) of another shape.
    """
    records, rows = read_records(path), []
    for number, record in enumerate(records, 1):
        row = record if isinstance(record, dict) else {}
        row = {key: row[key] for key in ALPACA if key in row}
        row["input"] = row.get("input") or ""
        if len(row) < 3 or not all(isinstance(value, str) for value in row.values()):
            raise InputError(f"{path}, row {number}: needs instruction, input and output as text")
        if not all(is_unicode(value) for value in row.values()):
            raise InputError(f"{path}, row {number}: half a surrogate pair, which no file can hold")
        rows.append({key: row[key] for key in ALPACA})
    return rows


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
            f"cannot find dataset {name} at revision {revision or 'main'} ({one_line(error)}); "
            f"{ACCEPTED} that you may read"
        ) from None
