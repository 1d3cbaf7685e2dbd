"""Read and write one repository on the Hub, with retries and errors in one line.

Only this package writes to a Hub. Reads and repeatable writes are retried here; `release` decides
when to repeat the commit of a release.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from code_alpaca.core.errors import InputError
from code_alpaca.hub import errors
from code_alpaca.hub.permissions import require_create_permission

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    Operation = CommitOperationAdd | CommitOperationDelete

MAX_ATTEMPTS = 6
RepoType = Literal["dataset", "model", "space"]


class RepoInfo(NamedTuple):
    """The current state of a repository."""

    head: str | None  # commit of `main`; None for a repository without commits
    private: bool
    renamed: str  # its new name, if it was renamed; else ""


class ReleaseCommit(NamedTuple):
    """A commit that released a version; its tag may be missing."""

    sha: str
    title: str  # "Release v1.0.0"
    key: str  # the description of the commit

    @property
    def tag(self) -> str:
        return self.title.removeprefix("Release ").strip()


class RepoChange(NamedTuple):
    """The newest commit since a release started, and all files that differ."""

    author: str
    time: str
    title: str
    paths: frozenset[str]

    def __str__(self) -> str:
        files = ", ".join(sorted(self.paths)[:5])
        return f"{self.author} committed {self.title!r} on {self.time} ({files})"


class HubRepo:
    """A repository on the Hub, with the branch of its releases.

    Every method raises InputError if the token, the repository or its name is not valid, and
    Stopped if the Hub does not respond after several attempts.
    """

    def __init__(self, repo_id: str, repo_type: RepoType = "dataset", branch: str = "main") -> None:
        from huggingface_hub import HfApi

        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo_id):
            raise InputError(f"{repo_id!r} is not a name on the Hub; use ORG/NAME")
        self.id, self.type, self.branch = repo_id, repo_type, branch
        self._api = HfApi(library_name="code-alpaca")

    @property
    def url(self) -> str:
        folder = "" if self.type == "model" else f"{self.type}s/"
        return f"{self._api.endpoint}/{folder}{self.id}"

    def require_login(self) -> dict[str, Any]:
        """Return the Hub's `whoami`; refuse a missing or read-only token."""
        from huggingface_hub import get_token

        if not get_token():
            raise InputError(
                f"no token for the Hub; {errors.WRITE_TOKEN_ADVICE}, then run `hf auth login` or "
                "set HF_TOKEN"
            )
        whoami = self._call(self._api.whoami, fail_without_network=True)
        token = (whoami.get("auth") or {}).get("accessToken") or {}
        if token.get("role") == "read":
            raise InputError(
                f"the token of {whoami['name']} is read-only; {errors.WRITE_TOKEN_ADVICE}, then "
                "rerun the command"
            )
        return whoami

    def require_write(self, whoami: Mapping[str, Any], *, exists: bool) -> None:
        """Refuse a repository, or the namespace of a new one, that the token may not write to."""
        if not exists:
            require_create_permission(whoami, self.id)
            return
        # Every upload starts with this request, which the Hub only accepts from writers.
        self.upload([make_addition("README.md", b"# ")])

    def require_private(self, info: RepoInfo) -> None:
        """Refuse a public repository."""
        if not info.private:
            raise InputError(
                f"{self.url} is public, and `private` applies to new repositories only; change "
                "it on its page (Settings), or set another name"
            )

    def check_card(self, text: str) -> None:
        """Refuse a card whose metadata the Hub rejects, such as an unknown license."""
        self._call(self._validate_card, {"repoType": self.type, "content": text})

    def get_info(self) -> RepoInfo | None:
        """Return the state of the repository; None if the token sees none of this name."""
        from huggingface_hub.errors import RepositoryNotFoundError

        info = self._request(self._api.repo_info, missing=RepositoryNotFoundError)
        if info is None:
            return None
        name = getattr(info, "id", None) or self.id  # the Hub redirects to a repository's new name
        renamed = name if name.lower() != self.id.lower() else ""
        return RepoInfo(info.sha, bool(info.private), renamed)

    def head(self, revision: str | None = None) -> str | None:
        """Return the commit of a revision, by default of the branch; None if it does not exist."""
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        missing = (RepositoryNotFoundError, RevisionNotFoundError)
        revision = revision or self.branch
        info = self._request(self._api.repo_info, revision=revision, missing=missing)
        return info.sha if info else None

    def refs(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return the commit of each branch and of each tag."""
        found = self._request(self._api.list_repo_refs)
        branches, tags = (
            {ref.name: ref.target_commit for ref in refs} for refs in (found.branches, found.tags)
        )
        return branches, tags

    def releases(self, prefix: str, revision: str) -> list[ReleaseCommit]:
        """Return the commits before a revision whose description has a prefix, newest first."""
        return [
            ReleaseCommit(commit.commit_id, commit.title, commit.message.strip())
            for commit in self._commits(revision)
            if commit.message.startswith(prefix)
        ]

    def changes_since(self, parent: str, head: str) -> RepoChange:
        """Return the newest commit after `parent`, and all files that differ between the two."""
        newest = self._commits(head)[0]
        before, after = self.files(parent), self.files(head)
        paths = {path for path, _ in before.items() ^ after.items()}
        time = f"{newest.created_at:%Y-%m-%d %H:%M:%S} UTC"
        authors = ", ".join(newest.authors) or "unknown author"
        return RepoChange(authors, time, newest.title, frozenset(paths))

    def files(self, revision: str) -> dict[str, str]:
        """Return the hash of each file at a commit."""
        from huggingface_hub.hf_api import RepoFile

        def list_files(*args: Any, **kwargs: Any) -> list[Any]:
            return list(self._api.list_repo_tree(*args, **kwargs))  # each page is a request

        return {
            entry.path: entry.lfs.sha256 if entry.lfs else entry.blob_id
            for entry in self._request(list_files, revision=revision, recursive=True)
            if isinstance(entry, RepoFile)
        }

    def fetch(self, path: str, revision: str) -> Path | None:
        """Download a file at a commit; None if it does not exist."""
        from huggingface_hub.errors import RemoteEntryNotFoundError

        missing = RemoteEntryNotFoundError
        found = self._request(self._api.hf_hub_download, path, revision=revision, missing=missing)
        return Path(found) if found else None

    def create(self, *, private: bool, space_sdk: str | None = None) -> None:
        """Create the repository, unless it exists; refuse a public one that should be private."""
        # None: the default of its owner, which may be private.
        options = {"private": private or None, "space_sdk": space_sdk, "exist_ok": True}
        self._request(self._api.create_repo, **options)
        if private and (info := self.get_info()):
            self.require_private(info)

    def create_branch(self) -> None:
        """Create the branch from `main`, unless it exists."""
        self._request(self._api.create_branch, branch=self.branch, exist_ok=True)

    def upload(self, additions: list[CommitOperationAdd]) -> None:
        """Upload the content of large files before the commit that adds them."""
        self._request(self._api.preupload_lfs_files, additions, free_memory=False)

    def create_commit(
        self, operations: Sequence[Operation], title: str, description: str, parent: str
    ) -> str:
        """Create a commit on the branch and return its hash; errors are not retried."""
        return self._api.create_commit(
            self.id, operations, repo_type=self.type, commit_message=title,
            commit_description=description, parent_commit=parent, revision=self.branch,
        ).oid  # fmt: skip

    def create_tag(self, name: str, sha: str) -> None:
        """Tag a commit; refuse a tag that exists on another one."""
        for attempt in range(MAX_ATTEMPTS):
            try:
                self._api.create_tag(self.id, tag=name, revision=sha, repo_type=self.type)
                return
            except Exception as error:
                tagged = self.refs()[1].get(name)
                if tagged == sha:
                    return
                if tagged:
                    raise InputError(
                        f"tag {name} of {self.url} is on commit {tagged[:7]} and never moves; set "
                        "another version"
                    ) from error
                self.wait_or_raise(attempt, error)

    def wait_or_raise(self, attempt: int, error: Exception, *, permanent: bool = False) -> None:
        """Wait before the next attempt, or raise if a retry cannot help."""
        if permanent or attempt == MAX_ATTEMPTS - 1 or not errors.is_transient(error):
            raise errors.explain_hub_error(error, self.id, self.url) from error
        errors.wait_before_retry(attempt, error)

    def _commits(self, revision: str) -> list[Any]:
        return self._request(self._api.list_repo_commits, revision=revision)

    def _request(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self._call(function, self.id, *args, repo_type=self.type, **kwargs)

    def _validate_card(self, card: dict[str, str]) -> None:
        """Send the request of RepoCard.validate, which ignores HF_ENDPOINT before 2.2."""
        from huggingface_hub.utils import get_session, hf_raise_for_status

        response = get_session().post(f"{self._api.endpoint}/api/validate-yaml", json=card)
        if response.status_code == 400:
            raise ValueError(response.text)
        hf_raise_for_status(response)

    def _call(
        self,
        function: Callable[..., Any],
        *args: Any,
        missing: type[Exception] | tuple[type[Exception], ...] = (),
        fail_without_network: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Call the Hub with retries; only for calls that may be repeated.

        Args:
            missing: errors that mean that something does not exist; the result is None.
            fail_without_network: for the first request; later requests may hit a short outage.
        """
        for attempt in range(MAX_ATTEMPTS):
            try:
                return function(*args, **kwargs)
            except Exception as error:
                # With a bad token the Hub returns 401 for a repository that does not exist.
                if isinstance(error, missing) and errors.http_status(error) != 401:
                    return None
                permanent = fail_without_network and errors.is_unreachable(error)
                self.wait_or_raise(attempt, error, permanent=permanent)
        raise AssertionError("unreachable")


def make_addition(name: str, content: Path | bytes) -> CommitOperationAdd:
    from huggingface_hub import CommitOperationAdd

    return CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
