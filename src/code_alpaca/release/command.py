"""Release a trained model: a folder with its card, and on the Hub one commit and one tag.

Whatever stops it, the same command resumes.
"""

from __future__ import annotations

import re
import tempfile
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from code_alpaca.core import fs
from code_alpaca.core.config import SEMVER
from code_alpaca.core.errors import InputError
from code_alpaca.hub.client import HubRepo
from code_alpaca.hub.release_plan import ReleaseTerms
from code_alpaca.hub.versions import README, Say
from code_alpaca.release import space
from code_alpaca.release.config import ReleaseConfig
from code_alpaca.release.facts import Facts, read
from code_alpaca.release.folder import (
    SPACE_FILES,
    base_folder,
    card_of,
    names,
    require_ours,
    space_folder,
    write,
    write_space,
)
from code_alpaca.release.push import Target, look, push, version_of

# Of git's rules for names (https://git-scm.com/docs/git-check-ref-format), the plain ones.
BRANCH = r"(?!.*(\.\.|//|\.lock(/|$)))[A-Za-z0-9_][\w./-]*(?<![/.])"


def release_model(config: ReleaseConfig) -> None:
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
    text = card_of(config, facts)
    _look(config, facts, text, say)
    if config.dry_run:
        say(f"would write {config.output_dir}: {', '.join(sorted(names(config, facts)))}")
        say("dry run: nothing was written or sent")
        return
    with fs.lock(config.output_dir):  # until it is on the Hub: what is sent is what was made
        folder = write(config, facts, text, say)
        say(f"{folder}, version {config.model_version}, with its card")
        if config.hub_model_id:
            _release(config, facts, folder, say)


def _require(config: ReleaseConfig, facts: Facts) -> None:
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
    for folder in (config.output_dir, *([space_folder(config)] if config.space else ())):
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
        base_folder(config, facts)
    if config.weight_diff and config.space:
        raise InputError("a Space cannot load the difference of weights; leave space out")
    if config.space and not config.hub_model_id:
        raise InputError("a Space loads its model from the Hub; give hub_model_id as well")
    if config.space and find_spec("gradio") is None:
        raise InputError(space.NO_GRADIO)
    revision = config.hub_revision
    if SEMVER.fullmatch(revision.removeprefix("v")) or not re.fullmatch(BRANCH, revision):
        raise InputError(
            f"hub_revision {revision!r} is no name for a branch; versions are its tags"
        )


def _look(config: ReleaseConfig, facts: Facts, text: str, say: Say) -> None:
    """See by reading alone that the Hub would take it, before the folder is written anew."""
    if not config.hub_model_id:
        return
    version, target = version_of(config.output_dir, config.model_version), _target(config)
    # The folder is of the release before, or of this one and about to be made again: no key yet.
    paths = names(config, facts)
    for sentence in look(
        version._replace(key=None), target, paths, text, lambda: _key(config, facts, text)
    ):
        say(sentence)
    head = target.repo.head() if config.weight_diff else None
    if head and any(name.endswith(".safetensors") and "/" not in name
                    for name in target.repo.files(head)):  # fmt: skip
        raise InputError(
            f"{target.repo.url} holds whole weights, beside which a difference keeps nothing back; "
            "give another hub_model_id"
        )
    if facts.base_model and HubRepo(facts.base_model, "model").head() is None:
        raise InputError(
            f"the Hub has no model {facts.base_model} that you may see; --base_model names another"
        )
    if config.space:
        place = version_of(space_folder(config), config.model_version)._replace(key=None)
        for sentence in look(place, _space_target(config), SPACE_FILES):
            say(sentence)


def _key(config: ReleaseConfig, facts: Facts, text: str) -> str:
    """The key that the release will have, from a copy of it that is deleted again."""
    there = next(folder for folder in config.output_dir.parents if folder.exists())
    with tempfile.TemporaryDirectory(prefix=".code-alpaca-", dir=there) as at:
        folder = Path(at) / config.output_dir.name
        write(config.model_copy(update={"output_dir": folder}), facts, text, lambda text: None)
        return str(version_of(folder, config.model_version).key)


def _release(config: ReleaseConfig, facts: Facts, folder: Path, say: Say) -> None:
    """The model on the Hub, then the Space; begun is forgotten only when both are there."""
    version = version_of(folder, config.model_version)
    target = _target(config)
    sha = push(folder, version, target, say)
    begun = [version.progress_file]
    if path := target.repo.fetch(README, sha):  # the folder is what is on the Hub, byte for byte
        (folder / README).write_bytes(path.read_bytes())
    say(f"{target.repo.url}/tree/{version.tag} (commit {sha})")
    if config.space:
        place = write_space(config, facts, sha)
        of_space = _space_target(config)
        made = version_of(place, config.model_version)
        push(place, made, of_space, say)
        begun.append(made.progress_file)
        say(f"{of_space.repo.url}")
    for mark in begun:
        mark.unlink(missing_ok=True)


def _target(config: ReleaseConfig) -> Target:
    return Target(
        HubRepo(str(config.hub_model_id), "model", config.hub_revision),
        ReleaseTerms(config.private, config.allow_older, config.replace),
    )


def _space_target(config: ReleaseConfig) -> Target:
    return Target(
        HubRepo(str(config.space), "space"),
        ReleaseTerms(config.private, config.allow_older, config.replace, space_sdk="gradio"),
    )
