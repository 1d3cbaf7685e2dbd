"""Release a model, and a Space to try it in, on the Hub: each with one commit and one tag."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

from code_alpaca.core.console import Log, plural
from code_alpaca.core.errors import InputError
from code_alpaca.core.fs import file_sha256
from code_alpaca.core.records import RecordFormatError, ReleaseRecord
from code_alpaca.hub import release as hub_release
from code_alpaca.hub.client import HubRepo
from code_alpaca.hub.release_plan import (
    Release,
    ReleaseKind,
    ReleasePlan,
    ReleaseTerms,
    VersionExistsError,
    is_code_or_pickle,
    plan_release,
    summarize_names,
)
from code_alpaca.hub.versions import README, ReleaseVersion, read_json
from code_alpaca.release.folder import ADAPTER_FILES, CARD, MANIFEST, MODEL_FILES
from code_alpaca.release.weight_diff import DIFF_FOLDER

KEY = "release sha256"  # prefix of the description of every release commit
WEIGHT_SUFFIXES = (".safetensors", ".gguf", ".h5", ".msgpack", ".onnx")
# Files that are loaded with the model or instead of it, no matter who added them.
LOADED = ("*.safetensors", "*.index.json", "*.model", "vocab.txt", "chat_template.json",
          *MODEL_FILES, *ADAPTER_FILES)  # fmt: skip
LOADED_FOLDERS = (f"{DIFF_FOLDER}/", "adapter/", "additional_chat_templates/")


class FolderContent(NamedTuple):
    """The content of a release folder."""

    key: str  # of its version on the Hub
    sha256: Mapping[str, str]  # of its files


def describe_release(folder: Path, number: str, repo: HubRepo, terms: ReleaseTerms) -> Release:
    """Return the release of a folder; the key of its version is None until the folder exists."""
    content = read_content(folder)
    key = content.key if content else None
    version = ReleaseVersion(number, key, folder.parent / f".{folder.name}.begun", "model_version")
    return Release(repo, version, release_kind(repo), terms)


def read_content(folder: Path) -> FolderContent | None:
    """Return what the manifest of a release folder lists; None without a manifest."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    record = ReleaseRecord.parse(read_json(path), str(path))
    return FolderContent(f"{KEY} {file_sha256(path)}", record.sha256)


def push_folder(folder: Path, release: Release, log: Log) -> str:
    """Release `folder` on the Hub, and return the commit.

    Raises:
        InputError: what `plan_release` refuses, or another user changed the same files.
        Stopped: the Hub does not respond, or the repository was deleted.
    """
    repo = release.repo
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = {path.relative_to(folder).as_posix(): path for path in paths}
    rendered = files[README].read_text(encoding="utf-8")

    def contents(plan: ReleasePlan) -> Mapping[str, Path | bytes]:
        card = rendered
        if plan.last or README not in release.kind.made_by_hub:
            card = hub_release.merge_card_edits(repo, card, CARD, plan, log)
        size = sum(path.stat().st_size for path in files.values())
        log(f"uploading {plural(len(files), 'file')}, {size / 1e6:,.1f} MB, to {repo.url}")
        return {**files, README: card.encode()}

    card = None if repo.type == "space" else rendered
    return hub_release.publish_release(release._replace(names=files, card=card), contents, log)


def preview_release(
    release: Release, find_content: Callable[[], FolderContent | None]
) -> list[str]:
    """Return what a push would change on the Hub, one sentence each, without changing anything.

    `find_content` is slow, so it is called only if the Hub has a commit of this version.

    Raises:
        VersionExistsError: the version is released with other files.
        InputError: anything else that `plan_release` refuses.
    """
    url = release.repo.url
    try:
        plan = plan_release(release)
        exists = plan.untagged
    except VersionExistsError:
        exists = True
    if exists and (content := find_content()):
        plan = _plan_content(release, content)
    elif exists:
        plan = plan_release(release)
    if plan.is_complete:
        return [f"{url} has {release.version.tag} with these very files"]
    if not plan.exists:
        return [f"{url} does not exist yet and would be created"]
    first = f"{url} is at {plan.before.tag}" if plan.before else f"{url} has no version yet"
    return [first, *plan.describe_losses(release.names or ())]


def _plan_content(release: Release, content: FolderContent) -> ReleasePlan:
    version = release.version._replace(key=content.key)
    try:
        return plan_release(release._replace(version=version, card=None))
    except VersionExistsError as error:
        record = _released_record(release.repo, error.sha)
        if record is None:
            raise
        names = {*record.sha256, *content.sha256}
        other = sorted(n for n in names if record.sha256.get(n) != content.sha256.get(n))
        raise error.explained(f"other files: {summarize_names(other)}") from None


def release_kind(repo: HubRepo) -> ReleaseKind:
    """Return which files of a model or Space repository belong to a release."""
    is_space = repo.type == "space"
    return ReleaseKind(
        KEY,
        _released_files,
        # In a Space, `first` means files of another app; app.py could import the others.
        (lambda name, first: first or is_code_or_pickle(name)) if is_space else _is_harmful,
        strange=lambda name: False,
        made_by_hub=(".gitattributes", README) if is_space else (".gitattributes",),
    )


def _is_harmful(name: str, first: bool) -> bool:
    """Return whether a foreign file is code, a pickle, or would be loaded with the model."""
    return (
        is_code_or_pickle(name)
        or name.startswith(LOADED_FOLDERS)
        or (first and name.endswith(WEIGHT_SUFFIXES))
        or ("/" not in name and any(fnmatch(name, pattern) for pattern in LOADED))
    )


def _released_files(repo: HubRepo, sha: str) -> set[str]:
    """Return the files that the release.json of a release commit lists."""
    record = _released_record(repo, sha)
    return {*(record.sha256 if record else ()), README, MANIFEST}


def _released_record(repo: HubRepo, sha: str) -> ReleaseRecord | None:
    path = repo.fetch(MANIFEST, sha)
    try:
        return ReleaseRecord.parse(path and read_json(path), f"{MANIFEST} in {repo.url}")
    except RecordFormatError:
        return None


def refuse_full_weights(repo: HubRepo) -> None:
    """Refuse to release a weight difference next to full weights."""
    head = repo.head()
    names = repo.files(head) if head else ()
    if any(name.endswith(".safetensors") and "/" not in name for name in names):
        raise InputError(
            f"{repo.url} contains full weights, so releasing a difference there protects nothing; "
            "set another hub_model_id"
        )
