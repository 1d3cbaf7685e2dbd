"""A release folder: what goes into it, and how it comes to stand on the disk at once or not at all.

Only what a user of the model needs goes in; optimizer states, checkpoints and pickles stay out.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jinja2

from code_alpaca.core import fs
from code_alpaca.core.config import write_yaml
from code_alpaca.core.errors import InputError, error_message
from code_alpaca.core.fs import file_sha256, weights_sha256
from code_alpaca.core.key_roles import Role, keys_with
from code_alpaca.hub.versions import README, Say, read_json
from code_alpaca.release import card, space
from code_alpaca.release.config import ReleaseConfig
from code_alpaca.release.facts import Facts
from code_alpaca.release.weight_diff import folder_of, write_diff
from code_alpaca.training.arguments import SFTArguments
from code_alpaca.training.trl_keys import TRL_KEYS

MANIFEST = "release.json"  # version, and the hash of every other file but the card
CARD = "assets/card.md"  # the card as it was made, by which edits on the Hub are told apart
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
RELEASED = (
    "config.json", "adapter_config.json", "generation_config.json", "chat_template.jinja",
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt",
)  # fmt: skip
ADAPTER = ("adapter_model.safetensors", "adapter_config.json")
CURVE = "assets/loss.png"
SPACE_FILES = ("app.py", "settings.json", "requirements.txt", README, CARD, MANIFEST)
RECIPE = "training_config.yaml"


def card_of(config: ReleaseConfig, facts: Facts) -> str:
    """The README.md of the release, in memory.

    Raises:
        InputError: the files lack what the card tells.
    """
    about = card.About(
        version=config.model_version,
        license=config.license,
        base_license=config.base_license,
        hub_id=config.hub_model_id,
        weight_diff=config.weight_diff,
        picture=CURVE if Path(CURVE) in files(config) else None,
    )
    try:
        return card.render(facts, about)
    except (jinja2.UndefinedError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"run.json or results.json lack what the card tells ({error_message(error)}); they are "
            "of another version: train or evaluate again"
        ) from None


def write(config: ReleaseConfig, facts: Facts, text: str, say: Say) -> Path:
    """Make the release folder, with `text` as its card."""
    with fs.atomic_folder(config.output_dir, replace=True) as part:
        for name, path in files(config).items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, part / name)  # without its mode, which may be for one user
        if config.weight_diff:
            _write_diff(config, facts, part, say)
        for path in (part / "adapter_config.json", part / "adapter" / "adapter_config.json"):
            if path.exists():  # it may name a folder of this machine
                fs.write_json(path, {
                    **json.loads(path.read_text(encoding="utf-8")),
                    "base_model_name_or_path": facts.base_model,
                    "revision": facts.training.get("base_revision"),
                })  # fmt: skip
        fs.write_json(part / "run.json", facts.training)
        for number, result in enumerate(facts.results.values(), 1):
            fs.write_json(part / card.results_name(number), result)
        if facts.comparisons:
            fs.write_json(part / "comparison.json", facts.comparisons)
        write_yaml(part / RECIPE, _recipe(facts))
        (part / CARD).parent.mkdir(exist_ok=True)
        for name in (README, CARD):
            (part / name).write_text(text, encoding="utf-8")
        _seal(part, config.model_version)
    return config.output_dir


def write_space(config: ReleaseConfig, facts: Facts, sha: str) -> Path:
    """Make the folder of the Space that loads the model at the commit `sha`."""
    training = facts.training
    with fs.atomic_folder(space_folder(config), replace=True) as part:
        space.write_space(
            part,
            model=str(config.hub_model_id),
            revision=sha,
            datasets={
                source["name"]: source["revision"] if card.is_commit(source["revision"]) else None
                for source in training["datasets"]
            },
            title=f"Ask {str(config.hub_model_id).partition('/')[2]} for code",
            prompt_style=training["config"].get("prompt_style", "alpaca"),
        )
        (part / CARD).parent.mkdir()
        shutil.copyfile(part / README, part / CARD)
        _seal(part, config.model_version)
    return space_folder(config)


def space_folder(config: ReleaseConfig) -> Path:
    """Where the Space is made: beside the release."""
    return config.output_dir.with_name(f"{config.output_dir.name}-space")


def files(config: ReleaseConfig) -> dict[Path, Path]:
    """What goes along as it is: path in the release -> path on this disk.

    Raises:
        InputError: one of them is a link, which could lead to a private file, or no file at all.
    """
    found = [*RELEASED, *(() if config.weight_diff else WEIGHTS)]
    files = {Path(path.name): path for pattern in found for path in config.model_dir.glob(pattern)}
    adapter = config.model_dir / "adapter"
    if not config.weight_diff and (adapter.is_dir() or adapter.is_symlink()):
        files |= {Path("adapter", name): adapter / name for name in ADAPTER}
    curve = config.model_dir / "loss.png"
    if curve.exists() or curve.is_symlink():
        files[Path(CURVE)] = curve
    weights = [path for pattern in WEIGHTS for path in config.model_dir.glob(pattern)]
    for path in (*files.values(), *weights, config.model_dir / "run.json"):
        for each in (path, path.parent):
            if each.is_symlink() and each != config.model_dir:
                raise InputError(
                    f"{each} is a link to {each.readlink()}, and a release follows none; put the "
                    "file itself there"
                )
        if not path.is_file():
            raise InputError(f"{path} is no regular file; move it away, or train again")
    if config.dataset_card:
        files[Path("DATASET_CARD.md")] = config.dataset_card
    return files


def names(config: ReleaseConfig, facts: Facts) -> list[str]:
    """The paths of a release to be; of a difference of weights, not those of its shards."""
    results = [card.results_name(number) for number in range(1, len(facts.results) + 1)]
    more = ["comparison.json"] if facts.comparisons else []
    made = [README, CARD, MANIFEST, RECIPE, "run.json", *results, *more]
    return [*made, *(path.as_posix() for path in files(config))]


def require_ours(folder: Path) -> None:
    """Refuse a folder that holds anything but a release of ours, before it is made anew.

    Raises:
        InputError: naming what is in the way.
    """
    if not folder.exists():
        return
    manifest = read_json(folder / MANIFEST)
    hashes = manifest.get("sha256") if isinstance(manifest, dict) else None
    if not isinstance(hashes, dict):
        raise InputError(
            f"{folder} exists and is no release of code-alpaca; choose another output_dir"
        )
    known = {*hashes, README, MANIFEST}
    for path in sorted(folder.rglob("*")):
        if not path.is_dir() and path.relative_to(folder).as_posix() not in known:
            raise InputError(
                f"{path} is of no release, and would be lost; move it away, or choose another "
                "output_dir"
            )


def base_folder(config: ReleaseConfig, facts: Facts) -> Path:
    """The base model on this disk, which must be the very one of the training.

    Of another one the difference would recover nothing, or hold the tuned weights themselves.
    """
    known, commit = facts.training["config"].get("base_sha256"), facts.training.get("base_revision")
    if known is None and (config.base_dir or not commit):
        raise InputError(
            "the training did not record the hash of its base model's weights, so weight_diff "
            "reads them from the Hub at the commit of the training; leave base_dir out, and train "
            "with a current version if run.json has no base_revision"
        )
    folder = folder_of(str(config.base_dir or facts.started_from), commit)
    if known and weights_sha256(str(folder)) != known:
        raise InputError(
            f"{folder} does not hold the weights that training began from; give their folder as "
            "base_dir"
        )
    return folder


def _seal(folder: Path, number: str) -> None:
    """Note the hash of every file, which is also what names the release on the Hub."""
    hashes = {
        path.relative_to(folder).as_posix(): file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (README, MANIFEST)
    }
    fs.write_json(folder / MANIFEST, {"version": number, "sha256": hashes})


def _recipe(facts: Facts) -> dict[str, Any]:
    """The keys of `sft` that make the model again, its data and base pinned."""
    training = facts.training
    left_out = keys_with(Role.DERIVED, TRL_KEYS) | keys_with(Role.LOCAL, SFTArguments, TRL_KEYS)
    recipe = {
        key: value
        for key, value in training["config"].items()
        if key not in left_out and value not in (None, [], {})
    }
    sources = [
        {key: source[key] for key in ("name", "config", "revision", "weight")}
        for source in training["datasets"]
    ]
    for source in sources:
        if not card.is_commit(source["revision"]):
            del source["revision"]  # of a folder or file, which has one alone
    if recipe.get("dataset_mixture"):
        recipe["dataset_mixture"] = sources
    elif "revision" in sources[0]:
        recipe["dataset_revision"] = sources[0]["revision"]
    if facts.base_model:
        recipe["model_name_or_path"] = facts.base_model
        if training.get("base_revision"):
            recipe["model_revision"] = training["base_revision"]
    return recipe


def _write_diff(config: ReleaseConfig, facts: Facts, part: Path, say: Say) -> None:
    write_diff(
        config.model_dir,
        str(base_folder(config, facts)),
        part,
        base_name=str(facts.base_model),
        base_revision=facts.training.get("base_revision"),
        say=say,
    )
