"""Make the versioned dataset folder, with card and manifest, from a run or from an Alpaca file."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import Field
from rich.console import Console

from code_alpaca.config import StageConfig, Version, Words
from code_alpaca.dataset.build import MANIFEST, build, build_from_source
from code_alpaca.errors import InputError


class Config(StageConfig):
    """The keys of `code-alpaca publish`."""

    run_dir: Path = Field(description="the run; its dataset/ is written")
    source: Path | None = Field(None, description="an Alpaca JSON or JSONL file to import instead")
    dataset_version: Version | None = Field(None, description="SemVer; none: as it was")
    license: Words | None = Field(
        None, description="licence of the data, by its Hub name; none: as it was, never guessed"
    )
    hub_dataset_id: str | None = Field(None, description="not in this version: pushes to the Hub")
    dry_run: bool = Field(False, description="say what would be written, write nothing")


def run(config: Config) -> None:
    """Write `<run_dir>/dataset`.

    Raises:
        InputError: no run, a bad source or version, or a push was asked for.
    """
    if config.hub_dataset_id:
        raise InputError(
            "pushing is not in this version; publish without hub_dataset_id, then: hf upload "
            f"--repo-type dataset {config.hub_dataset_id} {config.run_dir}/dataset"
        )
    console = Console(highlight=False, soft_wrap=True)
    if config.dry_run:
        origin = config.source or config.run_dir / "ledger.sqlite"
        if not origin.exists():
            raise InputError(f"there is no {origin}; give a run of generate, or a source")
        console.print(f"publish   would write {config.run_dir / 'dataset'} from {origin}")
        return
    if config.source:
        folder = build_from_source(
            config.source,
            config.run_dir,
            dataset_version=config.dataset_version or "0.1.0",
            license=config.license or "other",
        )
    else:
        folder = build(
            config.run_dir, dataset_version=config.dataset_version, license=config.license
        )
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    counts = ", ".join(f"{name} {count}" for name, count in manifest["counts"].items())
    console.print(f"publish   {folder}, version {manifest['version']}: {counts}")
