"""Release a dataset folder on the Hub: one commit, one tag, compared with the version before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from code_alpaca.core.errors import InputError
from code_alpaca.dataset.contents import (
    CHANGELOG,
    checked,
    content_key,
    kind,
    names,
    released_manifest,
)
from code_alpaca.dataset.difference import Difference, difference, entry
from code_alpaca.dataset.manifest import CARD, MANIFEST, manifest_of
from code_alpaca.hub import release, release_plan
from code_alpaca.hub.client import HubRepo
from code_alpaca.hub.release_plan import ReleasePlan, ReleaseTerms
from code_alpaca.hub.versions import README, ReleaseVersion, Say, read_text

UNDER_WAY = ".publish.json"  # beside the folder: which release was begun and not finished


def push(
    folder: Path,
    repo_id: str,
    *,
    private: bool = False,
    allow_older: bool = False,
    replace: bool = False,
    say: Say = print,
) -> str:
    """Make `folder` the version of its manifest on the Hub, and return the commit.

    Whatever stops it, the same call resumes; readers see the old version or all of the new one.

    Args:
        private: of a repository that is made now.
        allow_older: accept a version lower than the last one.
        replace: accept a repository with other columns, or with files of no release.

    Raises:
        InputError: what `preview` refuses; somebody else changed the same files meanwhile.
        Stopped: the Hub does not answer, or the repository is gone.
    """
    manifest = checked(folder)
    version = _version(folder, manifest["version"], content_key(folder, manifest))
    repo = HubRepo(repo_id)

    def contents(plan: ReleasePlan) -> Mapping[str, Path | bytes]:
        files = _files(folder, manifest, repo, plan, replace, say)
        say(f"publish   uploading {len(manifest['sha256'])} shards to {repo.url}")
        return files

    sha = release.publish_release(
        repo,
        version,
        kind(),
        ReleaseTerms(private, allow_older, replace),
        contents,
        names=names(folder, manifest),
        card=_card(folder),
        say=lambda text: say(f"publish   {text}"),
    )
    _take_over(folder, repo, sha)
    version.under_way.unlink(missing_ok=True)
    say(f"publish   {repo.url}/tree/{version.tag} (commit {sha})")
    say(f'publish   load_dataset("{repo_id}", "default", revision="{version.tag}")')
    return sha


def look(
    repo_id: str,
    number: str | None,
    run_dir: Path,
    *,
    private: bool,
    allow_older: bool = False,
    replace: bool = False,
) -> None:
    """Refuse, before the folder is made, what `push` would refuse whatever the rows are.

    Args:
        number: the version; None where it is the one that the folder has.
    """
    repo, terms = HubRepo(repo_id), ReleaseTerms(private, allow_older, replace)
    if number is None:
        before = manifest_of(run_dir / "dataset")
        number = before["version"] if before else None
    if number is None:
        release_plan.check_access(repo, terms)
    else:
        release_plan.plan_release(repo, _version(run_dir / "dataset", number), kind(), terms)


def prepare(repo_id: str, number: str, run_dir: Path, *, private: bool) -> None:
    """Make the repository, after `look` found that a release of `run_dir` may go there."""
    version, terms = _version(run_dir / "dataset", number), ReleaseTerms(private)
    release.prepare_repo(HubRepo(repo_id), version, kind(), terms)


def preview(
    folder: Path,
    repo_id: str,
    run_dir: Path,
    *,
    private: bool = False,
    allow_older: bool = False,
    replace: bool = False,
) -> list[str]:
    """What a push would change, found without changing anything, in sentences.

    Args:
        folder: the dataset as it would be.
        run_dir: where it would be written.

    Raises:
        InputError: a file of the folder is not what the manifest says; no token that may write;
            the version exists, or is lower than the last; files of other people, or other
            columns, are in the way.
        Stopped: the Hub does not answer.
    """
    manifest = checked(folder)
    repo = HubRepo(repo_id)
    key = content_key(folder, manifest)
    version = _version(run_dir / "dataset", manifest["version"], key)
    terms, paths = ReleaseTerms(private, allow_older, replace), names(folder, manifest)
    plan = release_plan.plan_release(repo, version, kind(), terms, names=paths, card=_card(folder))
    rows = f"{manifest['counts']['default']:,} rows added"
    if not plan.exists:
        return [f"{repo.url} does not exist yet; {rows}"]
    if plan.done:
        return [f"{repo.url} holds this very version as commit {plan.done[:7]}; its tag is missing"]
    sentences: list[str] = []
    _files(folder, manifest, repo, plan, replace, lambda text: sentences.append(text))
    if plan.before is None:
        sentences.append(f"{repo.url} has no version yet; {rows}")
    return [text.removeprefix("publish   ") for text in sentences] + plan.changes(paths)


def preupload(folder: Path, repo_id: str, uploaded: set[str]) -> None:
    """Upload the shards of a folder that will not change any more, and note them by hash.

    Only a full shard is final: the last one of each config grows with the next rows.
    """
    manifest = manifest_of(folder) or {"sha256": {}}
    final = []
    for name, sha in manifest["sha256"].items():
        number, _, total = Path(name).stem.removeprefix("train-").partition("-of-")
        if number.isdigit() and int(number) < int(total) - 1 and sha not in uploaded:
            final.append((name, folder / name))
            uploaded.add(sha)
    if final:
        HubRepo(repo_id).preupload(final)


def _version(folder: Path, number: str, key: str | None = None) -> ReleaseVersion:
    return ReleaseVersion(number, key, folder.parent / UNDER_WAY, "dataset_version")


def _card(folder: Path) -> str:
    return (folder / README).read_text(encoding="utf-8")


def _files(
    folder: Path,
    manifest: dict[str, Any],
    repo: HubRepo,
    plan: ReleasePlan,
    replace: bool,
    say: Say,
) -> dict[str, Path | bytes]:
    """Everything that the commit puts there, by its path in the repository.

    Raises:
        InputError: the release before has other columns, and they are not to be replaced.
    """
    before = released_manifest(repo, plan.before.sha) if plan.before else {}
    if not replace:
        _check_columns(repo, before, manifest)
    files: dict[str, Path | bytes] = {
        name: folder / name for name in names(folder, manifest) if name not in (README, CHANGELOG)
    }
    found = None
    if plan.before:
        found = _difference(folder, manifest, repo, plan.before.sha, before)
        say(f"publish   since {plan.before.tag}: {found}")
    changelog = repo.fetch(CHANGELOG, plan.head) if plan.head else None
    text = read_text(changelog) if changelog else None
    since = plan.before.tag.removeprefix("v") if plan.before else None
    files[CHANGELOG] = entry(manifest, since, found, text).encode()
    card = release.merge_card_edits(
        repo, _card(folder), CARD.as_posix(), plan, lambda text: say(f"publish   {text}")
    )
    files[README] = card.encode()
    return files


def _check_columns(repo: HubRepo, before: dict[str, Any], manifest: dict[str, Any]) -> None:
    columns, now = before.get("columns"), manifest["columns"]
    if columns and columns != now:
        differ = sorted(
            name for name in columns.keys() | now.keys() if columns.get(name) != now.get(name)
        )
        raise InputError(
            f"{repo.url} has other columns ({', '.join(differ)}), which would break those who load "
            "it; give another hub_dataset_id, or --replace true"
        )


def _take_over(folder: Path, repo: HubRepo, sha: str) -> None:
    """Make the folder what is on the Hub, byte for byte.

    Usually that is the card and the changelog; all files, where the commit was made by a run of
    the same rows that was lost since.
    """
    there = repo.fetch(MANIFEST, sha)
    if there and there.read_bytes() != (folder / MANIFEST).read_bytes():
        copied = sorted(kind().owned(repo, sha), key=lambda name: name == MANIFEST)
    else:
        copied = [README, CHANGELOG]
    for name in copied:  # the manifest last: until then the folder is known to be unfinished
        if path := repo.fetch(name, sha):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(path.read_bytes())


def _difference(
    folder: Path, manifest: dict[str, Any], repo: HubRepo, sha: str, before: dict[str, Any]
) -> Difference:
    def shards(listing: dict[str, Any]) -> list[str]:
        return [name for name in listing.get("sha256", {}) if name.startswith("data/default/")]

    old = [repo.fetch(name, sha) for name in shards(before)]
    return difference([path for path in old if path], [folder / name for name in shards(manifest)])
