"""Release a dataset folder on the Hub: one commit, one tag, compared with the version before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from code_alpaca import versions
from code_alpaca.dataset.difference import Difference, difference, entry
from code_alpaca.dataset.manifest import (
    CARD,
    MANIFEST,
    changed_files,
    is_manifest,
    manifest_of,
    sha256,
)
from code_alpaca.errors import InputError
from code_alpaca.hub import Repo
from code_alpaca.versions import README, Contents, Say, Version, latest, read_json, text_of

OWNED = ("data/", "assets/")  # of the repository; what else is there stays
CHANGELOG = "CHANGELOG.md"
KEY = "manifest sha256"  # what the description of every release commit starts with
UNDER_WAY = ".publish.json"  # beside the folder: which release was begun and not finished


class Released(NamedTuple):
    """What the repository holds now: its head, and the last version, if any."""

    head: str
    version: str | None
    sha: str | None  # of that version
    manifest: dict[str, Any]  # of that version; {} where there is none that can be read
    last: str | None  # the newest commit of a release, tagged or not


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

    Whatever stops it, the same call goes on, and readers see the old version or the new one whole.

    Args:
        private: of a repository that is made now.
        allow_older: accept a version lower than the last one.
        replace: accept a repository with other columns, or with files of no release.

    Raises:
        InputError: the version exists, or something above is not accepted; a shard is not what
            the manifest says; no token that may write; somebody else changed the same files.
        Stopped: the Hub does not answer.
    """
    manifest = _checked(folder)
    version = _version(folder, manifest["version"])
    repo = Repo(repo_id)

    def contents(tags: Mapping[str, str]) -> Contents:
        released = _released(repo, tags)
        versions.check_order(repo, version, tags, allow_older=allow_older)
        _check_shape(repo, released, manifest, replace)
        files = _files(folder, manifest, repo, released, say)
        say(f"publish   uploading {len(manifest['sha256'])} shards to {repo.url}")
        return Contents(files, released.head, OWNED)

    repo.check_card((folder / README).read_text(encoding="utf-8"))  # before anything is made there
    sha = versions.make(repo, version, contents, private=private, say=say)
    for name in (README, CHANGELOG):  # the folder is what is on the Hub, byte for byte
        if path := repo.fetch(name, sha):
            (folder / name).write_bytes(path.read_bytes())
    version.under_way.unlink(missing_ok=True)
    say(f"publish   {repo.url}/tree/{version.tag} (commit {sha})")
    say(f'publish   load_dataset("{repo_id}", "default", revision="{version.tag}")')
    return sha


def look(repo_id: str, number: str | None, run_dir: Path, *, private: bool) -> None:
    """See, by reading alone, that there is a token, and no such version yet.

    Raises:
        InputError: there is none, or there is one; or all can see what is to be private.
    """
    repo = Repo(repo_id)
    repo.log_in()
    if repo.head() is None:
        return
    if private:
        repo.require_private()
    if number:
        _refuse_existing(repo, number, run_dir)


def prepare(repo_id: str, number: str, run_dir: Path, *, private: bool) -> None:
    """Make the repository, and see that a release of `run_dir` under that version may go there.

    Raises:
        InputError: no token that may write, or the version exists.
    """
    repo = Repo(repo_id)
    repo.log_in()
    repo.create(private=private)
    _refuse_existing(repo, number, run_dir)


def preview(folder: Path, repo_id: str, *, private: bool) -> str:
    """What a push would change, by reading alone.

    Raises:
        InputError: of what `push` would refuse.
    """
    manifest = _checked(folder)
    repo = Repo(repo_id)
    repo.log_in()
    repo.check_card((folder / README).read_text(encoding="utf-8"))
    if repo.head() is None:
        return f"{repo.url} does not exist yet; {manifest['counts']['default']:,} rows added"
    if private:
        repo.require_private()
    tags = repo.tags()
    version = _version(folder, manifest["version"])
    if version.tag in tags:
        raise InputError(versions.exists(repo, version, tags))
    released = _released(repo, tags)
    if released.version is None:
        return f"{repo.url} has no version yet; {manifest['counts']['default']:,} rows added"
    return f"since v{released.version}: {_difference(folder, manifest, repo, released)}"


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
        Repo(repo_id).preupload(final)


def _checked(folder: Path) -> dict[str, Any]:
    manifest = manifest_of(folder)
    if manifest is None:
        raise InputError(f"there is no {folder}; code-alpaca publish makes it")
    for shard in changed_files(folder, manifest):
        raise InputError(
            f"{folder / shard} is not what {MANIFEST} says, so nothing was pushed; make the folder "
            "again from its run or source"
        )
    return manifest


def _version(folder: Path, number: str) -> Version:
    path = folder / MANIFEST
    key = f"{KEY} {sha256(path)}" if path.exists() else KEY
    return Version(number, key, folder.parent / UNDER_WAY, "dataset_version")


def _refuse_existing(repo: Repo, number: str, run_dir: Path) -> None:
    version = _version(run_dir / "dataset", number)
    if version.under_way.exists():  # begun and not finished, maybe this very one
        return
    tags = repo.tags()
    if version.tag in tags:
        raise InputError(versions.exists(repo, version, tags))


def _released(repo: Repo, tags: Mapping[str, str]) -> Released:
    head = repo.head()
    if head is None:
        raise InputError(f"{repo.url} is gone; was it deleted or renamed?")
    version = latest(tags)
    sha = tags[f"v{version}"] if version else None
    path = repo.fetch(MANIFEST, sha) if sha else None
    manifest = read_json(path) if path else None
    manifest = manifest if is_manifest(manifest) else {}
    return Released(head, version, sha, manifest, repo.landed(KEY))


def _check_shape(repo: Repo, released: Released, manifest: dict[str, Any], replace: bool) -> None:
    if replace:
        return
    before = released.manifest.get("columns")
    if before and before != manifest["columns"]:
        differ = sorted(
            name
            for name in before.keys() | manifest["columns"].keys()
            if before.get(name) != manifest["columns"].get(name)
        )
        raise InputError(
            f"{repo.url} has other columns ({', '.join(differ)}), which would break those who load "
            "it; give another hub_dataset_id, or --replace true"
        )
    if released.last is None:
        strange = [
            name
            for name in repo.files(released.head)
            if name.startswith(OWNED) or name.endswith((".parquet", ".json", ".jsonl", ".csv"))
        ]
        if strange:
            raise InputError(
                f"{repo.url} holds files of no release of ours ({', '.join(strange[:3])}); give "
                "another hub_dataset_id, or --replace true"
            )


def _files(
    folder: Path, manifest: dict[str, Any], repo: Repo, released: Released, say: Say
) -> dict[str, Path | bytes]:
    """Everything that the commit puts there, by its path in the repository."""
    files: dict[str, Path | bytes] = {
        str(path.relative_to(folder)): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (path.name == MANIFEST or path.parent != folder)
    }
    changelog = repo.fetch(CHANGELOG, released.head)
    found = _difference(folder, manifest, repo, released) if released.version else None
    if found:
        say(f"publish   since v{released.version}: {found}")
    told = text_of(changelog) if changelog else None
    files[CHANGELOG] = entry(manifest, released.version, found, told).encode()
    ours = (folder / README).read_text(encoding="utf-8")
    ours = versions.keep_edits(repo, ours, str(CARD), released.head, released.last, say)
    files[README] = ours.encode()
    return files


def _difference(
    folder: Path, manifest: dict[str, Any], repo: Repo, released: Released
) -> Difference:
    def shards(told: dict[str, Any]) -> list[str]:
        return [name for name in told.get("sha256", {}) if name.startswith("data/default/")]

    old = [repo.fetch(name, released.sha or "") for name in shards(released.manifest)]
    return difference([path for path in old if path], [folder / name for name in shards(manifest)])
