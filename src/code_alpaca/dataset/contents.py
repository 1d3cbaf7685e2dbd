"""Which files are a dataset release: in the folder, in the repository, and in neither."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from code_alpaca.core.errors import InputError
from code_alpaca.core.plots import PICTURES
from code_alpaca.core.schema import CONFIGS
from code_alpaca.dataset.manifest import CARD, MANIFEST, changed_files, is_manifest, manifest_of
from code_alpaca.hub.client import HubRepo
from code_alpaca.hub.release_plan import ReleaseKind, summarize_names
from code_alpaca.hub.unsafe_files import find_symlinks, is_code_or_pickle
from code_alpaca.hub.versions import README, read_json, read_text

CHANGELOG = "CHANGELOG.md"
KEY = "manifest sha256"  # what the description of every release commit starts with
TABLES = (".parquet", ".json", ".jsonl", ".csv")
# What the card's metadata loads, whoever put it there.
LOADED = re.compile(rf"data/({'|'.join(CONFIGS)})/(train|validation)-.*\.parquet")
ROWS_AT_ONCE = 10_000
UNTOLD = "created_at"  # the one column that differs between two makings of the same rows


def checked(folder: Path) -> dict[str, Any]:
    """Return the manifest of a folder that holds what its manifest says, and nothing else.

    Raises:
        InputError: naming the file that is missing, changed, a link or not part of the dataset.
    """
    manifest = manifest_of(folder)
    if manifest is None:
        raise InputError(f"there is no {folder}; code-alpaca publish makes it")
    require_no_others(folder, manifest)
    for shard in changed_files(folder, manifest):
        raise InputError(
            f"{folder / shard} is not what {MANIFEST} says, so nothing was pushed; make the folder "
            "again from its run or source"
        )
    return manifest


def require_no_others(folder: Path, manifest: dict[str, Any]) -> None:
    """Refuse links, and files that somebody put into a dataset folder.

    Raises:
        InputError: naming them.
    """
    if links := find_symlinks(folder):
        raise InputError(
            f"{folder} holds links ({summarize_names(links)}), which could lead to private files; "
            "replace them by the files themselves, or make the folder again"
        )
    card = folder / CARD
    shown = _pictures(read_text(card)) if card.is_file() else set()
    known = {*names(folder, manifest), *(f"assets/{name}" for name in PICTURES), *shown}
    others = [name for name in _files(folder) if name not in known]
    if others:
        raise InputError(
            f"{folder} holds files that are not part of the dataset ({summarize_names(others)}); "
            "move them away, or they would be lost or released"
        )


def names(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Return the paths of a release of this folder in the repository."""
    drawn = [f"assets/{name}" for name in PICTURES if (folder / "assets" / name).is_file()]
    return [*manifest["sha256"], MANIFEST, README, CHANGELOG, CARD.as_posix(), *drawn]


def kind() -> ReleaseKind:
    """Return what tells the files of a dataset release from those of other people."""
    return ReleaseKind(
        KEY,
        _owned,
        harmful=lambda name, first: bool(LOADED.fullmatch(name)) or is_code_or_pickle(name),
        strange=lambda name: name.startswith(("data/", "assets/")) or name.endswith(TABLES),
    )


def released_manifest(repo: HubRepo, sha: str) -> dict[str, Any]:
    """Return the manifest of a release by its commit; {} where there is none that can be read."""
    path = repo.fetch(MANIFEST, sha)
    manifest = read_json(path) if path else None
    return manifest if is_manifest(manifest) else {}


def content_key(folder: Path, manifest: dict[str, Any]) -> str:
    """Return what names this release in the description of its commit.

    It is a hash of the version, the licence and the rows, not of the files: the same run made
    again after a loss has another `created_at` in every row, and is the same release.
    """
    digests = {name: hashlib.sha256() for name in _splits(manifest)}
    for shard in sorted(manifest["sha256"]):
        digest = digests[_split(shard)]
        for row in _rows(folder / shard):
            digest.update(json.dumps(row, default=str).encode())
    what = {
        "version": manifest["version"],
        "license": manifest["license"],
        "columns": manifest.get("columns"),
        "rows": {name: digest.hexdigest() for name, digest in digests.items()},
    }
    return f"{KEY} {hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()}"


def _owned(repo: HubRepo, sha: str) -> set[str]:
    """The files of a release: the shards of its manifest, and the pictures on its card."""
    card = repo.fetch(CARD.as_posix(), sha)
    drawn = _pictures(read_text(card)) if card else set()
    shards = released_manifest(repo, sha).get("sha256", {})
    return {*shards, *drawn, MANIFEST, README, CHANGELOG, CARD.as_posix()}


def _pictures(card: str) -> set[str]:
    """The pictures that a card shows, outside of the rows that it quotes."""
    return set(re.findall(r"(?m)^!\[[^\]\n]*\]\((assets/[\w.-]+\.png)\)$", _without_code(card)))


def _without_code(card: str) -> str:
    return re.sub(r"(?ms)^(`{3,})[^`\n]*\n.*?^\1`*$", "", card)


def _files(folder: Path) -> list[str]:
    return [
        path.relative_to(folder).as_posix()
        for path in sorted(folder.rglob("*"))
        if not path.is_dir()
    ]


def _splits(manifest: dict[str, Any]) -> list[str]:
    return sorted({_split(shard) for shard in manifest["sha256"]})


def _split(shard: str) -> str:
    """Config and split of a shard, as `default/train`."""
    path = Path(shard)
    return f"{path.parent.name}/{path.name.partition('-')[0]}"


def _rows(path: Path) -> Iterator[list[Any]]:
    """The rows of a shard as lists of values, without when they were made."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    columns = [name for name in file.schema_arrow.names if name != UNTOLD]
    for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns):
        for row in batch.to_pylist():
            yield [row[name] for name in columns]
