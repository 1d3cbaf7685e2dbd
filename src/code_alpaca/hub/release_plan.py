"""What a release would change on the Hub, found without changing anything, or why it may not be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from code_alpaca.core import fs
from code_alpaca.core.errors import InputError, Stopped
from code_alpaca.core.markdown import one_line
from code_alpaca.hub import cards
from code_alpaca.hub.client import HubRepo
from code_alpaca.hub.repo_records import ReleaseCommit, RepoInfo
from code_alpaca.hub.versions import (
    README,
    ReleaseVersion,
    check_order,
    describe_existing,
    latest_version,
    read_json,
    read_text,
)

MERGED_FILES = (README, "CHANGELOG.md")  # in which a release keeps what people wrote
MAX_PLANNED_NAMES = 10_000  # files that a plan names
MAX_NAMED = 12  # files that a message names before it counts the others


class ReleaseTerms(NamedTuple):
    """What the user of a release accepts."""

    private: bool = False  # of a repository that is made now
    allow_older: bool = False  # a version lower than the last one
    replace: bool = False  # overwrite or delete files in the way that no release made
    space_sdk: str | None = None


class ReleaseKind(NamedTuple):
    """What tells the files of a release from those of other people, for datasets, models, Spaces.

    A release owns the files that the last release of the repository lists, and no others.
    """

    key: str  # what the description of every release commit starts with
    owned: Callable[
        [HubRepo, str], Collection[str]
    ]  # the files that a release, by its commit, lists
    harmful: Callable[[str, bool], bool]  # may not stay beside a release; True: beside the first
    strange: Callable[[str], bool]  # shows, where no release was, that this is no place for one
    made_by_hub: Collection[str] = (".gitattributes",)  # in every new repository


@dataclass(frozen=True)
class ReleasePlan:
    """What a release would change on the Hub, found without changing anything."""

    exists: bool
    private: bool  # of the repository, as it is or would be made
    head: str | None = None  # the commit that the release is put on top of
    has_branch: bool = False
    last: ReleaseCommit | None = None  # the newest release commit of the branch, tagged or not
    owned: Collection[str] = ()  # its files
    before: ReleaseCommit | None = None  # the release that this one is compared with
    done: str | None = None  # the commit of this very release, where it was made already
    untagged: bool = False  # there is a commit of this version, maybe of other content
    deleted: Sequence[str] = ()
    edited: Sequence[str] = ()  # files of the last release that somebody changed by hand since
    moved: Sequence[str] = ()  # tags that no longer stand for the commit of their release

    def changes(self, names: Collection[str]) -> list[str]:
        """Return sentences about what other people would miss; none where there is nothing."""
        replaced = [name for name in self.edited if name in names and name not in MERGED_FILES]
        sentences = []
        if self.deleted:
            sentences.append(
                f"files to delete on the Hub: {summarize_names(self.deleted, MAX_PLANNED_NAMES)}"
            )
        if replaced:
            sentences.append(
                f"edited on the Hub, replaced: {summarize_names(replaced, MAX_PLANNED_NAMES)}"
            )
        if self.moved:
            sentences.append(
                f"tags moved by hand off the commit of their release: {', '.join(self.moved)}; "
                "compared with the release itself"
            )
        return sentences


def plan_release(
    repo: HubRepo,
    version: ReleaseVersion,
    kind: ReleaseKind,
    terms: ReleaseTerms,
    *,
    names: Collection[str] | None = None,
    card: str | None = None,
) -> ReleasePlan:
    """Find out, without changing anything, what a release would do, or refuse it.

    Args:
        names: the paths of the release in the repository; None where they are not known yet.
        card: its README.md.

    Raises:
        InputError: no token, or none that may write there; the version exists or is lower than the
            last; the repository is public and was to be private, or holds files of other people
            that are in the way; the Hub does not take the card.
        Stopped: the Hub does not answer.
    """
    seen = check_access(repo, terms, card)
    if seen is None:
        _require_not_lost(repo, version, terms)
        return ReleasePlan(False, terms.private)
    branches, tags = repo.refs()
    found = {branch: repo.releases(kind.key, branch) for branch in branches}
    releases = [release for each in found.values() for release in each]
    done = _done(repo, version, tags, releases)
    if done is None:
        known = [*tags, *(release.tag for release in releases)]
        check_order(repo, version, known, allow_older=terms.allow_older)
    head = branches.get(repo.branch) or seen.head
    if head is None:
        raise Stopped(f"{repo.url} holds no commit yet; run the command again in a moment")
    here = found.get(repo.branch) or _tagged(repo, kind, tags)
    plan = ReleasePlan(
        exists=True,
        private=seen.private,
        head=head,
        has_branch=repo.branch in branches,
        last=here[0] if here else None,
        owned=set(kind.owned(repo, here[0].sha)) if here else (),
        before=_before(here, version),
        done=done,
        untagged=version.key is None and version.tag in {each.tag for each in releases},
        moved=_moved(here, tags),
    )
    if done:
        return plan
    deleted = find_stale_files(repo, kind, terms, plan, names, head)
    return replace(plan, deleted=deleted, edited=_edited(repo, plan))


def check_access(repo: HubRepo, terms: ReleaseTerms, card: str | None = None) -> RepoInfo | None:
    """Refuse, whatever the version, what the token or the repository does not allow.

    Returns:
        The repository; None where it is still to be made.
    """
    who = repo.log_in()
    if card is not None:
        repo.check_card(card)
    seen = repo.look()
    if seen and seen.renamed:
        raise InputError(f"{repo.url} was renamed to {seen.renamed}; give that name instead")
    repo.require_write(who, exists=seen is not None)
    if seen and terms.private:
        repo.require_private(seen)
    return seen


def remember_visibility(repo: HubRepo, version: ReleaseVersion, private: bool) -> None:
    """Note whether the repository is private: should it be deleted, it must not become public."""
    notes = read_json(version.seen)
    notes = notes if isinstance(notes, dict) else {}
    name = f"{repo.type} {repo.id}"
    if notes.get(name) != {"private": private}:
        version.seen.parent.mkdir(parents=True, exist_ok=True)
        fs.write_json(version.seen, {**notes, name: {"private": private}})


def _require_not_lost(repo: HubRepo, version: ReleaseVersion, terms: ReleaseTerms) -> None:
    """Refuse to make a repository in public that was private when it was last seen from here."""
    notes = read_json(version.seen)
    note = notes.get(f"{repo.type} {repo.id}") if isinstance(notes, dict) else None
    if isinstance(note, dict) and note.get("private") and not terms.private:
        raise InputError(
            f"{repo.url} was private and is gone; give --private true to make it again as private, "
            f"or delete {version.seen} to make it in public"
        )


def _tagged(repo: HubRepo, kind: ReleaseKind, tags: Mapping[str, str]) -> list[ReleaseCommit]:
    """The releases behind the last version's tag, for a branch whose history was squashed."""
    number = latest_version(tags)
    return repo.releases(kind.key, tags[f"v{number}"]) if number else []


def _before(releases: Sequence[ReleaseCommit], version: ReleaseVersion) -> ReleaseCommit | None:
    """The highest version in the history but this one, whatever its tag stands for by now."""
    others = {release.tag: release for release in reversed(releases) if release.tag != version.tag}
    number = latest_version(others)
    return others[f"v{number}"] if number else None


def _moved(releases: Sequence[ReleaseCommit], tags: Mapping[str, str]) -> list[str]:
    """Tags of releases that stand for another commit than the one that released them."""
    made = {(release.tag, release.sha) for release in releases}
    names = {release.tag for release in releases} & tags.keys()
    return sorted(name for name in names if (name, tags[name]) not in made)


def _done(
    repo: HubRepo,
    version: ReleaseVersion,
    tags: Mapping[str, str],
    releases: Sequence[ReleaseCommit],
) -> str | None:
    """The commit of this very release, if there is one and only its tag may be missing.

    Raises:
        InputError: the version exists, by a tag or by a commit of other content.
    """
    same = [release for release in releases if version.key and release.key == version.key]
    mark = read_json(version.under_way) or {}
    begun = (mark.get("repo"), mark.get("tag")) == (repo.id, version.tag)
    if version.tag in tags:
        ours = [release.sha for release in releases if release.key == mark.get("key")]
        finishing = begun and tags[version.tag] in ours and version.key in (None, mark.get("key"))
        if not finishing:
            raise InputError(describe_existing(repo, version, tags))
        return tags[version.tag]
    if same:
        return same[0].sha
    others = [release for release in releases if release.tag == version.tag]
    # One that was begun here and never got its tag may still become other rows.
    if others and version.key and not (begun and others[0].key == mark.get("key")):
        raise InputError(
            f"{repo.url} released {version.tag} with other content as commit {others[0].sha[:7]}, "
            f"whose tag is gone, and a version never changes; give a higher {version.option}"
        )
    return None


def find_stale_files(
    repo: HubRepo,
    kind: ReleaseKind,
    terms: ReleaseTerms,
    plan: ReleasePlan,
    names: Collection[str] | None,
    head: str,
) -> list[str]:
    """The files at `head` that the release deletes.

    Raises:
        InputError: files that the release does not own are in its way.
    """
    first = plan.last is None
    there = repo.files(head)
    foreign = [name for name in there if name not in {*plan.owned, *kind.made_by_hub}]
    harmful = [name for name in foreign if kind.harmful(name, first)]
    in_the_way = [
        name
        for name in foreign
        if name in harmful or name in (names or ()) or (first and kind.strange(name))
    ]
    if README in in_the_way and cards.has_text(_text(repo, README, head)):
        kept = {*MERGED_FILES} - {README}
    else:
        kept = {*MERGED_FILES}  # a README of metadata alone, which a release keeps as well
    in_the_way = [name for name in in_the_way if name not in kept]
    if in_the_way and not terms.replace:
        raise InputError(
            f"{repo.url} holds files that no release of code-alpaca made "
            f"({summarize_names(in_the_way)}), and that this one would overwrite or that would be "
            "loaded with it; move them away there, give another name, or set replace: true to "
            "overwrite or delete them"
        )
    if names is None:
        return []
    ours = there.keys() & set(plan.owned)
    return sorted(name for name in {*ours, *harmful} if name not in names)


def _edited(repo: HubRepo, plan: ReleasePlan) -> list[str]:
    """Files of the last release that somebody changed by hand since."""
    if plan.last is None or plan.head is None:
        return []
    before, now = repo.files(plan.last.sha), repo.files(plan.head)
    return sorted(name for name in plan.owned if name in now and now[name] != before.get(name))


def _text(repo: HubRepo, name: str, revision: str) -> str:
    path = repo.fetch(name, revision)
    return read_text(path) if path else ""


def summarize_names(names: Sequence[str], most: int = MAX_NAMED) -> str:
    """Names of files in one line; those beyond the first few as a number."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(one_line(name) for name in names[:most]) + more
