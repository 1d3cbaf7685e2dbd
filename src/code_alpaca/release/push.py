"""Release a model, and a Space to try it in, on the Hub: each with one commit and one tag."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from code_alpaca.core.fs import file_sha256
from code_alpaca.hub import release, release_plan
from code_alpaca.hub.client import HubRepo
from code_alpaca.hub.release_plan import Release, ReleaseKind, ReleasePlan, ReleaseTerms
from code_alpaca.hub.unsafe_files import is_code_or_pickle
from code_alpaca.hub.versions import README, ReleaseVersion, Say, read_json
from code_alpaca.release.folder import ADAPTER, CARD, MANIFEST, RELEASED
from code_alpaca.release.weight_diff import FOLDER

KEY = "release sha256"  # what the description of every release commit starts with
WEIGHTS = (".safetensors", ".gguf", ".h5", ".msgpack", ".onnx")
# What is read with the model, or instead of it, whoever put it there.
LOADED = ("*.safetensors", "*.index.json", "*.model", "vocab.txt", "chat_template.json",
          *RELEASED, *ADAPTER)  # fmt: skip
FOLDERS = (f"{FOLDER}/", "adapter/", "additional_chat_templates/")


class Target(NamedTuple):
    """Where a folder is released, and under which terms."""

    repo: HubRepo
    terms: ReleaseTerms


def version_of(folder: Path, number: str) -> ReleaseVersion:
    """The version that a release folder is, or, before there is one, is to be."""
    path = folder / MANIFEST
    key = f"{KEY} {file_sha256(path)}" if path.exists() else None
    return ReleaseVersion(number, key, folder.parent / f".{folder.name}.begun", "model_version")


def push(folder: Path, version: ReleaseVersion, target: Target, say: Say = print) -> str:
    """Make `folder` a version on the Hub, and return the commit.

    Whatever stops it, the same call resumes; readers see the old version or all of the new one.

    Raises:
        InputError: what `look` refuses; somebody else changed the same files meanwhile.
        Stopped: the Hub does not answer, or the repository is gone.
    """
    repo = target.repo
    ours = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }

    def contents(plan: ReleasePlan) -> Mapping[str, Path | bytes]:
        card = ours[README].read_text(encoding="utf-8")
        if plan.last or README not in kind_of(repo).made_by_hub:
            card = release.merge_card_edits(repo, card, CARD, plan, say)
        size = sum(path.stat().st_size for path in ours.values())
        say(f"uploading {len(ours)} files, {size / 1e6:,.1f} MB, to {repo.url}")
        return {**ours, README: card.encode()}

    card = None if repo.type == "space" else ours[README].read_text(encoding="utf-8")
    planned = Release(repo, version, kind_of(repo), target.terms, ours, card)
    return release.publish_release(planned, contents, say)


def look(
    version: ReleaseVersion,
    target: Target,
    names: Collection[str],
    card: str | None = None,
    key: Callable[[], str] | None = None,
) -> list[str]:
    """What a push would do, found without changing anything, in sentences.

    Args:
        names: paths of the files to be, as far as they are known.
        card: the README.md to be.
        key: makes the key of the release to be, which takes long; asked for only where a commit
            of this version has no tag.

    Raises:
        InputError: there is no token that may write, the Hub does not take the card, the version
            exists or is lower than the last, or files of other people are in the way.
    """
    repo = target.repo
    planned = Release(repo, version, kind_of(repo), target.terms, names, card)
    plan = release_plan.plan_release(planned)
    if plan.untagged and key:
        known = version._replace(key=key())
        plan = release_plan.plan_release(planned._replace(version=known, card=None))
    if not plan.exists:
        return [f"{repo.url} does not exist yet and is made"]
    if plan.before is None:
        return [f"{repo.url} has no version yet", *plan.describe_losses(names)]
    return [f"{repo.url} is at {plan.before.tag}", *plan.describe_losses(names)]


def kind_of(repo: HubRepo) -> ReleaseKind:
    """What tells the files of a release of a model, or of a Space, from those of other people."""
    if repo.type == "space":
        made_by_hub = (".gitattributes", README)
        return ReleaseKind(KEY, _owned, _harmful_in_space, strange=lambda name: False,
                    made_by_hub=made_by_hub)  # fmt: skip
    return ReleaseKind(KEY, _owned, _harmful_in_model, strange=lambda name: False)


def _harmful_in_model(name: str, first: bool) -> bool:
    """Code and pickles, what would be loaded with the model, and at first any weights."""
    if is_code_or_pickle(name) or name.startswith(FOLDERS) or (first and name.endswith(WEIGHTS)):
        return True
    return "/" not in name and any(fnmatch(name, each) for each in LOADED)


def _harmful_in_space(name: str, first: bool) -> bool:
    """Whatever belongs to another app, and later code that app.py could import."""
    return first or is_code_or_pickle(name)


def _owned(repo: HubRepo, sha: str) -> set[str]:
    """The files that the manifest of a release lists."""
    path = repo.fetch(MANIFEST, sha)
    manifest = read_json(path) if path else None
    hashes = manifest.get("sha256") if isinstance(manifest, dict) else None
    return {*(hashes if isinstance(hashes, dict) else ()), README, MANIFEST}
