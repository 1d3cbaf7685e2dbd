"""The dataset card: a Jinja template, and every number in it from the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from code_alpaca.core.schema import CONFIGS
from code_alpaca.hub import cards

SHOWN = 4_000  # characters of each field of the example
SIZES = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]


def render(
    manifest: dict[str, Any], example: dict[str, Any] | None, pictures: Sequence[str] = ()
) -> str:
    """The README.md of a dataset folder: YAML metadata, then the card.

    Args:
        manifest: what `manifest.json` holds.
        example: one row to show, if there is any.
        pictures: names of files in `assets/`.
    """
    return cards.render_card(
        "README.md.jinja",
        _read,
        _metadata(manifest),
        **{key: value for key, value in manifest.items() if key != "config"},
        run=manifest["config"],
        example=_shown(example),
        pictures=pictures,
    )


def _metadata(manifest: dict[str, Any]) -> dict[str, Any]:
    """What the Hub reads: the constant part from metadata.yaml, the rest from the manifest."""
    rows = manifest["counts"]["default"]
    size = next((name for limit, name in SIZES if rows < limit), "1M<n<10M")
    return {
        **yaml.safe_load(_read("metadata.yaml")),
        "license": manifest["license"],
        "size_categories": [size],
        "configs": [
            {
                "config_name": name,
                **({"default": True} if name == "default" else {}),
                # `datasets` keys its cache of a local folder on this metadata and not on the
                # files: without a word of the content, it would hand out another run's rows.
                "description": _content(manifest, name),
                "data_files": [
                    {"split": split, "path": f"data/{name}/{split}-*.parquet"}
                    for split in manifest["splits"][name]
                ],
            }
            for name in CONFIGS
            if manifest["counts"][name]
        ],
    }


def _content(manifest: dict[str, Any], name: str) -> str:
    """The hash of a config's shards, as its description."""
    shards = [sha for path, sha in manifest["sha256"].items() if Path(path).parts[1] == name]
    return f"sha256 {' '.join(shards)}"


def _shown(example: dict[str, Any] | None) -> str | None:
    """One row as the card shows it, long fields cut."""
    if example is None:
        return None
    texts = [example[name] for name in ("instruction", "input", "output") if example[name]]
    return "\n\n".join(
        text if len(text) <= SHOWN else f"{text[:SHOWN]} ... ({len(text):,} characters)"
        for text in texts
    )


def _read(name: str) -> str:
    return resources.files("code_alpaca").joinpath("dataset/templates", name).read_text("utf-8")
