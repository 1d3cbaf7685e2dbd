"""Make the folder of a model release: weights, tokenizer, results and a card with their numbers.

Only what a user of the model needs goes in; optimizer states, checkpoints and pickles stay out.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from pydantic import Field
from rich.console import Console

from code_alpaca.config import StageConfig, Version, Words
from code_alpaca.errors import InputError
from code_alpaca.release import card
from code_alpaca.weights import weights_sha256

MARK = "release.json"  # says that a folder is a release of ours
RELEASED = (
    "*.safetensors", "model.safetensors.index.json", "config.json", "generation_config.json",
    "tokenizer*", "special_tokens_map.json", "chat_template.jinja", "run.json",
)  # fmt: skip


class Config(StageConfig):
    """The keys of `code-alpaca release`."""

    model_dir: Path = Field(description="model folder that sft wrote")
    results: Path = Field(description="results.json of eval, or the folder that holds it")
    output_dir: Path = Field(Path("runs/release"), description="the release folder to write")
    model_version: Version = Field("0.1.0", description="SemVer of this release")
    license: Words = Field("other", description="licence of the weights, by its Hub name")
    dataset_card: Path | None = Field(None, description="card of the training data, to go along")
    hub_model_id: str | None = Field(None, description="not in this version: pushes to the Hub")
    dry_run: bool = Field(False, description="say what would be written, write nothing")


def run(config: Config) -> None:
    """Write the release folder.

    Raises:
        InputError: no model, results of another model, or a push was asked for.
    """
    if config.hub_model_id:
        raise InputError(
            "pushing is not in this version; release without hub_model_id, then: hf upload "
            f"{config.hub_model_id} {config.output_dir}"
        )
    training = _json(config.model_dir / "run.json", "a model folder made by sft")
    path = config.results / "results.json" if config.results.is_dir() else config.results
    results = _json(path, "results of eval")
    weights = weights_sha256(str(config.model_dir))
    if weights is None:
        raise InputError(f"{config.model_dir} holds no weights (*.safetensors)")
    measured = results.get("model")
    if not isinstance(measured, dict) or measured.get("sha256") != weights:
        raise InputError(
            f"{path} holds no results of the weights in {config.model_dir}; run eval with "
            f"--model {config.model_dir}"
        )
    if config.dataset_card and not config.dataset_card.is_file():
        raise InputError(f"dataset_card {config.dataset_card} is no file")
    sources = {config.model_dir.resolve(), path.parent.resolve()}
    if config.output_dir.resolve() in sources:
        raise InputError(f"output_dir {config.output_dir} is where the model comes from")
    files = sorted({file for pattern in RELEASED for file in config.model_dir.glob(pattern)})
    console = Console(highlight=False, soft_wrap=True)
    if config.dry_run:
        names = ", ".join(file.name for file in files)
        console.print(
            f"release   would write {config.output_dir}: README.md, results.json, {names}"
        )
        return
    text = card.render(training, results, version=config.model_version, license=config.license)
    _write(config, files, path, text)
    console.print(f"release   {config.output_dir}, version {config.model_version}, with its card")


def _write(config: Config, files: list[Path], results: Path, text: str) -> None:
    """Everything into a folder beside the target, then one rename."""
    out = config.output_dir
    if out.exists() and not (out / MARK).exists():
        raise InputError(f"{out} exists and is no release of ours; choose another output_dir")
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for file in files:
        shutil.copy2(file, part)
    shutil.copy2(results, part / "results.json")
    (part / MARK).write_text(json.dumps({"version": config.model_version}) + "\n")
    if config.dataset_card:
        shutil.copy2(config.dataset_card, part / "DATASET_CARD.md")
    (part / "README.md").write_text(text, encoding="utf-8")
    if out.exists():
        shutil.rmtree(out)
    os.rename(part, out)


def _json(path: Path, what: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path} ({error}); expected {what}") from None
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no JSON object; expected {what}")
    return found
