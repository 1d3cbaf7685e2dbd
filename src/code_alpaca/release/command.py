"""Release a trained model: a folder with its card, and on the Hub one commit and one tag.

After an interruption the same command resumes.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from code_alpaca.core import console, fs
from code_alpaca.core.config import SEMVER
from code_alpaca.core.console import Log
from code_alpaca.core.errors import InputError
from code_alpaca.core.extras import require_package
from code_alpaca.hub.client import HubRepo
from code_alpaca.hub.release_plan import Release
from code_alpaca.hub.versions import README
from code_alpaca.release import space
from code_alpaca.release.config import ReleaseConfig
from code_alpaca.release.facts import ReleaseFacts, read_facts
from code_alpaca.release.folder import (
    SPACE_PATHS,
    find_base,
    refuse_foreign_folder,
    release_paths,
    render_card,
    space_dir,
    write_release_folder,
    write_space_folder,
)
from code_alpaca.release.push import (
    FolderContent,
    describe_release,
    preview_release,
    push_folder,
    read_content,
    refuse_full_weights,
)

# A subset of git's rules for branch names (https://git-scm.com/docs/git-check-ref-format).
BRANCH = r"(?!.*(\.\.|//|\.lock(/|$)))[A-Za-z0-9_][\w./-]*(?<![/.])"


def release_model(config: ReleaseConfig) -> None:
    """Write the release folder, and release it on the Hub if `hub_model_id` is set."""
    output = console.stage("release")
    given = config.output_dir  # for messages
    config = config.model_copy(update={"output_dir": given.resolve()})
    facts = read_facts(config.model_dir, config.results, config.base_results, config.base_model)
    _require_paths(config)
    _require_base_model(config, facts)
    _require_hub_keys(config)
    card = render_card(config, facts)
    if config.hub_model_id:
        _preview(config, facts, card, output.print)
    if config.dry_run:
        paths = ", ".join(sorted(release_paths(config, facts)))
        output.print(f"would write {given}: {paths}")
        output.print("dry run: nothing was written or sent")
        return
    with fs.lock(config.output_dir):  # until it is on the Hub
        folder = write_release_folder(config, facts, card, output.print)
        output.print(f"{given}, version {config.model_version}, with its card")
        if config.hub_model_id:
            _push(config, facts, folder, output.print)


def _require_paths(config: ReleaseConfig) -> None:
    """Refuse missing inputs, and output folders whose content would be lost."""
    if not config.results:
        raise InputError("results is empty; run code-alpaca eval with --model first")
    if config.dataset_card and not config.dataset_card.is_file():
        raise InputError(f"dataset_card {config.dataset_card} is not a file; correct the path")
    inputs = [config.model_dir, *config.results, *config.base_results, config.dataset_card,
              config.base_dir]  # fmt: skip
    for path in (path.resolve() for path in inputs if path):
        folder = path if path.is_dir() else path.parent
        if config.output_dir in (folder, *folder.parents):
            raise InputError(
                f"output_dir {config.output_dir} contains {path}; choose another output_dir"
            )
    for folder in (config.output_dir, *([space_dir(config)] if config.space else ())):
        refuse_foreign_folder(folder)


def _require_base_model(config: ReleaseConfig, facts: ReleaseFacts) -> None:
    """Refuse a base model without a name or license, and a weight difference without a base."""
    if facts.base_model is None:
        if config.weight_diff:
            raise InputError(
                "weight_diff needs a base model, and this model was trained from scratch; leave "
                "weight_diff out"
            )
    elif not space.is_hub_id(facts.base_model):
        raise InputError(
            f"the base model {facts.base_model} is not a Hub id, so users of the release could not "
            "find it; name it with --base_model ORG/NAME"
        )
    elif config.hub_model_id and not config.base_license:
        raise InputError(
            f"the license of {facts.base_model} is not set; copy it from its page: "
            "--base_license NAME"
        )
    if config.weight_diff and facts.adapter == "alone":
        raise InputError("an adapter contains nothing of its base model; leave weight_diff out")
    if config.weight_diff:
        find_base(config, facts)
    if config.weight_diff and config.space:
        raise InputError("a Space cannot load a weight difference; leave space out")


def _require_hub_keys(config: ReleaseConfig) -> None:
    if config.space and not config.hub_model_id:
        raise InputError("a Space loads its model from the Hub; set hub_model_id as well")
    if config.space:
        require_package("gradio")
    branch = config.hub_revision
    if SEMVER.fullmatch(branch.removeprefix("v")) or not re.fullmatch(BRANCH, branch):
        raise InputError(
            f"hub_revision {branch!r} is not a branch name; choose another one (versions are tags)"
        )


def _preview(config: ReleaseConfig, facts: ReleaseFacts, card: str, log: Log) -> None:
    """Log what a release would change on the Hub; refuse what the Hub would refuse."""
    release = _without_key(_describe_model(config))
    release = release._replace(names=release_paths(config, facts), card=card)
    for change in preview_release(release, lambda: _find_content(config, facts, card)):
        log(change)
    if config.weight_diff:
        refuse_full_weights(release.repo)
    if facts.base_model and HubRepo(facts.base_model, "model").head() is None:
        raise InputError(
            f"the Hub has no model {facts.base_model} that you may read; correct --base_model"
        )
    if config.space:
        release = _without_key(_describe_space(config))._replace(names=SPACE_PATHS)
        for change in preview_release(release, lambda: _find_space_content(config, facts)):
            log(change)


def _find_content(config: ReleaseConfig, facts: ReleaseFacts, card: str) -> FolderContent | None:
    """Return the content of the release, from a temporary copy of its folder."""
    with _temporary_copy(config) as copy:
        return read_content(write_release_folder(copy, facts, card, lambda line: None))


def _find_space_content(config: ReleaseConfig, facts: ReleaseFacts) -> FolderContent | None:
    """Return the content of the Space; None if the model that it loads is not released yet."""
    model = _describe_model(config)
    sha = model.repo.refs()[1].get(model.version.tag)
    if sha is None:
        return None
    with _temporary_copy(config) as copy:
        return read_content(write_space_folder(copy, facts, sha))


@contextlib.contextmanager
def _temporary_copy(config: ReleaseConfig) -> Iterator[ReleaseConfig]:
    """Yield the config with a temporary output folder on the same disk."""
    existing = next(folder for folder in config.output_dir.parents if folder.exists())
    with tempfile.TemporaryDirectory(prefix=".code-alpaca-", dir=existing) as parent:
        yield config.model_copy(update={"output_dir": Path(parent) / config.output_dir.name})


def _push(config: ReleaseConfig, facts: ReleaseFacts, folder: Path, log: Log) -> None:
    """Push the model, then the Space; the release is finished when both are on the Hub."""
    releases = [_describe_model(config)]
    repo, version = releases[0].repo, releases[0].version
    sha = push_folder(folder, releases[0], log)
    if path := repo.fetch(README, sha):  # make the folder byte for byte what is on the Hub
        (folder / README).write_bytes(path.read_bytes())
    log(f"{repo.url}/tree/{version.tag} (commit {sha})")
    if config.space:
        space_folder = write_space_folder(config, facts, sha)
        releases.append(_describe_space(config))
        push_folder(space_folder, releases[1], log)
        log(releases[1].repo.url)
    for release in releases:
        release.version.progress_file.unlink(missing_ok=True)


def _describe_model(config: ReleaseConfig) -> Release:
    repo = HubRepo(str(config.hub_model_id), "model", config.hub_revision)
    return describe_release(config.output_dir, config.model_version, repo, config.terms)


def _describe_space(config: ReleaseConfig) -> Release:
    repo = HubRepo(str(config.space), "space")
    terms = config.terms._replace(space_sdk="gradio")
    return describe_release(space_dir(config), config.model_version, repo, terms)


def _without_key(release: Release) -> Release:
    """Return a release without its key, since the existing folder may be of another version."""
    return release._replace(version=release.version._replace(key=None))
