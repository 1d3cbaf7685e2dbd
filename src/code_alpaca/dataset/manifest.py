"""Read the manifest of a dataset folder and verify its files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from code_alpaca.core import fs
from code_alpaca.core.errors import InputError
from code_alpaca.core.records import Manifest

MANIFEST = Manifest.FILE
CARD = Path("assets/card.md")  # the card as rendered; README.md on the Hub may be edited later


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a dataset folder; None if the folder does not exist.

    Raises:
        InputError: code-alpaca did not create the folder, or its manifest was edited or damaged.
    """
    if not folder.exists():
        return None
    if not (folder / MANIFEST).exists():
        raise InputError(
            f"{folder} exists, but code-alpaca did not create it (no {MANIFEST}); move it away"
        )
    return Manifest.load(folder)


def recover_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a folder after recovering an interrupted replacement of it."""
    fs.recover_for_reading(folder)
    return read_manifest(folder)


def find_changed_files(folder: Path, hashes: Mapping[str, str]) -> list[str]:
    """Return the files that are missing or differ from their hashes in the manifest."""
    return [
        name
        for name, sha256 in hashes.items()
        if not (folder / name).is_file() or fs.file_sha256(folder / name) != sha256
    ]
