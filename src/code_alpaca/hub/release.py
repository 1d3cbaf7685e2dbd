"""Release a dataset, a model or a Space on the Hub: one commit that contains everything, one tag.

`plan_release` checks first what the release would change; a dry run stops there. A release can be
interrupted and repeated at any point: uploads are found by their hash, the commit by its
description, the tag by its commit. Readers see nothing before the one commit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from code_alpaca.core import fs
from code_alpaca.core.console import Log
from code_alpaca.core.errors import Stopped
from code_alpaca.hub import cards
from code_alpaca.hub.client import HubRepo
from code_alpaca.hub.commit import ReleaseContent, commit_release
from code_alpaca.hub.errors import repo_gone
from code_alpaca.hub.release_plan import (
    Release,
    ReleasePlan,
    find_stale_files,
    plan_release,
    remember_visibility,
)
from code_alpaca.hub.repo_records import RepoInfo
from code_alpaca.hub.versions import README, read_text

Contents = Callable[[ReleasePlan], Mapping[str, Path | bytes]]


def publish_release(release: Release, contents: Contents, log: Log) -> str:
    """Release a version and return its commit.

    After an interruption the same call resumes. When everything that belongs to the release is
    done, the caller deletes `release.version.progress_file`.

    Args:
        contents: returns the content of every file of the release: path in the repository -> path
            on this disk, or bytes. Called only if the commit does not exist yet.

    Raises:
        InputError: what `plan_release` refuses, or another user changed the same files meanwhile.
        Stopped: the Hub does not respond, or the repository was deleted meanwhile.
    """
    repo, version = release.repo, release.version
    plan = _create_repo(release)
    if not plan.has_branch:
        repo.create_branch()
    files: Mapping[str, Path | bytes] = {}
    if plan.existing_commit is None:
        files = contents(plan)
        for sentence in plan.describe_losses(release.names or ()):
            log(sentence)
    progress = {"repo": repo.id, "tag": version.tag, "key": version.key}
    fs.write_json(version.progress_file, progress)
    sha = plan.existing_commit or commit_release(
        repo,
        ReleaseContent(
            files,
            title=f"Release {version.tag}",
            key=str(version.key),
            find_stale_files=lambda head: find_stale_files(release, plan, head),
        ),
        str(plan.head),
        log,
    )
    repo.create_tag(version.tag, sha)
    info = repo.get_info()
    if info is None or info.renamed:
        raise _renamed(release, info)
    return sha


def prepare_repo(release: Release) -> None:
    """Create the repository of a release whose content is not known yet, if it is allowed."""
    _create_repo(release)


def _create_repo(release: Release) -> ReleasePlan:
    plan = plan_release(release)
    if not plan.exists:
        terms = release.terms
        release.repo.create(private=terms.private, space_sdk=terms.space_sdk)
        plan = plan_release(release._replace(card=None))  # the Hub has accepted the card already
    remember_visibility(release.repo, release.version, plan.private)
    return plan


def merge_card_edits(repo: HubRepo, card: str, card_path: str, plan: ReleasePlan, log: Log) -> str:
    """Return the new card with what people edited on the Hub (see `cards.merge_cards`).

    Args:
        card: as rendered for this release.
        card_path: where a release keeps its card as rendered, next to README.md.
    """
    current = repo.fetch(README, plan.head) if plan.head else None
    if not current:
        return card
    if plan.last is None:
        merged = cards.adopt_card(card, read_text(current))
    else:
        rendered = repo.fetch(card_path, plan.last.sha)
        if not rendered or current.read_bytes() == rendered.read_bytes():
            return card
        merged = cards.merge_cards(card, read_text(rendered), read_text(current))
    repo.check_card(merged.text)
    for word, sections in (("kept", merged.kept), ("replaced", merged.lost)):
        if sections:
            log(f"README edited on the Hub, {word}: {', '.join(sections)}")
    return merged.text


def _renamed(release: Release, info: RepoInfo | None) -> Stopped:
    if info is None:
        return repo_gone(release.repo.url)
    return Stopped(
        f"{release.repo.url} was renamed to {info.renamed} meanwhile, and {release.version.tag} is "
        "complete there; use that name from now on"
    )
