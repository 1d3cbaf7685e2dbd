"""What a dataset folder says of itself, and whether it is still true."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from code_alpaca.errors import InputError

MANIFEST = "manifest.json"


def manifest_of(folder: Path) -> dict[str, Any] | None:
    """What a dataset folder says of itself; None where there is no folder yet.

    Raises:
        InputError: the folder is someone else's.
    """
    if not folder.exists():
        return None
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(
            f"{folder} exists and is no dataset of ours (no {MANIFEST}); move it away first"
        ) from None


def changed_files(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Shards of a dataset folder that are missing, or not what its manifest says."""
    return [
        shard
        for shard, sha in manifest["sha256"].items()
        if not (folder / shard).is_file() or sha256(folder / shard) != sha
    ]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
