"""Release a trained model: weights, tokenizer, results and a card, in a folder and on the Hub.

Only what a user of the model needs goes in; optimizer states, checkpoints and pickles stay out.
On the Hub a release is one commit and one tag: whatever stops it, the same command goes on.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator
from rich.console import Console

from code_alpaca.config import StageConfig, Version, Words, write_yaml
from code_alpaca.errors import InputError
from code_alpaca.hub import Repo
from code_alpaca.release import card, space
from code_alpaca.release.facts import Facts, read
from code_alpaca.release.push import CARD, MANIFEST, Target, look, push, seal, version_of
from code_alpaca.release.weight_diff import write_diff
from code_alpaca.versions import README, Say

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
RELEASED = (
    "config.json", "adapter_config.json", "generation_config.json", "tokenizer*",
    "special_tokens_map.json", "chat_template.jinja",
)  # fmt: skip
ADAPTER = ("adapter_model.safetensors", "adapter_config.json")
CURVE = "assets/loss.png"
RECIPE = "training_config.yaml"
# Of the keys of a training: what is for whoever trains again to say.
NOT_IN_RECIPE = {*card.DERIVED, "output_dir", "dry_run", "gpu_memory_gib", "assumed_mfu"}


class Config(StageConfig):
    """The keys of `code-alpaca release`."""

    model_dir: Path = Field(description="model folder that sft wrote")
    results: list[Path] = Field(
        description="results.json of eval, or its folder; several, with commas, of other benchmarks"
    )
    base_results: list[Path] = Field(
        [], description="the same of the base model: the card compares the two"
    )
    output_dir: Path = Field(Path("runs/release"), description="the release folder to write")
    model_version: Version = Field("0.1.0", description="SemVer of this release")
    license: Words = Field("other", description="licence of the weights, by its Hub name")
    base_model: Words | None = Field(
        None, description="Hub id of the base model, where training read it from a folder"
    )
    base_license: Words | None = Field(None, description="its licence, by its Hub name")
    dataset_card: Path | None = Field(None, description="card of the training data, to go along")
    weight_diff: bool = Field(
        False, description="release the difference to the base model, whose licence does not let "
        "you pass its weights on; `code-alpaca recover` adds the two"
    )  # fmt: skip
    base_dir: Path | None = Field(
        None, description="folder of the base model, for weight_diff; none: what sft started from"
    )
    hub_model_id: Words | None = Field(
        None, description="ORG/NAME on the Hub to release it as; none: the folder alone"
    )
    hub_revision: Words = Field("main", description="branch for the commit; made where it is not")
    private: bool = Field(False, description="of repositories that are made now: only for you")
    space: Words | None = Field(
        None, description="ORG/NAME of a Space to release with it: the page of `code-alpaca demo`"
    )
    allow_older: bool = Field(False, description="release a version lower than the last one")
    replace: bool = Field(False, description="release over weights of no release of ours")
    dry_run: bool = Field(False, description="say what would be written and sent, do neither")

    @field_validator("results", "base_results", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | Path) else value


def run(config: Config) -> None:
    """Write the release folder and, where `hub_model_id` is given, release it on the Hub.

    Raises:
        InputError: what `facts.read` and `push` refuse; a base model that is not named or not
            there; an output_dir that is someone else's.
        Stopped: the Hub does not answer.
    """
    console = Console(highlight=False, soft_wrap=True)

    def say(text: str) -> None:
        console.print(f"release   {text}", markup=False)

    facts = read(config.model_dir, config.results, config.base_results, config.base_model)
    _require(config, facts)
    _look(config, facts, say)
    if config.dry_run:
        names = ", ".join(sorted(str(name) for name in _files(config)))
        say(f"would write {config.output_dir}: {README}, run.json, results.json, {RECIPE}, {names}")
        say("dry run: nothing was written or sent")
        return
    folder = _write(config, facts, say)
    say(f"{folder}, version {config.model_version}, with its card")
    if config.hub_model_id:
        _release(config, facts, folder, say)


def _require(config: Config, facts: Facts) -> None:
    """Refuse what cannot be a release, before anything is written."""
    if not config.results:
        raise InputError("results names no results; run code-alpaca eval with --model first")
    if config.dataset_card and not config.dataset_card.is_file():
        raise InputError(f"dataset_card {config.dataset_card} is no file")
    sources = [config.model_dir, *config.results, *config.base_results]
    if config.output_dir.resolve() in {
        place.resolve() for path in sources for place in (path, path.parent)
    } - {Path.cwd().resolve()}:
        raise InputError(f"output_dir {config.output_dir} is where the model comes from")
    if config.output_dir.exists() and not (config.output_dir / MANIFEST).exists():
        raise InputError(
            f"{config.output_dir} exists and is no release of ours; choose another output_dir"
        )
    if facts.base_model is None:
        if config.weight_diff:
            raise InputError("weight_diff: this model was trained from nothing, so it has no base")
    elif not space.is_hub_id(facts.base_model):
        raise InputError(
            f"the base model {facts.base_model} is a folder of yours, which nobody else can look "
            "at; say what it is on the Hub with --base_model ORG/NAME"
        )
    elif config.hub_model_id and not config.base_license:
        raise InputError(
            f"say which licence {facts.base_model} has, as its page does: --base_license NAME"
        )
    if config.weight_diff and facts.adapter == "alone":
        raise InputError("an adapter holds nothing of its base model; leave weight_diff out")
    if config.weight_diff and config.space:
        raise InputError("a Space cannot load the difference of weights; leave space out")
    if config.space and not config.hub_model_id:
        raise InputError("a Space loads its model from the Hub; give hub_model_id as well")


def _look(config: Config, facts: Facts, say: Say) -> None:
    """See by reading alone that the Hub would take it, before the folder is written anew."""
    if not config.hub_model_id:
        return
    version = version_of(config.output_dir, config.model_version)
    say(look(version, _target(config)))
    if facts.base_model and Repo(facts.base_model, "model").head() is None:
        raise InputError(
            f"the Hub has no model {facts.base_model} that you may see; --base_model names another"
        )
    if config.space:
        say(look(version_of(_space_folder(config), config.model_version), _space_target(config)))


def _release(config: Config, facts: Facts, folder: Path, say: Say) -> None:
    """The model on the Hub, then the Space; begun is forgotten only when both are there."""
    version = version_of(folder, config.model_version)
    target = _target(config)
    sha = push(folder, version, target, say)
    begun = [version.under_way]
    if path := target.repo.fetch(README, sha):  # the folder is what is on the Hub, byte for byte
        (folder / README).write_bytes(path.read_bytes())
    say(f"{target.repo.url}/tree/{version.tag} (commit {sha})")
    if config.space:
        place = _write_space(config, facts, sha)
        of_space = _space_target(config)
        made = seal(place, config.model_version)
        push(place, made, of_space, say)
        begun.append(made.under_way)
        say(f"{of_space.repo.url}")
    for mark in begun:
        mark.unlink(missing_ok=True)


def _target(config: Config) -> Target:
    return Target(
        Repo(str(config.hub_model_id), "model", config.hub_revision),
        private=config.private,
        allow_older=config.allow_older,
        replace=config.replace,
    )


def _space_target(config: Config) -> Target:
    return Target(
        Repo(str(config.space), "space"),
        private=config.private,
        allow_older=config.allow_older,
        space_sdk="gradio",
    )


def _space_folder(config: Config) -> Path:
    return config.output_dir.with_name(f"{config.output_dir.name}-space")


def _write_space(config: Config, facts: Facts, sha: str) -> Path:
    folder = _space_folder(config)
    if folder.exists() and not (folder / MANIFEST).exists():
        raise InputError(f"{folder} exists and is no release of ours; move it away")
    shutil.rmtree(folder, ignore_errors=True)
    training = facts.training
    space.write_space(
        folder,
        model=str(config.hub_model_id),
        revision=sha,
        datasets={
            source["name"]: source["revision"] if card.is_commit(source["revision"]) else None
            for source in training["datasets"]
        },
        title=f"Ask {str(config.hub_model_id).partition('/')[2]} for code",
        prompt_style=training["config"].get("prompt_style", "alpaca"),
    )
    return folder


def _files(config: Config) -> dict[Path, Path]:
    """What goes along as it is: path in the release -> path on this disk."""
    found = [*RELEASED, *(() if config.weight_diff else WEIGHTS)]
    files = {Path(path.name): path for pattern in found for path in config.model_dir.glob(pattern)}
    if not config.weight_diff:
        adapter = config.model_dir / "adapter"
        files |= {Path("adapter", name): adapter / name for name in ADAPTER if adapter.is_dir()}
    if (config.model_dir / "loss.png").exists():
        files[Path(CURVE)] = config.model_dir / "loss.png"
    if config.dataset_card:
        files[Path("DATASET_CARD.md")] = config.dataset_card
    return files


def _write(config: Config, facts: Facts, say: Say) -> Path:
    """Everything into a folder beside the target, then one rename."""
    out = config.output_dir
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for name, path in _files(config).items():
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, part / name)
    if config.weight_diff:
        _write_diff(config, facts, part, say)
    for path in (part / "adapter_config.json", part / "adapter" / "adapter_config.json"):
        if path.exists():  # it may name a folder of this machine
            _write_json(path, {
                **json.loads(path.read_text(encoding="utf-8")),
                "base_model_name_or_path": facts.base_model,
            })  # fmt: skip
    _write_json(part / "run.json", facts.training)
    for number, result in enumerate(facts.results.values(), 1):
        _write_json(part / ("results.json" if number == 1 else f"results-{number}.json"), result)
    if facts.comparisons:
        _write_json(part / "comparison.json", facts.comparisons)
    write_yaml(part / RECIPE, _recipe(facts))
    about = card.About(
        version=config.model_version,
        license=config.license,
        base_license=config.base_license,
        hub_id=config.hub_model_id,
        weight_diff=config.weight_diff,
        picture=CURVE if (part / CURVE).exists() else None,
    )
    text = card.render(facts, about)
    (part / CARD).parent.mkdir(exist_ok=True)
    for name in (README, CARD):
        (part / name).write_text(text, encoding="utf-8")
    seal(part, config.model_version)
    shutil.rmtree(out, ignore_errors=True)
    os.rename(part, out)
    return out


def _recipe(facts: Facts) -> dict[str, Any]:
    """The keys of `sft` that make the model again, its data and base pinned."""
    training = facts.training
    recipe = {
        key: value
        for key, value in training["config"].items()
        if key not in NOT_IN_RECIPE and value not in (None, [], {})
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


def _write_diff(config: Config, facts: Facts, part: Path, say: Say) -> None:
    write_diff(
        config.model_dir,
        str(config.base_dir or facts.started_from),
        part,
        base_name=str(facts.base_model),
        base_revision=facts.training.get("base_revision"),
        say=say,
    )


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
