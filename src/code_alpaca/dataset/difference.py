"""Compare two versions of a dataset row by row, and record the difference in CHANGELOG.md."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from code_alpaca.core.console import plural
from code_alpaca.core.markdown import code, inline
from code_alpaca.core.records import Manifest
from code_alpaca.dataset.shards import VOLATILE_COLUMNS, read_columns, read_rows

TASK_COLUMNS = ("instruction", "input")
CHANGELOG_HEADING = "# Changelog\n\nOne entry per version; row counts are those of `default`.\n"


class VersionDiff(NamedTuple):
    """The difference between two versions; duplicate rows are counted separately.

    A row is `changed` if its task was in the old version with another output or other values.
    """

    added: int
    removed: int
    changed: int
    columns_added: list[str]
    columns_removed: list[str]
    bytes_before: int
    bytes_after: int
    seed_tasks: str = ""  # how they differ, in words

    def __str__(self) -> str:
        parts = [
            f"{plural(self.added, 'row')} added, {self.removed:,} removed, {self.changed:,} changed"
        ]
        for label, names in (("new", self.columns_added), ("dropped", self.columns_removed)):
            if names:
                parts.append(f"{label} columns {', '.join(names)}")
        if self.seed_tasks:
            parts.append(self.seed_tasks)
        before, after = self.bytes_before / 1e6, self.bytes_after / 1e6
        parts.append(f"{before:,.2f} MB before, {after:,.2f} MB now")
        return "; ".join(parts)


def diff_versions(old: Iterable[Path], new: Iterable[Path]) -> VersionDiff:
    """Compare two versions by the shards of `default`, with two hashes per row in memory."""
    old, new = list(old), list(new)
    old_columns, new_columns = (read_columns(paths[0]) if paths else [] for paths in (old, new))
    shared = [c for c in new_columns if c in old_columns and c not in VOLATILE_COLUMNS]
    old_rows, new_rows = Counter(_hash_rows(old, shared)), Counter(_hash_rows(new, shared))
    removed, added = old_rows - new_rows, new_rows - old_rows
    changed = (_count_tasks(removed) & _count_tasks(added)).total()
    return VersionDiff(
        added=added.total() - changed,
        removed=removed.total() - changed,
        changed=changed,
        columns_added=[c for c in new_columns if c not in old_columns],
        columns_removed=[c for c in old_columns if c not in new_columns],
        bytes_before=sum(path.stat().st_size for path in old),
        bytes_after=sum(path.stat().st_size for path in new),
    )


def update_changelog(
    manifest: Manifest, since: str | None, diff: VersionDiff | None, changelog: str | None
) -> str:
    """Return the changelog with an entry for this version on top.

    Args:
        since: the version that `diff` compares with; None for the first version.
        changelog: the current file; its other entries are kept.
    """
    rows, verified = manifest.counts["default"], manifest.counts["verified"]
    if manifest.strategy == "imported":
        origin = f"Rows of {code(manifest.source)} ({inline(manifest.source_revision)})."
    else:
        origin = f"Teacher {code(manifest.teacher)}, prompts {code(manifest.prompt_version)}."
    entry = [
        f"## {manifest.version} ({str(manifest.created_at)[:10]})\n",
        f"- First version: {plural(rows, 'row')}." if diff is None else f"- Since {since}: {diff}.",
        f"- {verified:,} of {plural(rows, 'row passed its tests', 'rows passed their tests')}.",
        f"- {origin}",
    ]
    heading, *entries = (changelog or CHANGELOG_HEADING).split("\n## ")
    # An older entry of this version belongs to a release that was not finished.
    older = [e.strip() for e in entries if not e.startswith(f"{manifest.version} ")]
    return "\n\n".join([heading.strip(), "\n".join(entry), *(f"## {e}" for e in older)]) + "\n"


def _hash_rows(paths: list[Path], columns: list[str]) -> Iterator[tuple[int, int]]:
    """Yield a hash of the task and a hash of all columns for every row."""
    for path in paths:
        for row in read_rows(path, columns):
            yield _hash(row, TASK_COLUMNS), _hash(row, columns)


def _count_tasks(rows: Mapping[tuple[int, int], int]) -> Counter[int]:
    tasks: Counter[int] = Counter()
    for (task, _), count in rows.items():
        tasks[task] += count
    return tasks


def _hash(row: Mapping[str, Any], columns: Iterable[str]) -> int:
    text = repr([row.get(column) for column in columns])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
