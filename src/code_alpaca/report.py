"""Tell what a run made, spent and rejected, from its ledger alone."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import Field
from rich.console import Console
from rich.table import Table

from code_alpaca.config import StageConfig
from code_alpaca.ledger import Ledger
from code_alpaca.schema import fulfilled


class Config(StageConfig):
    """The keys of `code-alpaca report`."""

    run_dir: Path = Field(description="a run folder of generate or curate")
    neighbours: int = Field(
        0,
        ge=0,
        description="also write neighbours.jsonl: of every accepted row so many most similar "
        "earlier ones and the mean similarity, as in 2023",
    )


def run(config: Config) -> None:
    """Print the tables and write the same numbers to `<run_dir>/report.json`.

    Raises:
        InputError: `run_dir` holds no ledger.
    """
    facts = collect(config.run_dir)
    text = json.dumps(facts, indent=2) + "\n"
    (config.run_dir / "report.json").write_text(text, encoding="utf-8")
    console = Console(highlight=False)
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
    if config.neighbours:
        path = _write_neighbours(config.run_dir, config.neighbours)
        console.print(f"report    {path}")


def _write_neighbours(run_dir: Path, most: int) -> Path:
    from code_alpaca.curation.novelty import neighbours

    with Ledger(run_dir / "ledger.sqlite", write=False) as ledger:
        rows = [example for _, example in ledger.accepted()]
        measure = json.loads(ledger.meta("config") or "{}").get("novelty", "rouge_l")
    path = run_dir / "neighbours.jsonl"
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        for found in neighbours(rows, measure, most):
            file.write(json.dumps(found._asdict()) + "\n")
    part.replace(path)
    return path


def collect(run_dir: Path) -> dict[str, dict[str, Any]]:
    """Totals, rejected candidates by reason, accepted rows by language and verification, and
    what was asked for (strategies, quotas) against what was accepted of it, in tasks and rows."""
    asked: dict[str, dict[str, int]] = {}
    languages: Counter[str] = Counter()
    verification: Counter[str] = Counter()
    accepted = with_input = 0
    with Ledger(run_dir / "ledger.sqlite", write=False) as ledger:
        for _, example in ledger.accepted():
            accepted += 1
            with_input += bool(example.input)
            languages[example.language or "unknown"] += 1
            verification[example.verification or "skipped"] += 1
        for wish, got in ledger.asked():
            count = wish.pop("count", 0)
            for dimension, label in wish.items():
                row = asked.setdefault(f"{dimension}: {label}", {"asked": 0, "got": 0})
                row["asked"] += count
                row["got"] += fulfilled(dimension, label, got)
        reasons = ledger.reasons()
        totals = {
            **ledger.usage(),
            "candidates": accepted + sum(reasons.values()),
            "accepted": accepted,
            "accepted_with_input": with_input,
            "rejected": sum(reasons.values()),
            "cost_usd": round(ledger.spent(), 6),
        }
    return {
        "totals": totals,
        "rejected": reasons,
        "asked_and_got": dict(sorted(asked.items())),
        "languages": dict(languages.most_common()),
        "verification": dict(verification.most_common()),
    }
