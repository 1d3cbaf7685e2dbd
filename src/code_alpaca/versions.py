"""Versions on the Hub: SemVer tags that never move, each on one commit, safe to make again.

Datasets, models and Spaces are all released by `make`; what is in them is their own affair.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from code_alpaca import cards
from code_alpaca.config import SEMVER
from code_alpaca.errors import InputError
from code_alpaca.hub import Repo

README = "README.md"
Say = Callable[[str], None]


class Version(NamedTuple):
    """A release that is to stand on the Hub as a tag."""

    number: str  # SemVer
    key: str  # says which release this is, for ever: how the description of its commit starts
    under_way: Path  # on this disk, while the release is begun and not finished
    option: str  # the key of the command that gives the number, for messages

    @property
    def tag(self) -> str:
        return f"v{self.number}"


class Contents(NamedTuple):
    """What the commit of a release makes of the repository."""

    files: Mapping[str, Path | bytes]  # path in the repository -> path on this disk, or content
    parent: str  # the commit that this goes on top of
    owned: Sequence[str]  # files, and folders ending in "/", of which all else is deleted


def make(
    repo: Repo,
    version: Version,
    contents: Callable[[Mapping[str, str]], Contents],
    *,
    private: bool,
    space_sdk: str | None = None,
    say: Say = print,
) -> str:
    """Make a version of a repository, and return its commit.

    Whatever stops it, the same call goes on, and readers see the old version or the new one whole.
    Once all that belongs to the release is done, the caller deletes `version.under_way`.

    Args:
        contents: from the tags and their commits; called only where the commit is not made yet,
            and before anything but the repository itself is.
        private: of a repository that is made now.

    Raises:
        InputError: the version exists; no token that may write; somebody else changed the same
            files meanwhile.
        Stopped: the Hub does not answer.
    """
    repo.log_in()
    mark = {"repo": repo.id, "tag": version.tag, "key": version.key}
    begun = read_json(version.under_way) == mark
    repo.create(private=private, space_sdk=space_sdk)
    tags = repo.tags()
    sha = repo.landed(version.key)
    if version.tag in tags and not (begun and sha == tags[version.tag]):
        raise InputError(exists(repo, version, tags))
    if sha is None:
        files, parent, owned = contents(tags)
        version.under_way.write_text(json.dumps(mark), encoding="utf-8")
        sha = repo.release(
            files, key=version.key, title=f"Release {version.tag}", parent=parent, owned=owned,
            say=say,
        )  # fmt: skip
    repo.tag(version.tag, sha)
    return sha


def keep_edits(
    repo: Repo, ours: str, path: str, head: str, last: str | None, say: Say = print
) -> str:
    """Our new card with what people wrote into the one on the Hub (see `cards.merge`).

    Args:
        path: where a release keeps its card as it was made, beside the README.md.
        head: the commit whose card may have been edited.
        last: the commit of the last release, if there is one.
    """
    theirs = repo.fetch(README, head)
    base = repo.fetch(path, last) if last else None
    if not theirs or not base or theirs.read_bytes() == base.read_bytes():
        return ours
    merged = cards.merge(ours, text_of(base), text_of(theirs))
    for word, sections in (("kept", merged.kept), ("made anew", merged.lost)):
        if sections:
            say(f"README edited on the Hub, {word}: {', '.join(sections)}")
    return merged.text


def exists(repo: Repo, version: Version, tags: Mapping[str, str]) -> str:
    """Why a version that exists is not made again, in words."""
    return (
        f"{repo.url} has {version.tag} already (commit {tags[version.tag][:7]}), and a version "
        f"never changes; give a {version.option} higher than {latest(tags)}"
    )


def check_order(
    repo: Repo, version: Version, tags: Iterable[str], *, allow_older: bool = False
) -> None:
    """Refuse a version lower than the last one.

    Raises:
        InputError: naming both.
    """
    last = latest(tags)
    if last and precedence(version.number) < precedence(last) and not allow_older:
        raise InputError(
            f"{repo.url} is at v{last} and {version.number} is lower; give a higher "
            f"{version.option}, or --allow_older true"
        )


def precedence(version: str) -> tuple[Any, ...]:
    """What versions are ordered by (https://semver.org, section 11)."""
    core, _, before = version.partition("-")
    parts = [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in before.split(".") if p]
    return tuple(int(part) for part in core.split(".")), not before, parts


def latest(tags: Iterable[str]) -> str | None:
    """The highest version among tags like `v1.2.0`, without its v; other tags do not count."""
    versions = [tag[1:] for tag in tags if tag.startswith("v") and SEMVER.fullmatch(tag[1:])]
    return max(versions, key=precedence, default=None)


def text_of(path: Path) -> str:
    """Of a file that people may have written, in whatever encoding."""
    return path.read_bytes().decode("utf-8", errors="replace")


def read_json(path: Path) -> Any:
    """What a JSON file holds; None where there is none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
