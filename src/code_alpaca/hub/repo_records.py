"""What the Hub returns about a repository, reduced to what a release needs."""

from __future__ import annotations

from typing import NamedTuple


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

    sha: str
    author: str
    time: str
    title: str
    paths: frozenset[str]

    def __str__(self) -> str:
        files = ", ".join(sorted(self.paths)[:5])
        return f"{self.author} committed {self.title!r} on {self.time} ({files})"
