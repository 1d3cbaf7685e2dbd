"""Make a release on the Hub: what it would change is checked first, then one commit and one tag.

Datasets, models and Spaces are all released by `make`. A dry run calls `release_plan.check`, with
which `make` begins, so that both refuse the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from code_alpaca.core import fs
from code_alpaca.core.errors import Stopped
from code_alpaca.hub import cards
from code_alpaca.hub.client import HubRepo
from code_alpaca.hub.errors import repo_gone
from code_alpaca.hub.release_plan import (
    ReleaseKind,
    ReleasePlan,
    ReleaseTerms,
    find_stale_files,
    plan_release,
    remember_visibility,
)
from code_alpaca.hub.repo_records import RepoInfo
from code_alpaca.hub.versions import README, ReleaseVersion, Say, read_text


def publish_release(
    repo: HubRepo,
    version: ReleaseVersion,
    kind: ReleaseKind,
    terms: ReleaseTerms,
    contents: Callable[[ReleasePlan], Mapping[str, Path | bytes]],
    *,
    names: Collection[str],
    card: str | None = None,
    say: Say = print,
) -> str:
    """Make a version of a repository, and return its commit.

    Whatever stops it, the same call resumes; readers see the old version or all of the new one.
    Once all that belongs to the release is done, the caller deletes `version.under_way`.

    Args:
        contents: path in the repository -> path on this disk, or content, for every one of
            `names`; called only where the commit is not made yet.

    Raises:
        InputError: what `check` refuses; somebody else changed the same files meanwhile.
        Stopped: the Hub does not answer, or the repository vanished meanwhile.
    """
    plan = plan_release(repo, version, kind, terms, names=names, card=card)
    if not plan.exists:
        repo.create(private=terms.private, space_sdk=terms.space_sdk)
        plan = plan_release(repo, version, kind, terms, names=names)
    remember_visibility(repo, version, plan.private)
    if not plan.has_branch:
        repo.create_branch()
    sha = plan.done
    if sha is None:
        files = contents(plan)
        for sentence in plan.changes(names):
            say(sentence)
    fs.write_json(version.under_way, _mark(repo, version))
    if sha is None:
        sha = repo.release(
            files,
            key=str(version.key),
            title=f"Release {version.tag}",
            parent=str(plan.head),
            stale=lambda head: find_stale_files(repo, kind, terms, plan, names, head),
            say=say,
        )
    repo.tag(version.tag, sha)
    if (seen := repo.look()) is None or seen.renamed:
        raise _lost_name(repo, version, seen)
    return sha


def prepare_repo(
    repo: HubRepo, version: ReleaseVersion, kind: ReleaseKind, terms: ReleaseTerms
) -> None:
    """Make the repository of a release whose content is not known yet, if `check` allows it."""
    plan = plan_release(repo, version, kind, terms)
    if not plan.exists:
        repo.create(private=terms.private, space_sdk=terms.space_sdk)
        plan = plan_release(repo, version, kind, terms)
    remember_visibility(repo, version, plan.private)


def merge_card_edits(
    repo: HubRepo, ours: str, path: str, plan: ReleasePlan, say: Say = print
) -> str:
    """Our new card with what people wrote into the one on the Hub (see `cards.merge`).

    Args:
        path: where a release keeps its card as it was made, beside the README.md.
    """
    theirs = repo.fetch(README, plan.head) if plan.head else None
    if not theirs:
        return ours
    base = repo.fetch(path, plan.last.sha) if plan.last else None
    if plan.last is None:
        merged = cards.adopt_card(ours, read_text(theirs))
    elif base and theirs.read_bytes() != base.read_bytes():
        merged = cards.merge_cards(ours, read_text(base), read_text(theirs))
    else:
        return ours
    repo.check_card(merged.text)
    for word, sections in (("kept", merged.kept), ("replaced", merged.lost)):
        if sections:
            say(f"README edited on the Hub, {word}: {', '.join(sections)}")
    return merged.text


def _lost_name(repo: HubRepo, version: ReleaseVersion, seen: RepoInfo | None) -> Stopped:
    if seen is None:
        return repo_gone(repo.url)
    return Stopped(
        f"{repo.url} was renamed to {seen.renamed} meanwhile, and {version.tag} is complete there; "
        "give that name from now on"
    )


def _mark(repo: HubRepo, version: ReleaseVersion) -> dict[str, Any]:
    return {"repo": repo.id, "tag": version.tag, "key": version.key}
