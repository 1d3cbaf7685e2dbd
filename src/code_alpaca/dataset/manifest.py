"""What a dataset folder says of itself, and whether it is still true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from code_alpaca.core import fs
from code_alpaca.core.config import SEMVER
from code_alpaca.core.errors import InputError

MANIFEST = "manifest.json"
CARD = Path("assets/card.md")


def manifest_of(folder: Path) -> dict[str, Any] | None:
    """What a dataset folder says of itself; None where there is no folder yet.

    Raises:
        InputError: the folder is someone else's.
    """
    if not folder.exists():
        return None
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{folder} exists and is no dataset of code-alpaca (no {MANIFEST}); move it away first"
        ) from None
    except (OSError, ValueError):
        manifest = None
    if not is_manifest(manifest):
        raise InputError(
            f"{folder / MANIFEST} was changed or damaged; move {folder} away, and make it again"
        )
    return manifest


def mended(folder: Path) -> dict[str, Any] | None:
    """The same of a folder that is to be made anew, the last time maybe not to its end.

    Raises:
        InputError: the folder is someone else's.
    """
    fs.recover_for_reading(folder)
    return manifest_of(folder)


def is_manifest(value: Any) -> bool:
    """Whether it has what we go on from; a file on a disk or a Hub may be edited by anyone."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("version"), str)
        and bool(SEMVER.fullmatch(value["version"]))
        and isinstance(value.get("license"), str)
        and isinstance(value.get("sha256"), dict)
        and isinstance(value.get("columns", {}), dict)
        and isinstance(value.get("counts"), dict)
    )


def changed_files(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Shards of a dataset folder that are missing, or not what its manifest says."""
    return [
        shard
        for shard, sha in manifest["sha256"].items()
        if not (folder / shard).is_file() or fs.file_sha256(folder / shard) != sha
    ]
