"""Render the dataset card: a Jinja template filled from the manifest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path, PurePath
from typing import Any

import yaml

from code_alpaca.core.records import Manifest
from code_alpaca.core.row_formats import ALPACA
from code_alpaca.core.schema import CONFIGS
from code_alpaca.dataset.origin_files import SEED_TASKS
from code_alpaca.dataset.plots import caption
from code_alpaca.dataset.source import LOCAL_SUFFIXES
from code_alpaca.hub import cards

MAX_FIELD_LENGTH = 4_000  # characters of each field of the example
IMPORTED = "imported"  # the strategy of rows that were not generated
COMMIT = re.compile("[0-9a-f]{40}")
SIZE_CATEGORIES = {
    1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M",
}  # fmt: skip


def render_card(
    manifest: Manifest, example: dict[str, Any] | None, plots: Sequence[str] = ()
) -> str:
    """Return the README.md of a dataset folder: metadata, then the card with an example row.

    `plots` are names of files in `assets/`.
    """
    values = {name: getattr(manifest, name) for name in Manifest.model_fields if name != "config"}
    values["title"] = manifest.title or _default_title(manifest)
    return cards.render_card(
        "README.md.jinja",
        _read_template,
        _metadata(manifest),
        **values,
        run=manifest.config,
        example=_format_example(example) if example else None,
        plots=plots,
        seed_tasks=SEED_TASKS if SEED_TASKS in manifest.assets else None,
        prompts={Path(name).stem: name for name in manifest.assets if name != SEED_TASKS},
        caption=caption,
    )


def _metadata(manifest: Manifest) -> dict[str, Any]:
    """Return the YAML metadata: constants from metadata.yaml, the rest from the manifest."""
    counts = manifest.counts
    rows = counts["default"]
    size = next((name for limit, name in SIZE_CATEGORIES.items() if rows < limit), "1M<n<10M")
    return {
        **_constants(manifest),
        "pretty_name": manifest.title or _default_title(manifest),
        "license": manifest.license,
        "size_categories": [size],
        "configs": [_describe_config(manifest, name) for name in CONFIGS if counts.get(name)],
    }


def _constants(manifest: Manifest) -> dict[str, Any]:
    kind = "_imported" if manifest.strategy == IMPORTED else ""
    return yaml.safe_load(_read_template(f"metadata{kind}.yaml"))


def _default_title(manifest: Manifest) -> str:
    """Return the Hub id of an imported dataset, or the name of its file without suffixes."""
    if manifest.strategy != IMPORTED or not manifest.source:
        return _constants(manifest)["pretty_name"]
    if COMMIT.fullmatch(manifest.source_revision or ""):
        return manifest.source
    name = PurePath(manifest.source)
    while name.suffix.lower() in LOCAL_SUFFIXES:
        name = name.with_suffix("")
    return name.name


def _describe_config(manifest: Manifest, name: str) -> dict[str, Any]:
    hashes = [sha for path, sha in manifest.sha256.items() if Path(path).parts[1] == name]
    return {
        "config_name": name,
        **({"default": True} if name == "default" else {}),
        # `datasets` keys its cache of a local folder on this metadata, not on the files.
        # Without a content hash it would return the cached rows of another run.
        "description": f"sha256 {' '.join(hashes)}",
        "data_files": [
            {"split": split, "path": f"data/{name}/{split}-*.parquet"}
            for split in manifest.splits[name]
        ],
    }


def _format_example(row: dict[str, Any]) -> str:
    """Return the texts of a row, long ones truncated."""
    texts = []
    for text in filter(None, (row[name] for name in ALPACA)):
        if len(text) > MAX_FIELD_LENGTH:
            text = f"{text[:MAX_FIELD_LENGTH]} ... ({len(text):,} characters)"
        texts.append(text)
    return "\n\n".join(texts)


def _read_template(name: str) -> str:
    return resources.files("code_alpaca").joinpath("dataset/templates", name).read_text("utf-8")
