"""Releases on the Hub: one commit that holds everything, then a tag that never moves.

Only this file writes to a Hub. A release is safe to repeat after a kill or a lost answer at any
point: uploaded content is found by its hash, a commit by the key in its description, a tag by
what it points to. Nothing that a reader can see changes before the one commit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from code_alpaca.core.errors import InputError, Stopped
from code_alpaca.hub.errors import (
    WRITE_TOKEN,
    explain_hub_error,
    http_status,
    is_transient,
    is_unreachable,
    repo_gone,
    wait_before_retry,
)
from code_alpaca.hub.permissions import require_create_permission
from code_alpaca.hub.repo_records import ReleaseCommit, RepoChange, RepoInfo

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd

MAX_ATTEMPTS = 6
R = TypeVar("R")


class HubRepo:
    """A repository on the Hub, asked with patience.

    A busy or unreachable server is asked again, up to six times in all.

    Every method raises InputError where the token, the repository or its name will not do, and
    Stopped where the Hub does not answer.

    Args:
        branch: what releases go on.
    """

    def __init__(
        self,
        repo_id: str,
        repo_type: Literal["dataset", "model", "space"] = "dataset",
        branch: str = "main",
    ) -> None:
        from huggingface_hub import HfApi

        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo_id):
            raise InputError(f"{repo_id!r} is no name on the Hub; give ORG/NAME")
        self.id, self.type, self.branch = repo_id, repo_type, branch
        self._api = HfApi(library_name="code-alpaca")

    @property
    def url(self) -> str:
        folder = "" if self.type == "model" else f"{self.type}s/"
        return f"{self._api.endpoint}/{folder}{self.id}"

    def log_in(self) -> dict[str, Any]:
        """Return the Hub's `whoami` of the token, which may write somewhere."""
        from huggingface_hub import get_token

        if not get_token():
            raise InputError(
                f"no token for the Hub; {WRITE_TOKEN}, then run `hf auth login` or set HF_TOKEN"
            )
        who = self._ask(self._api.whoami, first=True)
        token = (who.get("auth") or {}).get("accessToken") or {}
        if token.get("role") == "read":
            raise InputError(
                f"the token of {who['name']} may only read; {WRITE_TOKEN}, then run it again"
            )
        return who

    def look(self) -> RepoInfo | None:
        """Return what the repository is now; None where there is none that the token may see."""
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            found = self._ask(
                self._api.repo_info, self.id, repo_type=self.type, pass_on=RepositoryNotFoundError
            )
        except RepositoryNotFoundError:
            return None
        name = getattr(found, "id", None) or self.id  # the Hub answers for the new name of one
        renamed = name if name.lower() != self.id.lower() else ""
        return RepoInfo(found.sha, bool(found.private), renamed)

    def require_write(self, who: Mapping[str, Any], *, exists: bool) -> None:
        """Refuse, without changing anything, a repository that the token may not write to.

        Args:
            who: what `log_in` returned.
            exists: the repository is there; else it is the namespace that is checked.
        """
        if not exists:
            require_create_permission(who, self.id)
            return
        # The question that every upload begins with, which the Hub answers for writers alone.
        self._ask(
            self._api.preupload_lfs_files, self.id, [_addition("README.md", b"# ")],
            repo_type=self.type, free_memory=False,
        )  # fmt: skip

    def create(self, *, private: bool, space_sdk: str | None = None) -> None:
        """Make the repository where there is none; what exists stays as it is.

        Args:
            private: False leaves it to the default of the owner, which may be private.

        Raises:
            InputError: it is to be private, and exists for all to see.
        """
        self._ask(
            self._api.create_repo, self.id, repo_type=self.type, private=private or None,
            space_sdk=space_sdk, exist_ok=True,
        )  # fmt: skip
        if private and (seen := self.look()):
            self.require_private(seen)

    def create_branch(self) -> None:
        """Make the branch of a repository that exists, from its `main`."""
        self._ask(
            self._api.create_branch, self.id, branch=self.branch, repo_type=self.type,
            exist_ok=True,
        )  # fmt: skip

    def require_private(self, seen: RepoInfo) -> None:
        """Refuse a repository that everybody can see."""
        if not seen.private:
            raise InputError(
                f"{self.url} is there for all to see, and `private` is for repositories that are "
                "made now; change it on its page (Settings), or give another name"
            )

    def check_card(self, text: str) -> None:
        """Ask the Hub whether it takes the metadata of a card, such as the name of a licence."""
        from huggingface_hub import RepoCard

        self._ask(RepoCard(text).validate, repo_type=self.type)

    def head(self, revision: str | None = None) -> str | None:
        """The commit that a revision (by default the branch) is now; None where there is no such
        repository or revision."""
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        missing = (RepositoryNotFoundError, RevisionNotFoundError)
        try:
            return self._ask(
                self._api.repo_info, self.id, repo_type=self.type,
                revision=revision or self.branch, pass_on=missing,
            ).sha  # fmt: skip
        except missing:
            return None

    def tags(self) -> dict[str, str]:
        """Tag names and the commits they stand for."""
        return self.refs()[1]

    def refs(self) -> tuple[dict[str, str], dict[str, str]]:
        """Branches and tags by their names, with the commits that they stand for."""
        found = self._ask(self._api.list_repo_refs, self.id, repo_type=self.type)
        branches, tags = (
            {ref.name: ref.target_commit for ref in refs} for refs in (found.branches, found.tags)
        )
        return branches, tags

    def releases(self, prefix: str, revision: str) -> list[ReleaseCommit]:
        """Return the release commits in the history of a revision, newest first.

        Args:
            prefix: what the description of every release commit of this kind starts with.
        """
        return [
            ReleaseCommit(commit.commit_id, commit.title, commit.message.strip())
            for commit in self._commits(revision)
            if commit.message.startswith(prefix)
        ]

    def files(self, revision: str) -> dict[str, str]:
        """Paths and hashes of the files at a commit."""
        from huggingface_hub.hf_api import RepoFile

        entries = self._ask(
            lambda: list(
                self._api.list_repo_tree(
                    self.id, repo_type=self.type, revision=revision, recursive=True
                )
            )
        )
        return {
            entry.path: entry.lfs.sha256 if entry.lfs else entry.blob_id
            for entry in entries
            if isinstance(entry, RepoFile)
        }

    def fetch(self, path: str, revision: str) -> Path | None:
        """A file at a commit, from the cache or the Hub; None where there is none."""
        from huggingface_hub.errors import RemoteEntryNotFoundError

        try:
            return Path(
                self._ask(
                    self._api.hf_hub_download, self.id, path, repo_type=self.type,
                    revision=revision, pass_on=RemoteEntryNotFoundError,
                )
            )  # fmt: skip
        except RemoteEntryNotFoundError:
            return None

    def since(self, parent: str, head: str) -> RepoChange:
        """The newest commit after `parent`, and all files that differ between the two."""
        newest = self._commits(head)[0]
        before, after = self.files(parent), self.files(head)
        paths = {
            path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
        }
        when = f"{newest.created_at:%Y-%m-%d %H:%M:%S} UTC"
        authors = ", ".join(newest.authors) or "somebody"
        return RepoChange(head, authors, when, newest.title, frozenset(paths))

    def preupload(self, paths: Iterable[tuple[str, Path]]) -> None:
        """Upload large files by content; no reader sees them before a release names them.

        Args:
            paths: path in the repository and on this disk.
        """
        additions = [_addition(name, path) for name, path in paths]
        self._upload(additions)

    def landed(self, key: str) -> str | None:
        """The newest commit of the branch whose description starts with `key`, or None."""
        commits = self._commits(self.branch)
        return next((c.commit_id for c in commits if c.message.startswith(key)), None)

    def release(
        self,
        files: Mapping[str, Path | bytes],
        *,
        key: str,
        title: str,
        parent: str,
        stale: Callable[[str], Sequence[str]],
        say: Callable[[str], None] = print,
    ) -> str:
        """Put `files` on the branch as one commit on top of `parent`, and return that commit.

        Where the branch has moved on meanwhile, the commit goes on top only if the other change
        touched no file of this release.

        Args:
            files: path in the repository -> path on this disk, or content.
            key: says which release this is; found again after a lost answer.
            stale: gives the files to delete on top of a commit; raises InputError where the
                release may not go on top of that commit.

        Raises:
            InputError: somebody else changed files of this release meanwhile.
            Stopped: the Hub does not answer, or the repository is gone.
        """
        from huggingface_hub import CommitOperationDelete
        from huggingface_hub.errors import HfHubHTTPError

        additions = [_addition(name, content) for name, content in files.items()]
        self._upload(additions)
        for attempt in range(MAX_ATTEMPTS):
            seen = self.look()
            if seen is None or seen.renamed:  # the Hub would put the commit into the renamed one
                raise self._gone()
            deletions = [CommitOperationDelete(path_in_repo=name) for name in stale(parent)]
            try:
                return self._api.create_commit(
                    self.id, [*additions, *deletions], repo_type=self.type, commit_message=title,
                    commit_description=key, parent_commit=parent, revision=self.branch,
                ).oid  # fmt: skip
            except Exception as error:
                # Of a lost answer nobody knows whether the commit was made: look, never repeat.
                if sha := self.landed(key):
                    return sha
                if isinstance(error, HfHubHTTPError) and error.response.status_code == 412:
                    parent = self._rebased(parent, {*files, *stale(parent)}, say)
                elif attempt == MAX_ATTEMPTS - 1 or not is_transient(error):
                    raise self._explained(error) from error
                else:
                    wait_before_retry(attempt, error)
        raise Stopped(f"{self.url} changes too often to release on it now; run it again later")

    def tag(self, name: str, sha: str) -> None:
        """Let a tag stand for a commit, for ever.

        Raises:
            InputError: it stands for another one.
        """
        for attempt in range(MAX_ATTEMPTS):
            try:
                self._api.create_tag(self.id, tag=name, revision=sha, repo_type=self.type)
                return
            except Exception as error:
                stands_for = self.tags().get(name)
                if stands_for == sha:
                    return
                if stands_for:
                    raise InputError(
                        f"tag {name} of {self.url} stands for {stands_for[:7]} and never moves; "
                        "give another version"
                    ) from error
                if attempt == MAX_ATTEMPTS - 1 or not is_transient(error):
                    raise self._explained(error) from error
                wait_before_retry(attempt, error)

    def _rebased(self, parent: str, touched: set[str], say: Callable[[str], None]) -> str:
        """The new head to release on, if the change since `parent` touched none of our files."""
        head = self.head()
        if head is None:
            raise self._gone()
        change = self.since(parent, head)
        if change.paths & touched:
            raise InputError(
                f"{self.url} has moved: {change}; nothing was released. Look at that change, then "
                "run it again"
            )
        say(f"{change} meanwhile, no file of this release; releasing on top of it")
        return head

    def _upload(self, additions: list[CommitOperationAdd]) -> None:
        self._ask(
            self._api.preupload_lfs_files, self.id, additions, repo_type=self.type,
            free_memory=False,
        )  # fmt: skip

    def _commits(self, revision: str):
        return self._ask(
            self._api.list_repo_commits, self.id, repo_type=self.type, revision=revision
        )

    def _ask(
        self,
        function: Callable[..., R],
        *args: Any,
        pass_on: type[Exception] | tuple[type[Exception], ...] = (),
        first: bool = False,
        **kwargs: Any,
    ) -> R:
        """Call the Hub, again where that may help; not for calls that must not happen twice.

        Args:
            pass_on: errors that say that something is not there, for the caller to handle.
            first: nothing was asked before, so where there is no connection, there is no network.
        """
        for attempt in range(MAX_ATTEMPTS):
            try:
                return function(*args, **kwargs)
            except Exception as error:
                # A 401 is how the Hub hides what a bad token may not see.
                if isinstance(error, pass_on) and http_status(error) != 401:
                    raise
                hopeless = first and is_unreachable(error)
                if attempt == MAX_ATTEMPTS - 1 or hopeless or not is_transient(error):
                    raise self._explained(error) from error
                wait_before_retry(attempt, error)
        raise AssertionError("unreachable")

    def _explained(self, error: Exception) -> Exception:
        return explain_hub_error(error, self.id, self.url)

    def _gone(self) -> Stopped:
        return repo_gone(self.url)


def _addition(name: str, content: Path | bytes) -> CommitOperationAdd:
    from huggingface_hub import CommitOperationAdd

    return CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
