"""Release a dataset folder on the Hub: one commit, one tag, compared with the version before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from code_alpaca.core import console
from code_alpaca.core.errors import InputError
from code_alpaca.core.records import Manifest
from code_alpaca.dataset.changelog import update_changelog
from code_alpaca.dataset.contents import (
    CHANGELOG,
    DATASET_RELEASE,
    content_key,
    release_paths,
    released_manifest,
    verify_folder,
)
from code_alpaca.dataset.difference import VersionDiff, diff_versions
from code_alpaca.dataset.manifest import CARD, MANIFEST, read_manifest
from code_alpaca.hub import release as hub_release
from code_alpaca.hub import release_plan
from code_alpaca.hub.client import HubRepo
from code_alpaca.hub.release_plan import Release, ReleasePlan, ReleaseTerms
from code_alpaca.hub.versions import README, ReleaseVersion, read_text

UNFINISHED = ".publish.json"  # next to the folder: the release that was started and not finished
Log = Callable[[str], None]


def push_dataset(
    folder: Path, repo_id: str, terms: ReleaseTerms | None = None, log: Log | None = None
) -> str:
    """Release `folder` as the version in its manifest, and return the commit.

    After an interruption the same call resumes. Readers see the old version or the new one.

    Args:
        terms: what the user accepts; see `ReleaseTerms`.

    Raises:
        InputError: the reasons of `preview_push`, or another user changed the same files.
        Stopped: the Hub does not respond, or the repository was deleted.
    """
    log = log or console.stage("publish").print
    terms = terms or ReleaseTerms()
    manifest = verify_folder(folder)
    version = _version(folder, manifest.version, content_key(folder, manifest))
    repo = HubRepo(repo_id)

    def contents(plan: ReleasePlan) -> Mapping[str, Path | bytes]:
        files = _release_files(folder, repo, plan, terms, log)
        log(f"uploading {len(manifest.sha256)} shards to {repo.url}")
        return files

    paths, card = release_paths(folder, manifest), _read_card(folder)
    release = Release(repo, version, DATASET_RELEASE, terms, paths, card)
    sha = hub_release.publish_release(release, contents, log)
    _download_release(folder, repo, sha)
    version.progress_file.unlink(missing_ok=True)
    log(f"{repo.url}/tree/{version.tag} (commit {sha})")
    log(f'load_dataset("{repo_id}", "default", revision="{version.tag}")')
    return sha


def check_push(repo_id: str, number: str | None, run_dir: Path, terms: ReleaseTerms) -> None:
    """Refuse, before the folder is made, what `push_dataset` would refuse for any rows.

    Args:
        number: the version; None for the version of the existing folder.
    """
    repo = HubRepo(repo_id)
    if number is None:
        manifest = read_manifest(run_dir / "dataset")
        number = manifest.version if manifest else None
    if number is None:
        release_plan.check_access(repo, terms)
    else:
        version = _version(run_dir / "dataset", number)
        release_plan.plan_release(Release(repo, version, DATASET_RELEASE, terms))


def prepare_repo(repo_id: str, number: str, run_dir: Path, *, private: bool) -> None:
    """Create the repository of a release that `check_push` accepts."""
    version = _version(run_dir / "dataset", number)
    terms = ReleaseTerms(private)
    hub_release.prepare_repo(Release(HubRepo(repo_id), version, DATASET_RELEASE, terms))


def preview_push(folder: Path, repo_id: str, run_dir: Path, terms: ReleaseTerms) -> list[str]:
    """Return what a push would change on the Hub, one sentence each, without changing anything.

    Args:
        folder: the dataset to push.
        run_dir: where the dataset will be written.

    Raises:
        InputError: a file differs from the manifest; no token with write access; the version
            exists or is lower than the last one; files of other people or other columns are in the
            way.
        Stopped: the Hub does not respond.
    """
    manifest = verify_folder(folder)
    repo = HubRepo(repo_id)
    key = content_key(folder, manifest)
    version = _version(run_dir / "dataset", manifest.version, key)
    paths, card = release_paths(folder, manifest), _read_card(folder)
    plan = release_plan.plan_release(Release(repo, version, DATASET_RELEASE, terms, paths, card))
    rows = f"{manifest.counts['default']:,} rows added"
    if not plan.exists:
        return [f"{repo.url} does not exist yet; {rows}"]
    if plan.existing_commit:
        return [
            f"{repo.url} has this version as commit {plan.existing_commit[:7]}; its tag is missing"
        ]
    sentences: list[str] = []
    _release_files(folder, repo, plan, terms, sentences.append)
    if plan.before is None:
        sentences.append(f"{repo.url} has no version yet; {rows}")
    return sentences + plan.describe_losses(paths)


def preupload_shards(folder: Path, repo_id: str, uploaded: set[str]) -> None:
    """Upload the shards that will not change any more, and add their hashes to `uploaded`.

    Only full shards are final: the last one of each config grows with the next rows.
    """
    manifest = read_manifest(folder)
    final = []
    for name, sha256 in manifest.sha256.items() if manifest else ():
        number, _, total = Path(name).stem.removeprefix("train-").partition("-of-")
        if number.isdigit() and int(number) < int(total) - 1 and sha256 not in uploaded:
            final.append((name, folder / name))
            uploaded.add(sha256)
    if final:
        HubRepo(repo_id).preupload(final)


def _version(folder: Path, number: str, key: str | None = None) -> ReleaseVersion:
    return ReleaseVersion(number, key, folder.parent / UNFINISHED, "dataset_version")


def _read_card(folder: Path) -> str:
    return (folder / README).read_text(encoding="utf-8")


def _release_files(
    folder: Path, repo: HubRepo, plan: ReleasePlan, terms: ReleaseTerms, log: Log
) -> dict[str, Path | bytes]:
    """Return everything that the commit contains, by its path in the repository.

    Raises:
        InputError: the version before has other columns, and may not be replaced.
    """
    manifest = read_manifest(folder)
    assert manifest is not None
    previous = released_manifest(repo, plan.before.sha) if plan.before else None
    if previous and not terms.replace:
        _refuse_other_columns(repo, previous, manifest)
    diff = None
    if plan.before:
        old = _default_shards(previous) if previous else []
        paths = [repo.fetch(name, plan.before.sha) for name in old]
        new = [folder / name for name in _default_shards(manifest)]
        diff = diff_versions([path for path in paths if path], new)
        log(f"since {plan.before.tag}: {diff}")
    files: dict[str, Path | bytes] = {
        name: folder / name
        for name in release_paths(folder, manifest)
        if name not in (README, CHANGELOG)
    }
    files[CHANGELOG] = _changelog(repo, plan, manifest, diff).encode()
    card = hub_release.merge_card_edits(repo, _read_card(folder), CARD.as_posix(), plan, log)
    files[README] = card.encode()
    return files


def _changelog(
    repo: HubRepo, plan: ReleasePlan, manifest: Manifest, diff: VersionDiff | None
) -> str:
    path = repo.fetch(CHANGELOG, plan.head) if plan.head else None
    since = plan.before.tag.removeprefix("v") if plan.before else None
    return update_changelog(manifest, since, diff, read_text(path) if path else None)


def _default_shards(manifest: Manifest) -> list[str]:
    return [name for name in manifest.sha256 if name.startswith("data/default/")]


def _refuse_other_columns(repo: HubRepo, previous: Manifest, manifest: Manifest) -> None:
    old, new = previous.columns, manifest.columns or {}
    if old and old != new:
        names = sorted(old.keys() | new.keys())
        differing = [name for name in names if old.get(name) != new.get(name)]
        raise InputError(
            f"{repo.url} has other columns ({', '.join(differing)}), so this version would break "
            "code that loads it; set another hub_dataset_id, or --replace true"
        )


def _download_release(folder: Path, repo: HubRepo, sha: str) -> None:
    """Make the folder byte for byte what is on the Hub.

    Usually the card and the changelog differ. All files do if the commit was made by an earlier
    run of the same rows whose folder was lost.
    """
    manifest = repo.fetch(MANIFEST, sha)
    if manifest and manifest.read_bytes() != (folder / MANIFEST).read_bytes():
        released = DATASET_RELEASE.owned(repo, sha)
        names = sorted(released, key=lambda name: name == MANIFEST)  # last: it marks completion
    else:
        names = [README, CHANGELOG]
    for name in names:
        if path := repo.fetch(name, sha):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(path.read_bytes())
