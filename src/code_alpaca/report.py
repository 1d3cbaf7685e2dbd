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


class Config(StageConfig):
    """The keys of `code-alpaca report`."""

    run_dir: Path = Field(description="a run folder of generate")


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
        table = Table(title=title.replace("_", " "), title_justify="left")
        table.add_column("what")
        table.add_column("count", justify="right")
        for name, value in rows.items():
            table.add_row(name.replace("_", " ") if title == "totals" else name, f"{value:,}")
        if rows:
            console.print(table)


def collect(run_dir: Path) -> dict[str, dict[str, Any]]:
    """Totals, rejected candidates by reason, and accepted rows by language and verification."""
    languages: Counter[str] = Counter()
    verification: Counter[str] = Counter()
    accepted = with_input = 0
    with Ledger(run_dir / "ledger.sqlite", write=False) as ledger:
        for _, example in ledger.accepted():
            accepted += 1
            with_input += bool(example.input)
            languages[example.language or "unknown"] += 1
            verification[example.verification or "skipped"] += 1
        reasons = ledger.reasons()
        totals = {
            **ledger.usage(),
            "candidates": accepted + sum(reasons.values()),
            "accepted": accepted,
            "accepted_with_input": with_input,
            "rejected": sum(reasons.values()),
        }
    return {
        "totals": totals,
        "rejected": reasons,
        "languages": dict(languages.most_common()),
        "verification": dict(verification.most_common()),
    }
