"""Versions on the Hub: SemVer tags that never move, and their order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from code_alpaca.core.config import SEMVER
from code_alpaca.core.errors import InputError
from code_alpaca.hub.client import HubRepo

README = "README.md"
Say = Callable[[str], None]


class ReleaseVersion(NamedTuple):
    """A release that is to stand on the Hub as a tag."""

    number: str  # SemVer
    key: str | None  # of the content: how the description of its commit starts; None: not known yet
    under_way: Path  # on this disk, while the release is begun and not finished
    option: str  # the key of the command that gives the number, for messages

    @property
    def tag(self) -> str:
        return f"v{self.number}"

    @property
    def seen(self) -> Path:
        """Where it is noted on this disk which repositories were private."""
        return self.under_way.with_name(".hub.seen")


def describe_existing(repo: HubRepo, version: ReleaseVersion, tags: Mapping[str, str]) -> str:
    """Why a version that exists is not made again, in words."""
    return (
        f"{repo.url} has {version.tag} already (commit {tags[version.tag][:7]}), and a version "
        f"never changes; give a {version.option} higher than {latest_version(tags)}"
    )


def check_order(
    repo: HubRepo, version: ReleaseVersion, tags: Iterable[str], *, allow_older: bool = False
) -> None:
    """Refuse a version lower than the last one.

    Raises:
        InputError: naming both.
    """
    last = latest_version(tags)
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


def latest_version(tags: Iterable[str]) -> str | None:
    """The highest version among tags like `v1.2.0`, without its v; other tags do not count."""
    versions = [tag[1:] for tag in tags if tag.startswith("v") and SEMVER.fullmatch(tag[1:])]
    return max(versions, key=precedence, default=None)


def read_text(path: Path) -> str:
    """Of a file that people may have written, in whatever encoding."""
    return path.read_bytes().decode("utf-8", errors="replace")


def read_json(path: Path) -> Any:
    """What a JSON file holds; None where there is none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
