"""Decide which files belong to a dataset release, in a folder and in a Hub repository."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from code_alpaca.core.errors import InputError
from code_alpaca.core.records import Manifest, RecordFormatError
from code_alpaca.core.schema import CONFIGS, CONVERSATIONAL_CONFIGS
from code_alpaca.dataset.manifest import CARD, MANIFEST, find_changed_files, read_manifest
from code_alpaca.dataset.plots import PLOTS
from code_alpaca.dataset.shards import VOLATILE_COLUMNS, read_columns, read_rows
from code_alpaca.hub.client import HubRepo
from code_alpaca.hub.release_plan import (
    ReleaseKind,
    find_symlinks,
    is_code_or_pickle,
    summarize_names,
)
from code_alpaca.hub.versions import README, read_json, read_text

CHANGELOG = "CHANGELOG.md"
KEY = "manifest sha256"  # prefix of the description of every release commit
TABLE_SUFFIXES = (".parquet", ".json", ".jsonl", ".csv")
# `datasets` loads these files through the card's metadata, no matter who added them.
LOADED = re.compile(rf"data/({'|'.join(CONFIGS)})/(train|validation)-.*\.parquet")
PLOT_LINK = re.compile(r"(?m)^!\[[^\]\n]*\]\((assets/[\w.-]+\.png)\)$")
CODE_BLOCK = re.compile(r"(?ms)^(`{3,})[^`\n]*\n.*?^\1`*$")


def verify_folder(folder: Path) -> Manifest:
    """Return the manifest of a dataset folder; refuse missing, changed and foreign files."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise InputError(f"{folder} does not exist; code-alpaca publish writes it")
    refuse_foreign_files(folder, manifest)
    for name in find_changed_files(folder, manifest.sha256 | manifest.assets):
        raise InputError(
            f"{folder / name} differs from {MANIFEST}, so nothing was pushed; publish its run or "
            "source again to rebuild the folder"
        )
    return manifest


def refuse_foreign_files(folder: Path, manifest: Manifest) -> None:
    """Refuse a folder with links, or with files that are not part of the dataset."""
    if links := find_symlinks(folder):
        raise InputError(
            f"{folder} contains links ({summarize_names(links)}), which could lead to private "
            "files; replace them with the files themselves, or rebuild the folder"
        )
    card = folder / CARD
    linked = _linked_plots(read_text(card)) if card.is_file() else set()
    expected = {*release_paths(folder, manifest), *(f"assets/{name}" for name in PLOTS), *linked}
    paths = [path for path in sorted(folder.rglob("*")) if not path.is_dir()]
    names = [path.relative_to(folder).as_posix() for path in paths]
    if foreign := [name for name in names if name not in expected]:
        raise InputError(
            f"{folder} contains files that are not part of the dataset "
            f"({summarize_names(foreign)}); move them away, or they would be lost or released"
        )


def release_paths(folder: Path, manifest: Manifest) -> list[str]:
    """Return the paths of a release of this folder in the repository."""
    plots = [f"assets/{name}" for name in PLOTS if (folder / "assets" / name).is_file()]
    return [
        *manifest.sha256,
        *manifest.assets,
        MANIFEST,
        README,
        CHANGELOG,
        CARD.as_posix(),
        *plots,
    ]


def released_manifest(repo: HubRepo, sha: str) -> Manifest | None:
    """Return the manifest of a release commit; None if it is missing or was edited."""
    path = repo.fetch(MANIFEST, sha)
    if path is None:
        return None
    try:
        return Manifest.parse(read_json(path), f"{MANIFEST} in {repo.url}")
    except RecordFormatError:
        return None


def content_key(folder: Path, manifest: Manifest) -> str:
    """Return the key of a release: a hash of its version, license and rows.

    The rows are hashed without `created_at`, so that a run repeated after its folder was lost is
    the same release; and without the configs that repeat them as messages, which releases did not
    have at first.
    """
    shards: dict[str, list[str]] = {}
    for shard in sorted(manifest.sha256):
        path = Path(shard)
        if path.parent.name in CONVERSATIONAL_CONFIGS:
            continue
        shards.setdefault(f"{path.parent.name}/{path.name.partition('-')[0]}", []).append(shard)
    content = {
        "version": manifest.version,
        "license": manifest.license,
        "columns": manifest.columns,
        "rows": {split: _hash_rows(folder, names) for split, names in shards.items()},
    }
    return f"{KEY} {hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()}"


def _hash_rows(folder: Path, shards: list[str]) -> str:
    digest = hashlib.sha256()
    for path in (folder / name for name in shards):
        columns = [name for name in read_columns(path) if name not in VOLATILE_COLUMNS]
        for row in read_rows(path, columns):
            digest.update(json.dumps([row[name] for name in columns], default=str).encode())
    return digest.hexdigest()


def _released_files(repo: HubRepo, sha: str) -> set[str]:
    """Return the files of a release commit: those in its manifest, and plots on its card."""
    card, manifest = repo.fetch(CARD.as_posix(), sha), released_manifest(repo, sha)
    plots = _linked_plots(read_text(card)) if card else set()
    named = {*manifest.sha256, *manifest.assets} if manifest else set()
    return {*named, *plots, MANIFEST, README, CHANGELOG, CARD.as_posix()}


def _linked_plots(card: str) -> set[str]:
    """Return the plots that a card shows, ignoring links in the rows that it quotes."""
    return set(PLOT_LINK.findall(CODE_BLOCK.sub("", card)))


DATASET_RELEASE = ReleaseKind(
    KEY,
    _released_files,
    harmful=lambda name, first: bool(LOADED.fullmatch(name)) or is_code_or_pickle(name),
    strange=lambda name: name.startswith(("data/", "assets/")) or name.endswith(TABLE_SUFFIXES),
    content="rows",
)
