"""Write the release folder atomically, with only the files that a user of the model needs.

Optimizer states, checkpoints and pickles are left out.
"""

from __future__ import annotations

import json
import shutil
from os.path import lexists
from pathlib import Path
from typing import Any

import jinja2

from code_alpaca.core import fs
from code_alpaca.core.config import write_yaml
from code_alpaca.core.console import Log
from code_alpaca.core.errors import InputError, error_message
from code_alpaca.core.key_roles import Role, keys_with
from code_alpaca.core.records import RecordFormatError, ReleaseRecord, RunRecord, TrainingDataset
from code_alpaca.hub.versions import README
from code_alpaca.release import space
from code_alpaca.release.card import is_commit, render_model_card, results_file
from code_alpaca.release.config import ReleaseConfig
from code_alpaca.release.facts import ReleaseFacts
from code_alpaca.release.weight_diff import BaseModelName, find_model_folder, write_weight_diff
from code_alpaca.training.arguments import TRL_KEYS, SFTArguments

MANIFEST = ReleaseRecord.FILE
CARD = "assets/card.md"  # the card as rendered; README.md on the Hub may be edited later
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
MODEL_FILES = (
    "config.json", "adapter_config.json", "generation_config.json", "chat_template.jinja",
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt",
)  # fmt: skip
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")
LOSS_PLOT = "assets/loss.png"
COMPARISON = "comparison.json"
TRAINING_CONFIG = "training_config.yaml"
SPACE_PATHS = (*space.FILES, CARD, MANIFEST)


def render_card(config: ReleaseConfig, facts: ReleaseFacts) -> str:
    """Return the README.md of the release."""
    loss_plot = LOSS_PLOT if Path(LOSS_PLOT) in files_to_copy(config) else None
    try:
        return render_model_card(config, facts, loss_plot)
    except (jinja2.UndefinedError, TypeError, ValueError) as error:
        raise InputError(
            f"run.json or results.json lacks a number of the card ({error_message(error)}); "
            "another version wrote it: train or evaluate again"
        ) from None


def write_release_folder(config: ReleaseConfig, facts: ReleaseFacts, card: str, log: Log) -> Path:
    """Write the release folder with `card` as its README.md."""
    with fs.atomic_folder(config.output_dir, replace=True) as folder:
        for name, path in files_to_copy(config).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)  # without its mode, which may be private
        if config.weight_diff:
            base = BaseModelName(str(facts.base_model), facts.training.base_revision)
            write_weight_diff(config.model_dir, find_base(config, facts), folder, base, log)
        for path in (folder / "adapter_config.json", folder / "adapter/adapter_config.json"):
            if path.exists():
                _pin_adapter_base(path, facts)
        facts.training.save(folder / RunRecord.FILE)
        for number, result in enumerate(facts.results.values(), 1):
            result.save(folder / results_file(number))
        if facts.comparisons:
            fs.write_json(folder / COMPARISON, facts.comparisons)
        write_yaml(folder / TRAINING_CONFIG, _training_config(facts))
        (folder / CARD).parent.mkdir(exist_ok=True)
        for name in (README, CARD):
            (folder / name).write_text(card, encoding="utf-8")
        _write_manifest(folder, config.model_version)
    return config.output_dir


def write_space_folder(config: ReleaseConfig, facts: ReleaseFacts, sha: str) -> Path:
    """Write the folder of a Space that loads the model at the commit `sha`."""
    model = str(config.hub_model_id)
    settings = space.make_settings(
        model,
        revision=sha,
        prompt_style=facts.prompt_style,
        datasets={
            source.name: source.revision if is_commit(source.revision) else None
            for source in facts.training.datasets
        },
        title=f"Ask {config.name} for code",
    )
    with fs.atomic_folder(space_dir(config), replace=True) as folder:
        space.write_space(folder, settings)
        (folder / CARD).parent.mkdir()
        shutil.copyfile(folder / README, folder / CARD)
        _write_manifest(folder, config.model_version)
    return space_dir(config)


def space_dir(config: ReleaseConfig) -> Path:
    """Return the folder of the Space, next to the release."""
    return config.output_dir.with_name(f"{config.output_dir.name}-space")


def files_to_copy(config: ReleaseConfig) -> dict[Path, Path]:
    """Return the files that are released unchanged: path in the release -> local path.

    Links are refused, because they could lead to private files.
    """
    weights = [path for pattern in WEIGHTS for path in config.model_dir.glob(pattern)]
    paths = [config.model_dir / name for name in MODEL_FILES]
    files = {Path(path.name): path for path in paths if lexists(path)}
    adapter = config.model_dir / "adapter"
    if not config.weight_diff:
        files |= {Path(path.name): path for path in weights}
        if lexists(adapter):
            files |= {Path("adapter", name): adapter / name for name in ADAPTER_FILES}
    loss_plot = config.model_dir / "loss.png"
    if lexists(loss_plot):
        files[Path(LOSS_PLOT)] = loss_plot
    for path in (*files.values(), *weights, config.model_dir / RunRecord.FILE):
        for part in (path, path.parent):
            if part.is_symlink() and part != config.model_dir:
                raise InputError(
                    f"{part} is a link to {part.readlink()}, and a release follows no links; "
                    "replace it with the file"
                )
        if not path.is_file():
            raise InputError(f"{path} is not a regular file; move it away, or train again")
    if config.dataset_card:
        files[Path("DATASET_CARD.md")] = config.dataset_card
    return files


def release_paths(config: ReleaseConfig, facts: ReleaseFacts) -> list[str]:
    """Return the paths of a release in its repository, without the shards of a weight diff."""
    results = [results_file(number) for number in range(1, len(facts.results) + 1)]
    comparison = [COMPARISON] if facts.comparisons else []
    written = [README, CARD, MANIFEST, TRAINING_CONFIG, RunRecord.FILE, *results, *comparison]
    return [*written, *(path.as_posix() for path in files_to_copy(config))]


def refuse_foreign_folder(folder: Path) -> None:
    """Refuse to replace a folder that contains anything but a release."""
    if not folder.exists():
        return
    try:
        manifest = ReleaseRecord.load(folder / MANIFEST)
    except InputError as error:
        if (folder / MANIFEST).is_file() and not isinstance(error, RecordFormatError):
            raise  # a newer version wrote it
        raise InputError(
            f"{folder} exists and is not a release of code-alpaca; choose another output_dir"
        ) from None
    expected = {*manifest.sha256, README, MANIFEST}
    for path in sorted(folder.rglob("*")):
        if not path.is_dir() and path.relative_to(folder).as_posix() not in expected:
            raise InputError(
                f"{path} is not part of the release and would be lost; move it away, or choose "
                "another output_dir"
            )


def find_base(config: ReleaseConfig, facts: ReleaseFacts) -> Path:
    """Return the folder of the base model; its weights must be those that training started from.

    The difference to another model could not be undone, or would disclose the tuned weights.
    """
    sha256, commit = facts.training.config.get("base_sha256"), facts.training.base_revision
    if sha256 is None and (config.base_dir or not commit):
        raise InputError(
            "run.json does not record the hash of the base model's weights, so weight_diff reads "
            "them from the Hub at the commit of the training; leave base_dir out, and train with "
            "a current version if run.json has no base_revision"
        )
    folder = find_model_folder(str(config.base_dir or facts.trained_from), commit)
    if sha256 and fs.weights_sha256(folder) != sha256:
        raise InputError(
            f"{folder} does not contain the weights that training started from; set base_dir to "
            "their folder"
        )
    return folder


def _pin_adapter_base(path: Path, facts: ReleaseFacts) -> None:
    """Name the base model on the Hub in an adapter_config.json, which may name a local folder."""
    values = json.loads(path.read_text(encoding="utf-8"))
    values["base_model_name_or_path"] = facts.base_model
    values["revision"] = facts.training.base_revision
    fs.write_json(path, values)


def _write_manifest(folder: Path, version: str) -> None:
    hashes = {
        path.relative_to(folder).as_posix(): fs.file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (README, MANIFEST)
    }
    ReleaseRecord(version=version, sha256=hashes).save(folder / MANIFEST)


def _training_config(facts: ReleaseFacts) -> dict[str, Any]:
    """Return the keys of `sft` that reproduce the model, with data and base model pinned."""
    training = facts.training
    left_out = keys_with(Role.DERIVED, TRL_KEYS) | keys_with(Role.LOCAL, SFTArguments, TRL_KEYS)
    config = {
        key: value
        for key, value in training.config.items()
        if key not in left_out and value not in (None, [], {})
    }
    first = training.datasets[0]
    if config.get("dataset_mixture"):
        config["dataset_mixture"] = [
            {
                "name": source.name,
                "config": source.config,
                **({"revision": source.revision} if is_commit(source.revision) else {}),
                **_how_read(source),
                "weight": source.weight,
            }
            for source in training.datasets
        ]
    elif is_commit(first.revision):
        config["dataset_revision"] = first.revision
    if facts.base_model:
        config["model_name_or_path"] = facts.base_model
        if training.base_revision:
            config["model_revision"] = training.base_revision
    return config


def _how_read(source: TrainingDataset) -> dict[str, Any]:
    """Return the keys that select and read the rows of a dataset, without defaults."""
    fields, keys = TrainingDataset.model_fields, ("split", "column_map", "first_turn")
    return {
        key: getattr(source, key) for key in keys if getattr(source, key) != fields[key].default
    }
