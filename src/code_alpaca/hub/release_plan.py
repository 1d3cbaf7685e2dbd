"""Plan a release without changing anything: list its changes on the Hub, or refuse it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from pydantic import Field
from semver import Version as SemVer

from code_alpaca.core import fs
from code_alpaca.core.config import StageConfig
from code_alpaca.core.errors import InputError, Stopped
from code_alpaca.core.markdown import one_line
from code_alpaca.hub import cards
from code_alpaca.hub.client import HubRepo, ReleaseCommit, RepoInfo
from code_alpaca.hub.versions import README, ReleaseVersion, latest_version, read_json, read_text

Tags = Mapping[str, str]  # tag -> commit
MERGED_FILES = (README, "CHANGELOG.md")  # a release keeps what people wrote in them
MAX_PLANNED_NAMES = 10_000  # file names in a plan
MAX_NAMES = 12  # file names in a message; further ones are counted
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill"}
CODE = {".py", ".pyc", ".pyo", ".pyd", ".so", ".dll", ".dylib"}


class ReleaseTerms(NamedTuple):
    """What the user of a release accepts."""

    private: bool = False  # of a new repository
    allow_older: bool = False  # a version lower than the latest one
    replace: bool = False  # overwrite or delete files that no release created
    space_sdk: str | None = None


class ReleaseKeys(StageConfig):
    """The keys that every command with a Hub release has."""

    private: bool = Field(False, description="create new repositories as private")
    allow_older: bool = Field(False, description="release a version lower than the last one")
    replace: bool = Field(
        False,
        description="overwrite or delete files on the Hub that code-alpaca did not release",
    )
    dry_run: bool = Field(
        False, description="print what would change here and on the Hub; change nothing"
    )

    @property
    def terms(self) -> ReleaseTerms:
        return ReleaseTerms(self.private, self.allow_older, self.replace)


class ReleaseKind(NamedTuple):
    """The files of a release: it owns those that the previous release lists, and no others."""

    key: str  # prefix of the description of every release commit
    owned: Callable[[HubRepo, str], Collection[str]]  # files that the release at a commit lists
    harmful: Callable[[str, bool], bool]  # must not stay next to a release; True: the first one
    strange: Callable[[str], bool]  # shows that a repository without releases is the wrong one
    content: str = "files"  # what a version never changes, for messages
    made_by_hub: Collection[str] = (".gitattributes",)  # in every new repository


class Release(NamedTuple):
    """A version of a repository to release."""

    repo: HubRepo
    version: ReleaseVersion
    kind: ReleaseKind
    terms: ReleaseTerms
    names: Collection[str] | None = None  # paths of its files; None: not known yet
    card: str | None = None  # its README.md, which the Hub is asked to accept


class VersionExistsError(InputError):
    """The Hub has the version, with other content than that to release, or it is not known yet."""

    def __init__(self, release: Release, sha: str, latest: str | None, difference: str) -> None:
        self.release, self.sha, self.latest = release, sha, latest
        repo, version = release.repo, release.version
        super().__init__(
            f"{repo.url} already has {version.tag} (commit {sha[:7]}){difference}, and a version "
            f"never changes; set {version.option} higher than {latest}"
        )

    def explained(self, difference: str) -> VersionExistsError:
        """Return this error with what differs from the released content."""
        return VersionExistsError(self.release, self.sha, self.latest, f" with {difference}")


@dataclass(frozen=True)
class ReleasePlan:
    """What a release would change on the Hub."""

    exists: bool
    private: bool  # of the repository, which may not exist yet
    head: str | None = None  # the commit that the release is based on
    has_branch: bool = False
    last: ReleaseCommit | None = None  # the newest release commit of the branch, tagged or not
    owned: Collection[str] = ()  # its files
    before: ReleaseCommit | None = None  # the release that this one is compared with
    existing_commit: str | None = None  # of this release, if an earlier start created it
    is_complete: bool = False  # that commit has the tag of the version
    untagged: bool = False  # a commit of this version exists without its tag
    deleted: Sequence[str] = ()
    edited: Sequence[str] = ()  # files of the last release that people edited
    moved: Sequence[str] = ()  # tags that were moved off the commit of their release

    def describe_losses(self, names: Collection[str]) -> list[str]:
        """Return one sentence for each kind of change that other users may not expect."""
        replaced = [name for name in self.edited if name in names and name not in MERGED_FILES]
        sentences = [
            f"{change}: {summarize_names(changed, MAX_PLANNED_NAMES)}"
            for change, changed in (
                ("files to delete on the Hub", self.deleted),
                ("edited on the Hub, replaced", replaced),
            )
            if changed
        ]
        if self.moved:
            sentences.append(
                f"tags moved by hand off the commit of their release: {', '.join(self.moved)}; "
                "compared with the release itself"
            )
        return sentences


def plan_release(release: Release) -> ReleasePlan:
    """Return what a release would change, without changing anything.

    Raises:
        VersionExistsError: the version is released with other content.
        InputError: no token with write access, a lower version, a public repository that should be
            private, foreign files in the way, or a card that the Hub rejects.
        Stopped: the Hub does not respond.
    """
    repo, version, kind, terms = release.repo, release.version, release.kind, release.terms
    info = check_access(repo, terms, release.card)
    if info is None:
        _refuse_lost_private_repo(release)
        return ReleasePlan(exists=False, private=terms.private)
    branches, tags = repo.refs()
    releases_by_branch = {branch: repo.releases(kind.key, branch) for branch in branches}
    releases = [commit for commits in releases_by_branch.values() for commit in commits]
    existing_commit = _find_existing_commit(release, tags, releases)
    if existing_commit is None and not terms.allow_older:
        _refuse_lower_version(repo, version, [*tags, *(commit.tag for commit in releases)])
    head = branches.get(repo.branch) or info.head
    if head is None:
        raise Stopped(f"{repo.url} contains no commit yet; rerun the command in a moment")
    latest = latest_version(tags)
    history = releases_by_branch.get(repo.branch, [])
    if not history and latest:  # the branch was squashed
        history = repo.releases(kind.key, tags[f"v{latest}"])
    plan = ReleasePlan(
        exists=True,
        private=info.private,
        head=head,
        has_branch=repo.branch in branches,
        last=history[0] if history else None,
        owned=set(kind.owned(repo, history[0].sha)) if history else (),
        before=_previous_release(history, version),
        existing_commit=existing_commit,
        is_complete=existing_commit is not None and tags.get(version.tag) == existing_commit,
        untagged=version.key is None and version.tag in {commit.tag for commit in releases},
        moved=_moved_tags(history, tags),
    )
    if existing_commit:
        return plan
    deleted = find_stale_files(release, plan, head)
    return replace(plan, deleted=deleted, edited=_edited_files(repo, plan))


def check_access(repo: HubRepo, terms: ReleaseTerms, card: str | None = None) -> RepoInfo | None:
    """Return the repository, or None; refuse what the token or the repository does not allow."""
    whoami = repo.require_login()
    if card is not None:
        repo.check_card(card)
    info = repo.get_info()
    if info and info.renamed:
        raise InputError(f"{repo.url} was renamed to {info.renamed}; use that name instead")
    repo.require_write(whoami, exists=info is not None)
    if info and terms.private:
        repo.require_private(info)
    return info


def find_stale_files(release: Release, plan: ReleasePlan, head: str) -> list[str]:
    """Return the files at `head` that the release deletes; refuse foreign files in its way."""
    repo, kind, names = release.repo, release.kind, release.names
    first = plan.last is None
    present = repo.files(head)
    foreign = [name for name in present if name not in {*plan.owned, *kind.made_by_hub}]
    harmful = [name for name in foreign if kind.harmful(name, first)]
    in_the_way = [
        name
        for name in foreign
        if (name in harmful or name in (names or ()) or (first and kind.strange(name)))
        # A README of metadata alone is merged too.
        and (name not in MERGED_FILES or (name == README and _has_text(repo, head)))
    ]
    if in_the_way and not release.terms.replace:
        raise InputError(
            f"{repo.url} contains files that no release of code-alpaca made "
            f"({summarize_names(in_the_way)}) and that this one would overwrite or that would be "
            "loaded with it; move them away there, set another name, or --replace true to "
            "overwrite or delete them"
        )
    if names is None:
        return []
    owned = present.keys() & set(plan.owned)
    return sorted(name for name in {*owned, *harmful} if name not in names)


def remember_visibility(repo: HubRepo, version: ReleaseVersion, private: bool) -> None:
    """Record whether the repository is private: if it is deleted, it must not come back public."""
    recorded, name = _recorded_visibility(version), f"{repo.type} {repo.id}"
    if recorded.get(name) != {"private": private}:
        version.visibility_file.parent.mkdir(parents=True, exist_ok=True)
        fs.write_json(version.visibility_file, {**recorded, name: {"private": private}})


def summarize_names(names: Sequence[str], limit: int = MAX_NAMES) -> str:
    """Return the first `limit` file names in one line, and the number of further ones."""
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(one_line(name) for name in names[:limit]) + more


def is_code_or_pickle(name: str) -> bool:
    """Return whether loading or importing a file of this name can run code."""
    return PurePosixPath(name).suffix.lower() in PICKLES | CODE


def find_symlinks(folder: Path) -> list[str]:
    """Return the symbolic links below a folder, as paths relative to it."""
    paths = sorted(folder.rglob("*"))
    return [path.relative_to(folder).as_posix() for path in paths if path.is_symlink()]


def _refuse_lost_private_repo(release: Release) -> None:
    """Refuse to create a public repository under the name of one that was private."""
    repo = release.repo
    found = _recorded_visibility(release.version).get(f"{repo.type} {repo.id}")
    if isinstance(found, dict) and found.get("private") and not release.terms.private:
        raise InputError(
            f"{repo.url} was private and no longer exists; set --private true to create it again "
            f"as private, or delete {release.version.visibility_file} to create it as public"
        )


def _recorded_visibility(version: ReleaseVersion) -> dict[str, Any]:
    recorded = read_json(version.visibility_file)
    return recorded if isinstance(recorded, dict) else {}


def _refuse_lower_version(repo: HubRepo, version: ReleaseVersion, tags: Sequence[str]) -> None:
    latest = latest_version(tags)
    if latest and SemVer.parse(version.number) < SemVer.parse(latest):
        raise InputError(
            f"{repo.url} is at v{latest} and {version.number} is lower; set a higher "
            f"{version.option}, or --allow_older true"
        )


def _find_existing_commit(
    release: Release, tags: Tags, releases: Sequence[ReleaseCommit]
) -> str | None:
    """Return the commit of this release if it exists, tagged or not; refuse another release."""
    repo, version = release.repo, release.version
    progress = read_json(version.progress_file) or {}
    started = (progress.get("repo"), progress.get("tag")) == (repo.id, version.tag)
    if version.tag in tags:
        sha = tags[version.tag]
        released_keys = {commit.key for commit in releases if commit.sha == sha}
        key = version.key or (progress.get("key") if started else None)
        if key is None or key not in released_keys:
            difference = f" with other {release.kind.content}" if version.key else ""
            raise VersionExistsError(release, sha, latest_version(tags), difference)
        return sha
    if same := [commit for commit in releases if version.key and commit.key == version.key]:
        return same[0].sha
    others = [commit for commit in releases if commit.tag == version.tag]
    # A release that was started here and never tagged may still change its rows.
    if others and version.key and not (started and others[0].key == progress.get("key")):
        raise InputError(
            f"{repo.url} released {version.tag} with other content as commit {others[0].sha[:7]}, "
            f"whose tag is gone, and a version never changes; set a higher {version.option}"
        )
    return None


def _previous_release(
    releases: Sequence[ReleaseCommit], version: ReleaseVersion
) -> ReleaseCommit | None:
    """Return the highest other version in the history, even if its tag was moved."""
    others = {commit.tag: commit for commit in reversed(releases) if commit.tag != version.tag}
    number = latest_version(others)
    return others[f"v{number}"] if number else None


def _moved_tags(releases: Sequence[ReleaseCommit], tags: Tags) -> list[str]:
    released = {(commit.tag, commit.sha) for commit in releases}
    names = {commit.tag for commit in releases} & tags.keys()
    return sorted(name for name in names if (name, tags[name]) not in released)


def _edited_files(repo: HubRepo, plan: ReleasePlan) -> list[str]:
    """Return the files of the last release that people edited."""
    if plan.last is None or plan.head is None:
        return []
    before, now = repo.files(plan.last.sha), repo.files(plan.head)
    return sorted(name for name in plan.owned if name in now and now[name] != before.get(name))


def _has_text(repo: HubRepo, revision: str) -> bool:
    """Return whether the README contains more than metadata."""
    path = repo.fetch(README, revision)
    return path is not None and cards.has_text(read_text(path))
