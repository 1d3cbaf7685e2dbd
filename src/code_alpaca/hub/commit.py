"""Put a release on the Hub as one commit, exactly once.

Readers see the state before or after the commit. A lost response does not duplicate it: the commit
is looked up by its description, which contains a hash of the release.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from code_alpaca.core.console import Log
from code_alpaca.core.errors import InputError, Stopped
from code_alpaca.hub.client import MAX_ATTEMPTS, HubRepo, make_addition
from code_alpaca.hub.errors import is_transient, repo_gone, wait_before_retry


class ReleaseContent(NamedTuple):
    """What a release commit contains."""

    files: Mapping[str, Path | bytes]  # path in the repository -> path on this disk, or content
    title: str
    key: str  # the commit's description, unique to this release
    # Returns the files to delete on top of a commit; raises InputError if the release may not be
    # put on top of it.
    find_stale_files: Callable[[str], Sequence[str]]


def commit_release(repo: HubRepo, content: ReleaseContent, parent: str, log: Log) -> str:
    """Commit a release on top of `parent`, and return the hash of the commit.

    If another commit was added meanwhile, the release is based on it, provided that it changed no
    file of this release.

    Raises:
        InputError: another user changed files of this release meanwhile.
        Stopped: the Hub does not respond, or the repository was deleted.
    """
    from huggingface_hub import CommitOperationDelete
    from huggingface_hub.errors import HfHubHTTPError

    additions = [make_addition(name, file) for name, file in content.files.items()]
    repo.upload(additions)
    for attempt in range(MAX_ATTEMPTS):
        info = repo.get_info()
        if info is None or info.renamed:  # the Hub would redirect the commit to the new name
            raise repo_gone(repo.url)
        stale = content.find_stale_files(parent)
        deletions = [CommitOperationDelete(path_in_repo=name) for name in stale]
        try:
            return repo.create_commit(
                [*additions, *deletions],
                title=content.title,
                description=content.key,
                parent=parent,
            )
        except Exception as error:
            # After a lost response the commit may exist: look for it instead of repeating it.
            if sha := repo.find_commit(content.key):
                return sha
            if isinstance(error, HfHubHTTPError) and error.response.status_code == 412:
                parent = _rebase(repo, parent, {*content.files, *stale}, log)
            elif attempt == MAX_ATTEMPTS - 1 or not is_transient(error):
                raise repo.explain(error) from error
            else:
                wait_before_retry(attempt, error)
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
