"""Order the versions on the Hub, which are SemVer tags that never move."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from semver import Version

from code_alpaca.core.config import SEMVER

README = "README.md"


class ReleaseVersion(NamedTuple):
    """A version to release, and the file that records its progress on this disk."""

    number: str  # SemVer
    key: str | None  # content hash that its commit's description starts with; None: not known yet
    progress_file: Path  # exists while the release is started and not finished
    option: str  # the config key of the version, for messages

    @property
    def tag(self) -> str:
        return f"v{self.number}"

    @property
    def visibility_file(self) -> Path:
        """The file that records which repositories were private."""
        return self.progress_file.with_name(".hub.seen")


def latest_version(tags: Iterable[str]) -> str | None:
    """Return the highest version among tags like `v1.2.0`, without the v; None if there is none."""
    versions = [tag[1:] for tag in tags if tag.startswith("v") and SEMVER.fullmatch(tag[1:])]
    return max(versions, key=Version.parse, default=None)


def read_text(path: Path) -> str:
    """Return the text of a file that people may have edited, in any encoding."""
    return path.read_bytes().decode("utf-8", errors="replace")


def read_json(path: Path) -> Any:
    """Return the value in a JSON file; None if it is missing or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
