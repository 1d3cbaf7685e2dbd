"""Release a trained model: weights, tokenizer, results and a card, in a folder and on the Hub.

Only what a user of the model needs goes in; optimizer states, checkpoints and pickles stay out.
On the Hub a release is one commit and one tag: whatever stops it, the same command goes on.
"""

from __future__ import annotations

import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jinja2
from pydantic import Field, field_validator
from rich.console import Console

from code_alpaca.config import SEMVER, StageConfig, Version, Words, write_yaml
from code_alpaca.errors import InputError, one_line
from code_alpaca.hub import Repo
from code_alpaca.release import card, space
from code_alpaca.release.facts import Facts, read
from code_alpaca.release.push import (
    CARD,
    Target,
    look,
    push,
    replace,
    require_ours,
    seal,
    version_of,
)
from code_alpaca.release.weight_diff import folder_of, write_diff
from code_alpaca.versions import README, Say
from code_alpaca.weights import weights_sha256

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
RELEASED = (
    "config.json", "adapter_config.json", "generation_config.json", "chat_template.jinja",
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt",
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
        return [value] if isinstance(value, str | Path) else value or []


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

    config = config.model_copy(update={"output_dir": config.output_dir.resolve()})
    facts = read(config.model_dir, config.results, config.base_results, config.base_model)
    _require(config, facts)
    text = _card(config, facts)
    _look(config, facts, say)
    if config.dry_run:
        names = ", ".join(sorted(str(name) for name in _files(config)))
        say(f"would write {config.output_dir}: {README}, run.json, results.json, {RECIPE}, {names}")
        say("dry run: nothing was written or sent")
        return
    folder = _write(config, facts, text, say)
    say(f"{folder}, version {config.model_version}, with its card")
    if config.hub_model_id:
        _release(config, facts, folder, say)


def _require(config: Config, facts: Facts) -> None:
    """Refuse what cannot be a release, before anything is written."""
    if not config.results:
        raise InputError("results names no results; run code-alpaca eval with --model first")
    if config.dataset_card and not config.dataset_card.is_file():
        raise InputError(f"dataset_card {config.dataset_card} is no file")
    sources = [config.model_dir, *config.results, *config.base_results, config.dataset_card,
               config.base_dir]  # fmt: skip
    for path in (source.resolve() for source in sources if source):
        folder = path if path.is_dir() else path.parent
        if config.output_dir in (folder, *folder.parents):
            raise InputError(f"output_dir {config.output_dir} is where {path} is; choose another")
    for folder in (config.output_dir, *([_space_folder(config)] if config.space else ())):
        require_ours(folder)
    if facts.base_model is None:
        if config.weight_diff:
            raise InputError("weight_diff: this model was trained from nothing, so it has no base")
    elif not space.is_hub_id(facts.base_model):
        raise InputError(
            f"the base model {facts.base_model} is no name on the Hub, where others could look at "
            "it; say what it is there with --base_model ORG/NAME"
        )
    elif config.hub_model_id and not config.base_license:
        raise InputError(
            f"say which licence {facts.base_model} has, as its page does: --base_license NAME"
        )
    if config.weight_diff and facts.adapter == "alone":
        raise InputError("an adapter holds nothing of its base model; leave weight_diff out")
    if config.weight_diff:
        _base_folder(config, facts)
    if config.weight_diff and config.space:
        raise InputError("a Space cannot load the difference of weights; leave space out")
    if config.space and not config.hub_model_id:
        raise InputError("a Space loads its model from the Hub; give hub_model_id as well")
    if config.space and find_spec("gradio") is None:
        raise InputError(space.NO_GRADIO)
    revision = config.hub_revision
    if SEMVER.fullmatch(revision.removeprefix("v")) or not re.fullmatch(r"[\w./-]+", revision):
        raise InputError(
            f"hub_revision {revision!r} is no name for a branch; versions are its tags"
        )


def _look(config: Config, facts: Facts, say: Say) -> None:
    """See by reading alone that the Hub would take it, before the folder is written anew."""
    if not config.hub_model_id:
        return
    version, target = version_of(config.output_dir, config.model_version), _target(config)
    say(look(version, target))
    head = target.repo.head() if config.weight_diff else None
    if head and any(name.endswith(".safetensors") and "/" not in name
                    for name in target.repo.files(head)):  # fmt: skip
        raise InputError(
            f"{target.repo.url} holds whole weights, beside which a difference keeps nothing back; "
            "give another hub_model_id"
        )
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
        made = version_of(place, config.model_version)
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
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    training = facts.training
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
    seal(part, config.model_version)
    replace(folder, part)
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


def _card(config: Config, facts: Facts) -> str:
    about = card.About(
        version=config.model_version,
        license=config.license,
        base_license=config.base_license,
        hub_id=config.hub_model_id,
        weight_diff=config.weight_diff,
        picture=CURVE if Path(CURVE) in _files(config) else None,
    )
    try:
        return card.render(facts, about)
    except (jinja2.UndefinedError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"run.json or results.json lack what the card tells ({one_line(error)}); they are of "
            "another version: train or evaluate again"
        ) from None


def _write(config: Config, facts: Facts, text: str, say: Say) -> Path:
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
                "revision": facts.training.get("base_revision"),
            })  # fmt: skip
    _write_json(part / "run.json", facts.training)
    for number, result in enumerate(facts.results.values(), 1):
        _write_json(part / ("results.json" if number == 1 else f"results-{number}.json"), result)
    if facts.comparisons:
        _write_json(part / "comparison.json", facts.comparisons)
    write_yaml(part / RECIPE, _recipe(facts))
    (part / CARD).parent.mkdir(exist_ok=True)
    for name in (README, CARD):
        (part / name).write_text(text, encoding="utf-8")
    seal(part, config.model_version)
    replace(out, part)
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


def _base_folder(config: Config, facts: Facts) -> Path:
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


def _write_diff(config: Config, facts: Facts, part: Path, say: Say) -> None:
    write_diff(
        config.model_dir,
        str(_base_folder(config, facts)),
        part,
        base_name=str(facts.base_model),
        base_revision=facts.training.get("base_revision"),
        say=say,
    )


def _write_json(path: Path, values: dict[str, Any]) -> None:
    text = json.dumps(values, indent=2, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
