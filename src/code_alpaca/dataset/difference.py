"""What one version of a dataset has that another has not, row by row, and the changelog of it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from code_alpaca.core.markdown import code, inline

TASK = ("instruction", "input")
UNTOLD = ("created_at",)  # differs between runs that are the same otherwise
ROWS_AT_ONCE = 10_000
HEADING = "# Changelog\n\nOne entry for each version; the rows are those of `default`.\n"


class Difference(NamedTuple):
    """Rows are counted as often as they occur. `changed` are rows whose task was there already
    with another answer, or whose other columns differ."""

    added: int
    removed: int
    changed: int
    columns_added: list[str]
    columns_removed: list[str]
    bytes_before: int
    bytes_after: int

    def __str__(self) -> str:
        parts = [f"{self.added:,} rows added, {self.removed:,} removed, {self.changed:,} changed"]
        for word, names in (("new", self.columns_added), ("dropped", self.columns_removed)):
            if names:
                parts.append(f"{word} columns {', '.join(names)}")
        before, after = self.bytes_before / 1e6, self.bytes_after / 1e6
        parts.append(f"{before:,.2f} MB before, {after:,.2f} MB now")
        return "; ".join(parts)


def difference(old: Iterable[Path], new: Iterable[Path]) -> Difference:
    """Compare two versions by the Parquet files of their `default` config.

    Holds two numbers for each row in memory, whatever the length of the rows.
    """
    old, new = list(old), list(new)
    old_columns, new_columns = _columns(old), _columns(new)
    shared = [c for c in new_columns if c in old_columns and c not in UNTOLD]
    rows = {name: Counter(_keys(files, shared)) for name, files in (("old", old), ("new", new))}
    gone, come = rows["old"] - rows["new"], rows["new"] - rows["old"]
    gone_tasks, come_tasks = _tasks(gone), _tasks(come)
    changed = (gone_tasks & come_tasks).total()
    return Difference(
        added=come.total() - changed,
        removed=gone.total() - changed,
        changed=changed,
        columns_added=[c for c in new_columns if c not in old_columns],
        columns_removed=[c for c in old_columns if c not in new_columns],
        bytes_before=sum(path.stat().st_size for path in old),
        bytes_after=sum(path.stat().st_size for path in new),
    )


def entry(
    manifest: Mapping[str, Any], since: str | None, found: Difference | None, changelog: str | None
) -> str:
    """The changelog with an entry for this version on top.

    Args:
        since: the version that it is compared with; None for the first one.
        changelog: what the repository holds until now, kept as it is.
    """
    counts = manifest["counts"]
    lines = [f"## {manifest['version']} ({manifest['created_at'][:10]})", ""]
    if found is None:
        lines.append(f"- First version: {counts['default']:,} rows.")
    else:
        lines.append(f"- Since {since}: {found}.")
    lines.append(f"- {counts['verified']:,} of {counts['default']:,} rows passed their tests.")
    if manifest["strategy"] == "imported":
        lines.append(
            f"- Rows of {code(manifest['source'])} ({inline(manifest['source_revision'])})."
        )
    else:
        teacher, prompts = code(manifest["teacher"]), code(manifest["prompt_version"])
        lines.append(f"- Teacher {teacher}, prompts {prompts}.")
    head, *entries = (changelog or HEADING).split("\n## ")
    # An entry of this very version is of a release that never got its tag.
    entries = [e.strip() for e in entries if not e.startswith(f"{manifest['version']} ")]
    return "\n\n".join([head.strip(), "\n".join(lines), *(f"## {e}" for e in entries)]) + "\n"


def _columns(files: list[Path]) -> list[str]:
    import pyarrow.parquet as pq

    return pq.read_schema(files[0]).names if files else []


def _keys(files: list[Path], columns: list[str]) -> Iterator[tuple[int, int]]:
    """Of each row a number for its task and one for all its columns."""
    import pyarrow.parquet as pq

    for path in files:
        for batch in pq.ParquetFile(path).iter_batches(ROWS_AT_ONCE, columns=columns):
            for row in batch.to_pylist():
                yield _number(row, TASK), _number(row, columns)


def _tasks(rows: Mapping[tuple[int, int], int]) -> Counter[int]:
    tasks: Counter[int] = Counter()
    for (task, _), count in rows.items():
        tasks[task] += count
    return tasks


def _number(row: Mapping[str, Any], columns: Iterable[str]) -> int:
    text = repr([row.get(column) for column in columns])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
