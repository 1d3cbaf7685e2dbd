"""What the Hub answers about a repository, as far as a release needs it."""

from __future__ import annotations

from typing import NamedTuple


class RepoChange(NamedTuple):
    """What somebody committed since: who and when, and which files differ."""

    sha: str
    author: str
    when: str
    title: str
    paths: frozenset[str]

    def __str__(self) -> str:
        files = ", ".join(sorted(self.paths)[:5])
        return f"{self.author} committed {self.title!r} on {self.when} ({files})"


class ReleaseCommit(NamedTuple):
    """A commit in the history that released a version, whether or not its tag is still there."""

    sha: str
    title: str  # "Release v1.0.0"
    key: str  # the description that the commit was made with

    @property
    def tag(self) -> str:
        return self.title.removeprefix("Release ").strip()


class RepoInfo(NamedTuple):
    """What one look at a repository shows."""

    head: str | None  # of `main`; None where it holds no commit
    private: bool
    renamed: str  # what it is called now, where it was renamed; else ""
