"""Tell and show what a run made, spent and rejected, from its ledger alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import Field
from rich.console import Console
from rich.table import Table

from code_alpaca.core import fs, plots
from code_alpaca.core.config import StageConfig
from code_alpaca.core.ledger import Ledger
from code_alpaca.core.redact import redact
from code_alpaca.core.schema import DERISK_ROWS, fulfilled
from code_alpaca.dataset.describe import Description
from code_alpaca.report import page


class ReportConfig(StageConfig):
    """The keys of `code-alpaca report`."""

    run_dir: Path = Field(description="a run folder of generate or curate")
    page_rows: int = Field(
        4_000,
        ge=0,
        description="report.html shows at most this many accepted and as many rejected rows, "
        "the first ones; 0: no page",
    )
    find_neighbours: int = Field(
        0,
        ge=0,
        description="also write neighbours.jsonl: for every accepted row this many of the most "
        "similar earlier ones and the mean similarity, as in 2023",
    )


def write_report(config: ReportConfig) -> None:
    """Print the tables and write the same numbers to `<run_dir>/report.json`, as pictures into
    `<run_dir>/report/`, and with the rows to `<run_dir>/report.html`.

    Raises:
        InputError: `run_dir` holds no ledger.
    """
    folder, console = config.run_dir, Console(highlight=False)
    with Ledger(folder / "ledger.sqlite", write=False) as ledger:
        manifest = _manifest(ledger, folder.resolve().name)
        facts = _facts(ledger, manifest)
        text = json.dumps(facts, indent=2) + "\n"
        (folder / "report.json").write_text(text, encoding="utf-8")
        _print(facts, console)
        plots.draw(manifest, folder / "report")
        if config.page_rows:
            rows = _rows(ledger, config.page_rows)
            page.write(folder / "report.html", manifest, rows, folder / "report")
            console.print(f"report    {folder / 'report.html'}", soft_wrap=True)
        else:
            (folder / "report.html").unlink(missing_ok=True)  # it would show an older run
    if config.neighbours:
        path = _write_neighbours(folder, config.neighbours)
        console.print(f"report    {path}", soft_wrap=True)


def _manifest(ledger: Ledger, name: str) -> dict[str, Any]:
    """What the manifest of a dataset made of this run would say, as far as the pictures ask."""
    description, accepted = Description(), 0
    config = redact(ledger.record("config", {}))
    for example in ledger.accepted(config.get("num_examples")):  # as the dataset has them
        accepted += 1
        description.add(example.as_row())
    statistics, reasons = description.facts(), ledger.reasons()
    rejected = sum(reasons.values())
    return {
        "name": name,
        "teacher": config.get("teacher_model"),
        "strategy": config.get("strategy"),
        "config": config,
        "counts": {
            "default": accepted,
            "derisk": min(accepted, DERISK_ROWS),
            "verified": statistics["verification"].get("passed", 0),
            "rejected": rejected,
        },
        "candidates": accepted + rejected,
        "rejected_by_reason": reasons,
        "cost_usd": round(ledger.spent(), 6),
        "statistics": statistics,
        "pace": ledger.pace(),
    }


def _facts(ledger: Ledger, manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Totals, rejected candidates by reason, accepted rows by language and verification, and
    what was asked for (strategies, quotas) against what was accepted of it, in tasks and rows."""
    asked: dict[str, dict[str, int]] = {}
    for wish, got in ledger.asked():
        count = wish.pop("count", 0)
        for dimension, label in wish.items():
            row = asked.setdefault(f"{dimension}: {label}", {"asked": 0, "got": 0})
            row["asked"] += count
            row["got"] += fulfilled(dimension, label, got)
    statistics = manifest["statistics"]
    return {
        "totals": {
            **ledger.usage(),
            "candidates": manifest["candidates"],
            "accepted": manifest["counts"]["default"],
            "accepted_with_input": statistics["with_input"],
            "rejected": manifest["counts"]["rejected"],
            "cost_usd": manifest["cost_usd"],
        },
        "rejected": manifest["rejected_by_reason"],
        "asked_and_got": dict(sorted(asked.items())),
        "languages": statistics["languages"],
        "verification": statistics["verification"],
    }


def _print(facts: dict[str, dict[str, Any]], console: Console) -> None:
    for title, rows in facts.items():
        first = next(iter(rows.values()), None)
        columns = list(first) if isinstance(first, dict) else ["count"]
        table = Table(title=title.replace("_", " "), title_justify="left")
        table.add_column("what")
        for column in columns:
            table.add_column(column, justify="right")
        for name, value in rows.items():
            values = value.values() if isinstance(value, dict) else [value]
            shown = name.replace("_", " ") if title == "totals" else name
            table.add_row(shown, *(f"{each:,}" for each in values))
        if rows:
            console.print(table)


def _rows(ledger: Ledger, most: int) -> Iterator[dict[str, Any]]:
    """The first rows of either kind, accepted ones first."""
    for example in ledger.accepted(most):
        yield example.as_row()
    for decision in islice(ledger.rejected(), most):
        yield decision.as_row()


def _write_neighbours(run_dir: Path, most: int) -> Path:
    from code_alpaca.curation.novelty.pool import find_neighbours

    with Ledger(run_dir / "ledger.sqlite", write=False) as ledger:
        rows = list(ledger.accepted())
        measure = ledger.record("config", {}).get("novelty", "rouge_l")
    path = run_dir / "neighbours.jsonl"
    with fs.atomic_writer(path) as file:
        for found in find_neighbours(rows, measure, most):
            file.write(json.dumps(found._asdict()) + "\n")
    return path
