"""Write the report of a run as one HTML page with its numbers, its plots and its rows.

The page is one file that works offline. A model wrote the rows, so they are never parsed as markup:
they are embedded as compressed JSON, the script inserts them as text nodes, and a
Content-Security-Policy allows only that script and forbids loading anything.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from code_alpaca.core import fs
from code_alpaca.core.records import RunSummary
from code_alpaca.dataset import plots
from code_alpaca.report.highlighting import highlight
from code_alpaca.report.lineage import LineageReader
from code_alpaca.report.page_origins import pack_origins, shorten

# Some lexers take quadratic time on text that is not code. So only short texts are highlighted,
# within a time budget per page.
MAX_HIGHLIGHTED_LENGTH = 4_000  # characters
HIGHLIGHTING_BUDGET_S = 30.0  # typical code takes 1 s for 2,000 rows
TEXT_COLUMNS = ("instruction", "input", "output", "tests")
OTHER_COLUMNS = ("id", "language", "verification", "nearest_id", "nearest_score", "reason",
                 "evidence", "seed_ids", "request_id")  # fmt: skip


@dataclass(frozen=True, slots=True)
class PageContent:
    """What the page shows."""

    summary: RunSummary
    # Columns as in `schema.Example`; a rejected row also has `reason` and `evidence`.
    rows: Iterable[dict[str, Any]]
    plot_folder: Path  # has the files of `dataset.plots.draw_plots`; missing ones are left out
    lineage: LineageReader | None = None  # the ledger with prompts, replies and decisions


def write_page(
    path: Path, content: PageContent, *, highlighting_budget_s: float = HIGHLIGHTING_BUDGET_S
) -> int:
    """Write the page atomically and return the number of rows on it."""
    summary, lineage = content.summary, content.lineage
    packed, num_rows, request_ids = _pack_rows(content.rows, highlighting_budget_s)
    origins, omitted = pack_origins(request_ids, lineage) if lineage else ("", 0)
    style, script = _read_asset("page.css"), _read_asset("page.js")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=True
    )
    html = environment.from_string(_read_asset("page.html.jinja")).render(
        name=summary.name or "Code Alpaca",
        about=_describe_run(summary),
        headline=_headline(summary),
        num_rows=num_rows,
        counts=summary.counts,
        plots=_encode_plots(content.plot_folder),
        style=style,
        script=script,
        policy=(
            f"default-src 'none'; img-src data:; style-src {_csp_hash(style)}; "
            f"script-src {_csp_hash(script)}; base-uri 'none'; form-action 'none'"
        ),
        packed=packed,
        origins=origins,
        omitted=omitted,
        num_requests=len(request_ids),
    )
    fs.write_text(path, html)
    return num_rows.total()


def _encode_plots(folder: Path) -> list[tuple[str, str]]:
    """Return the caption of each plot and its content as base64."""
    return [
        (plots.caption(name), base64.b64encode((folder / name).read_bytes()).decode())
        for name in plots.PLOTS
        if (folder / name).exists()
    ]


def _describe_run(summary: RunSummary) -> list[str]:
    facts = {"teacher": summary.teacher, "strategy": summary.strategy}
    return [f"{key} {value}" for key, value in facts.items() if value not in (None, "", "unknown")]


def _headline(summary: RunSummary) -> list[tuple[str, str]]:
    """Return the numbers at the top of the page, each with its label."""
    counts, candidates = summary.counts, summary.candidates
    rate = f" ({100 * counts['default'] / candidates:.0f}%)" if candidates else ""
    headline = [
        (f"{candidates:,}", "candidates"),
        (f"{counts['default']:,}", f"accepted{rate}"),
        (f"{counts.get('verified', 0):,}", "verified by tests"),
        (f"{counts.get('rejected', 0):,}", "rejected"),
    ]
    if summary.cost_usd:
        headline.append((f"${summary.cost_usd:,.2f}", "spent"))
    return headline


def _pack_rows(
    rows: Iterable[dict[str, Any]], budget_s: float
) -> tuple[str, Counter[str], list[str]]:
    """Return the rows as base64 of gzipped JSON, the number of accepted and of rejected rows, and
    the ids of their requests.
    """
    request_ids: dict[str, None] = {}  # a set that keeps their order
    num_rows: Counter[str] = Counter()
    buffer, seconds, separator = io.BytesIO(), 0.0, "["
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as file:
        for row in rows:
            request_ids[row["request_id"]] = None
            num_rows["rejected" if row.get("reason") else "accepted"] += 1
            record, start = _page_record(row), time.monotonic()
            if seconds < budget_s and (colors := _highlight_record(record)):
                record["colors"] = colors
            seconds += time.monotonic() - start
            # ASCII escapes lone surrogates, which a rejected row can contain.
            file.write((separator + json.dumps(record, separators=(",", ":"))).encode())
            separator = ",\n"
        file.write(b"]" if separator != "[" else b"[]")
    return base64.b64encode(buffer.getvalue()).decode(), num_rows, list(request_ids)


def _page_record(row: dict[str, Any]) -> dict[str, Any]:
    """Return the columns that the page shows, without empty ones, long texts truncated."""
    record = {name: row[name] for name in OTHER_COLUMNS if row.get(name)}
    if row.get("test_strength") is not None:
        record["test_strength"] = row["test_strength"]
    for name in TEXT_COLUMNS:
        if text := row.get(name):
            record[name] = shorten(text)
    return record


def _highlight_record(record: dict[str, Any]) -> dict[str, str]:
    """Return the highlighting of each text that has any; tests are Python by default."""
    language = record.get("language", "")
    colors = {
        name: highlight(record[name], language or ("python" if name == "tests" else ""))
        for name in ("input", "output", "tests")
        if 0 < len(record.get(name, "")) <= MAX_HIGHLIGHTED_LENGTH
    }
    return {name: runs for name, runs in colors.items() if runs}


def _csp_hash(text: str) -> str:
    """Return the Content-Security-Policy source of an inline style or script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _read_asset(name: str) -> str:
    return resources.files("code_alpaca").joinpath("report", name).read_text("utf-8")
