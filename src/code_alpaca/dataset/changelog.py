"""Write the CHANGELOG.md of a dataset repository: one entry per version."""

from __future__ import annotations

from code_alpaca.core.markdown import code, inline
from code_alpaca.core.records import Manifest
from code_alpaca.dataset.difference import VersionDiff

HEADING = "# Changelog\n\nOne entry per version; row counts are those of `default`.\n"


def update_changelog(
    manifest: Manifest, since: str | None, diff: VersionDiff | None, changelog: str | None
) -> str:
    """Return the changelog with an entry for this version on top.

    Args:
        since: the version that `diff` compares with; None for the first version.
        changelog: the current file, whose other entries are kept.
    """
    rows, verified = manifest.counts["default"], manifest.counts["verified"]
    lines = [
        f"## {manifest.version} ({str(manifest.created_at)[:10]})",
        "",
        f"- First version: {rows:,} rows." if diff is None else f"- Since {since}: {diff}.",
        f"- {verified:,} of {rows:,} rows passed their tests.",
    ]
    if manifest.strategy == "imported":
        lines.append(f"- Rows of {code(manifest.source)} ({inline(manifest.source_revision)}).")
    else:
        teacher, prompts = code(manifest.teacher), code(manifest.prompt_version)
        lines.append(f"- Teacher {teacher}, prompts {prompts}.")
    heading, *entries = (changelog or HEADING).split("\n## ")
    # An older entry of this version belongs to a release that was not finished.
    older = [e.strip() for e in entries if not e.startswith(f"{manifest.version} ")]
    return "\n\n".join([heading.strip(), "\n".join(lines), *(f"## {e}" for e in older)]) + "\n"
