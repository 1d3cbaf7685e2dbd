"""Load a dataset from where it is, and say exactly which one it was."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from code_alpaca.dataset.build import MANIFEST, manifest_of, read_alpaca_file
from code_alpaca.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset

ALPACA = ("instruction", "input", "output")


def load(name: str, config: str = "default", revision: str | None = None) -> tuple[Dataset, str]:
    """The rows of `name` and the revision that names them for ever.

    Args:
        name: a dataset folder of `publish`, an Alpaca JSON or JSONL file, or a Hub id.
        revision: a tag, branch or commit of a Hub dataset.

    Returns:
        The dataset with at least the Alpaca columns, and: the commit sha of a Hub dataset, the
        `vX.Y.Z (sha256 ...)` of a folder, the `sha256 ...` of a file.

    Raises:
        InputError: it does not exist, is empty, or lacks a column.
    """
    from datasets import Dataset

    path = Path(name)
    if revision is not None and path.exists():
        raise InputError(f"{name} is on this disk and has one revision; leave dataset_revision out")
    if path.is_file():
        if config != "default":
            raise InputError(f"{name} is a file and has no config {config!r}; leave it out")
        rows = Dataset.from_list(read_alpaca_file(path))
        return rows, f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"
    if (path / MANIFEST).is_file():
        sha = _folder_revision(path)
        return _checked(_load(str(path), config, None), name), sha
    if path.exists():
        raise InputError(
            f"{name} is no dataset folder (no {MANIFEST}); code-alpaca publish makes one"
        )
    if name.startswith((".", "/")) or name.count("/") > 1:
        raise InputError(f"no dataset at {name}; give a folder, an Alpaca JSON file or a Hub id")
    sha = _resolve(name, revision)
    return _checked(_load(name, config, sha), name), sha


def _load(name: str, config: str, revision: str | None) -> Dataset:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        return load_dataset(name, config, split="train", revision=revision)
    except (DatasetsError, ValueError, OSError) as error:
        raise InputError(f"cannot load {name}, config {config!r}: {_line(error)}") from None


def _checked(rows: Dataset, name: str) -> Dataset:
    missing = [column for column in ALPACA if column not in rows.column_names]
    if missing:
        raise InputError(f"dataset {name} has no column {', '.join(missing)}")
    if not len(rows):
        raise InputError(f"dataset {name} holds no rows")
    return rows


def _folder_revision(path: Path) -> str:
    manifest = manifest_of(path) or {}
    for shard, sha in manifest["sha256"].items():
        file = path / shard
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != sha:
            raise InputError(
                f"{file} is not what {MANIFEST} says; make the folder again with code-alpaca "
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
            f"cannot find dataset {name} at revision {revision or 'main'} ({_line(error)}); give a "
            "folder, an Alpaca JSON file, or a Hub id that you may read"
        ) from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
