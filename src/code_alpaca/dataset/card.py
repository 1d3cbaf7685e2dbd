"""Render the dataset card: a Jinja template filled from the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from code_alpaca.core.records import Manifest
from code_alpaca.core.schema import CONFIGS
from code_alpaca.hub import cards

MAX_FIELD_LENGTH = 4_000  # characters of each field of the example
SIZE_CATEGORIES = [
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
]


def render_card(
    manifest: Manifest, example: dict[str, Any] | None, plots: Sequence[str] = ()
) -> str:
    """Return the README.md of a dataset folder: YAML metadata, then the card.

    Args:
        example: a row to show, if there is any.
        plots: names of files in `assets/`.
    """
    return cards.render_card(
        "README.md.jinja",
        _read_template,
        _metadata(manifest),
        **{name: getattr(manifest, name) for name in Manifest.model_fields if name != "config"},
        run=manifest.config,
        example=_format_example(example),
        plots=plots,
    )


def _metadata(manifest: Manifest) -> dict[str, Any]:
    """Return the YAML metadata: constants from metadata.yaml, the rest from the manifest."""
    rows = manifest.counts["default"]
    size = next((name for limit, name in SIZE_CATEGORIES if rows < limit), "1M<n<10M")
    return {
        **yaml.safe_load(_read_template("metadata.yaml")),
        "license": manifest.license,
        "size_categories": [size],
        "configs": [
            {
                "config_name": name,
                **({"default": True} if name == "default" else {}),
                # `datasets` keys its cache of a local folder on this metadata, not on the files.
                # Without a content hash it would return the cached rows of another run.
                "description": _content_hash(manifest, name),
                "data_files": [
                    {"split": split, "path": f"data/{name}/{split}-*.parquet"}
                    for split in manifest.splits[name]
                ],
            }
            for name in CONFIGS
            if manifest.counts[name]
        ],
    }


def _content_hash(manifest: Manifest, config: str) -> str:
    hashes = [sha for path, sha in manifest.sha256.items() if Path(path).parts[1] == config]
    return f"sha256 {' '.join(hashes)}"


def _format_example(row: dict[str, Any] | None) -> str | None:
    """Return the texts of a row, long ones truncated."""
    if row is None:
        return None
    texts = [row[name] for name in ("instruction", "input", "output") if row[name]]
    return "\n\n".join(
        text
        if len(text) <= MAX_FIELD_LENGTH
        else f"{text[:MAX_FIELD_LENGTH]} ... ({len(text):,} characters)"
        for text in texts
    )


def _read_template(name: str) -> str:
    return resources.files("code_alpaca").joinpath("dataset/templates", name).read_text("utf-8")
