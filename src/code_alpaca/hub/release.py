"""Release a dataset, a model or a Space on the Hub: one commit that contains everything, one tag.

`plan_release` checks first what the release would change; a dry run stops there. A release can be
interrupted and repeated at any point: uploads are found by their hash, the commit by its
description, the tag by its commit. Readers see the state before or after the one commit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from code_alpaca.core import fs
from code_alpaca.core.console import Log
from code_alpaca.core.errors import InputError, Stopped
from code_alpaca.hub import cards, client
from code_alpaca.hub.client import HubRepo, make_addition
from code_alpaca.hub.errors import repo_gone
from code_alpaca.hub.release_plan import (
    Release,
    ReleasePlan,
    find_stale_files,
    plan_release,
    remember_visibility,
)
from code_alpaca.hub.versions import README, read_text

Files = Mapping[str, Path | bytes]  # path in the repository -> path on this disk, or content


def publish_release(release: Release, contents: Callable[[ReleasePlan], Files], log: Log) -> str:
    """Release a version and return its commit.

    After an interruption the same call resumes. When everything that belongs to the release is
    done, the caller deletes `release.version.progress_file`.

    Args:
        contents: returns every file of the release. Called only if the commit does not exist yet.

    Raises:
        InputError: as `plan_release`, or another user changed the same files.
        Stopped: the Hub does not respond, or the repository was deleted.
    """
    repo, version = release.repo, release.version
    plan = prepare_repo(release)
    if not plan.has_branch:
        repo.create_branch()
    files: Files = {}
    if plan.existing_commit is None:
        files = contents(plan)
        for sentence in plan.describe_losses(release.names or ()):
            log(sentence)
    progress = {"repo": repo.id, "tag": version.tag, "key": version.key}
    fs.write_json(version.progress_file, progress)
    sha = plan.existing_commit or _commit(release, plan, files, log)
    if plan.is_complete:
        log(f"{version.tag} is already released with these very {release.kind.content}")
    else:
        repo.create_tag(version.tag, sha)
    info = repo.get_info()
    if info is None:
        raise repo_gone(repo.url)
    if info.renamed:
        raise Stopped(
            f"{repo.url} was renamed to {info.renamed} meanwhile, and {version.tag} is complete "
            "there; use that name from now on"
        )
    return sha


def prepare_repo(release: Release) -> ReleasePlan:
    """Create the repository of a release, if it is allowed, and return the plan."""
    plan = plan_release(release)
    if not plan.exists:
        terms = release.terms
        release.repo.create(private=terms.private, space_sdk=terms.space_sdk)
        plan = plan_release(release._replace(card=None))  # the Hub has accepted the card already
    remember_visibility(release.repo, release.version, plan.private)
    return plan


def merge_card_edits(repo: HubRepo, card: str, card_path: str, plan: ReleasePlan, log: Log) -> str:
    """Return the rendered `card` with what people edited on the Hub (see `cards.merge_cards`).

    `card_path` is the file in which a release keeps its card as rendered.
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


def _commit(release: Release, plan: ReleasePlan, files: Files, log: Log) -> str:
    """Commit a release on top of the planned head, exactly once, and return the commit.

    If another user adds a commit that changes no file of this release, the release is based on it.
    """
    from huggingface_hub import CommitOperationDelete
    from huggingface_hub.errors import HfHubHTTPError

    repo, key, parent = release.repo, str(release.version.key), str(plan.head)
    additions = [make_addition(name, file) for name, file in files.items()]
    repo.upload(additions)
    for attempt in range(client.MAX_ATTEMPTS):
        info = repo.get_info()
        if info is None or info.renamed:  # the Hub would redirect the commit to the new name
            raise repo_gone(repo.url)
        stale = find_stale_files(release, plan, parent)
        operations = [*additions, *(CommitOperationDelete(path_in_repo=name) for name in stale)]
        try:
            return repo.create_commit(operations, f"Release {release.version.tag}", key, parent)
        except Exception as error:
            # After a lost response the commit may exist: look for it instead of repeating it.
            if committed := repo.releases(key, repo.branch):
                return committed[0].sha
            if isinstance(error, HfHubHTTPError) and error.response.status_code == 412:
                parent = _rebase(repo, parent, {*files, *stale}, log)
            else:
                repo.wait_or_raise(attempt, error)
    raise Stopped(f"{repo.url} changes too often; rerun the command later")


def _rebase(repo: HubRepo, parent: str, touched: set[str], log: Log) -> str:
    """Return the new head, if the commits since `parent` changed none of the touched files."""
    head = repo.head()
    if head is None:
        raise repo_gone(repo.url)
    change = repo.changes_since(parent, head)
    if change.paths & touched:
        raise InputError(
            f"{repo.url} has changed: {change}; nothing was released. Check that change, then "
            "rerun the command"
        )
    log(f"{change} meanwhile, no file of this release; the release is based on it")
    return head
