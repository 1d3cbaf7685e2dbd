"""Release a dataset folder on the Hub: one commit and one tag per version."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from code_alpaca.core import console
from code_alpaca.core.console import Log
from code_alpaca.core.errors import InputError
from code_alpaca.core.records import Manifest
from code_alpaca.dataset.contents import (
    CHANGELOG,
    DATASET_RELEASE,
    content_key,
    release_paths,
    released_manifest,
    verify_folder,
)
from code_alpaca.dataset.difference import VersionDiff, diff_versions, update_changelog
from code_alpaca.dataset.manifest import CARD, MANIFEST, read_manifest
from code_alpaca.dataset.origin_files import Fetch, collect_origin_files, compare_seed_tasks
from code_alpaca.hub import release as hub_release
from code_alpaca.hub import release_plan
from code_alpaca.hub.client import HubRepo, make_addition
from code_alpaca.hub.release_plan import Release, ReleasePlan, ReleaseTerms, VersionExistsError
from code_alpaca.hub.versions import README, ReleaseVersion, read_text

PROGRESS_FILE = ".publish.json"  # next to the folder while a release is unfinished


def push_dataset(
    folder: Path, repo_id: str, terms: ReleaseTerms | None = None, log: Log | None = None
) -> str:
    """Release `folder` as the version in its manifest, and return the commit.

    After an interruption the same call resumes. Readers see the old version or the new one.

    Raises:
        InputError: what `preview_push` refuses, or another user changed the same files.
        Stopped: the Hub does not respond, or the repository was deleted.
    """
    log = log or console.stage("publish").print
    manifest = verify_folder(folder)
    release = _plan_folder(folder, manifest, repo_id, folder, terms or ReleaseTerms())
    repo, version = release.repo, release.version

    def contents(plan: ReleasePlan) -> Mapping[str, Path | bytes]:
        files = _release_files(folder, manifest, release, plan, log)
        log(f"uploading {console.plural(len(manifest.sha256), 'shard')} to {repo.url}")
        return files

    try:
        sha = hub_release.publish_release(release, contents, log)
    except VersionExistsError as error:
        raise _explain_difference(error, folder, manifest) from None
    _download_release(folder, repo, sha)
    version.progress_file.unlink(missing_ok=True)
    log(f"{repo.url}/tree/{version.tag} (commit {sha})")
    log(f'load_dataset("{repo_id}", "default", revision="{version.tag}")')
    return sha


def check_push(repo_id: str, number: str | None, run_dir: Path, terms: ReleaseTerms) -> None:
    """Refuse what `push_dataset` would refuse for any rows, before the folder is written.

    Args:
        number: the version; None for that of the existing folder.

    Raises:
        VersionExistsError: the version exists, which `preview_push` allows for the same rows.
        InputError: anything else that `preview_push` refuses.
    """
    if number is None and (manifest := read_manifest(run_dir / "dataset")):
        number = manifest.version
    if number is None:
        release_plan.check_access(HubRepo(repo_id), terms)
    else:
        release_plan.plan_release(_plan_version(repo_id, number, run_dir, terms))


def prepare_repo(repo_id: str, number: str, run_dir: Path, *, private: bool) -> None:
    """Create the repository of a release that `check_push` accepts."""
    hub_release.prepare_repo(_plan_version(repo_id, number, run_dir, ReleaseTerms(private)))


def preview_push(folder: Path, repo_id: str, run_dir: Path, terms: ReleaseTerms) -> list[str]:
    """Return what a push would change on the Hub, one sentence each, without changing anything.

    Args:
        run_dir: where the dataset will be written; a dry run has its `folder` elsewhere.

    Raises:
        VersionExistsError: the version is released with other rows.
        InputError: a file differs from the manifest; there is no token with write access; the
            version is lower than the last one; files of other users are in the way; or the
            repository has other columns.
        Stopped: the Hub does not respond.
    """
    manifest = verify_folder(folder)
    release = _plan_folder(folder, manifest, repo_id, run_dir / "dataset", terms)
    repo = release.repo
    try:
        plan = release_plan.plan_release(release)
    except VersionExistsError as error:
        raise _explain_difference(error, folder, manifest) from None
    rows = f"{console.plural(manifest.counts['default'], 'row')} added"
    if not plan.exists:
        return [f"{repo.url} does not exist yet; {rows}"]
    if plan.is_complete:
        return [f"{repo.url} has {release.version.tag} with these very rows"]
    if plan.existing_commit:
        return [
            f"{repo.url} has this version as commit {plan.existing_commit[:7]}; its tag is missing"
        ]
    sentences: list[str] = []
    _release_files(folder, manifest, release, plan, sentences.append)
    if plan.before is None:
        sentences.append(f"{repo.url} has no version yet; {rows}")
    return sentences + plan.describe_losses(release.names or ())


def preupload_shards(folder: Path, repo_id: str, uploaded: set[str]) -> None:
    """Upload the shards that will not change any more, and add their hashes to `uploaded`.

    These are the full ones: the last shard of each config grows with the next rows.
    """
    manifest = read_manifest(folder)
    final = []
    for name, sha256 in manifest.sha256.items() if manifest else ():
        number, _, total = Path(name).stem.removeprefix("train-").partition("-of-")
        if number.isdigit() and int(number) < int(total) - 1 and sha256 not in uploaded:
            final.append(make_addition(name, folder / name))
            uploaded.add(sha256)
    if final:
        HubRepo(repo_id).upload(final)


def _plan_version(repo_id: str, number: str, run_dir: Path, terms: ReleaseTerms) -> Release:
    """Return a release whose content is not known yet."""
    version = _version(run_dir / "dataset", number)
    return Release(HubRepo(repo_id), version, DATASET_RELEASE, terms)


def _plan_folder(
    folder: Path, manifest: Manifest, repo_id: str, target: Path, terms: ReleaseTerms
) -> Release:
    """Return the release of a folder that is, or will be, at `target`."""
    version = _version(target, manifest.version, content_key(folder, manifest))
    paths, card = release_paths(folder, manifest), _read_card(folder)
    return Release(HubRepo(repo_id), version, DATASET_RELEASE, terms, paths, card)


def _version(folder: Path, number: str, key: str | None = None) -> ReleaseVersion:
    return ReleaseVersion(number, key, folder.parent / PROGRESS_FILE, "dataset_version")


def _read_card(folder: Path) -> str:
    return (folder / README).read_text(encoding="utf-8")


def _release_files(
    folder: Path, manifest: Manifest, release: Release, plan: ReleasePlan, log: Log
) -> dict[str, Path | bytes]:
    """Return the content of every file of the commit, by its path in the repository."""
    repo, before = release.repo, plan.before
    previous = released_manifest(repo, before.sha) if before else None
    if previous and not release.terms.replace:
        _refuse_other_columns(repo, previous, manifest)
    since = diff = None
    if before:
        since = before.tag.removeprefix("v")
        diff = _compare(folder, manifest, previous, partial(repo.fetch, revision=before.sha))
        log(f"since {before.tag}: {diff}")
    files: dict[str, Path | bytes] = {name: folder / name for name in release.names or ()}
    path = repo.fetch(CHANGELOG, plan.head) if plan.head else None
    changelog = update_changelog(manifest, since, diff, read_text(path) if path else None)
    files[CHANGELOG] = changelog.encode()
    card = hub_release.merge_card_edits(repo, _read_card(folder), CARD.as_posix(), plan, log)
    files[README] = card.encode()
    return files


def _explain_difference(
    error: VersionExistsError, folder: Path, manifest: Manifest
) -> VersionExistsError:
    """Return the error with what differs between a folder and the version on the Hub."""
    repo, sha = error.release.repo, error.sha
    released = released_manifest(repo, sha)
    if released is None:
        return error
    differing = [
        f"{key} {getattr(released, key)} instead of {getattr(manifest, key)}"
        for key in ("license", "validation_fraction")
        if getattr(released, key) != getattr(manifest, key)
    ]
    diff = _compare(folder, manifest, released, partial(repo.fetch, revision=sha))
    if diff.added or diff.removed or diff.changed or not differing:
        differing.append(f"other rows (since then {diff})")
    return error.explained(", ".join(differing))


def _compare(
    folder: Path, manifest: Manifest, previous: Manifest | None, fetch: Fetch
) -> VersionDiff:
    """Compare a folder with the previous release, whose files `fetch` returns."""
    old = _default_shards(previous) if previous else []
    new = [folder / name for name in _default_shards(manifest)]
    diff = diff_versions([path for name in old if (path := fetch(name))], new)
    was = collect_origin_files("the previous version", previous, fetch) if previous else {}
    now = collect_origin_files(str(folder), manifest, folder.joinpath)
    return diff._replace(seed_tasks=compare_seed_tasks(was, now))


def _default_shards(manifest: Manifest) -> list[str]:
    return [name for name in manifest.sha256 if name.startswith("data/default/")]


def _refuse_other_columns(repo: HubRepo, previous: Manifest, manifest: Manifest) -> None:
    old, new = previous.columns, manifest.columns or {}
    if old and old != new:
        differing = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
        raise InputError(
            f"{repo.url} has other columns ({', '.join(differing)}), so this version would break "
            "code that loads it; set another hub_dataset_id, or --replace true"
        )


def _download_release(folder: Path, repo: HubRepo, sha: str) -> None:
    """Make the folder byte for byte what is on the Hub.

    Usually the card and the changelog differ. All files do if an earlier run made the commit from
    the same rows and its folder was lost.
    """
    manifest = repo.fetch(MANIFEST, sha)
    names = [README, CHANGELOG]
    if manifest and manifest.read_bytes() != (folder / MANIFEST).read_bytes():
        released = DATASET_RELEASE.owned(repo, sha)
        names = sorted(released, key=lambda name: name == MANIFEST)  # last: it marks completion
        for name in Manifest.load(folder / MANIFEST).assets.keys() - set(released):
            (folder / name).unlink(missing_ok=True)  # an older code-alpaca made the commit
    for name in names:
        if path := repo.fetch(name, sha):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(path.read_bytes())
