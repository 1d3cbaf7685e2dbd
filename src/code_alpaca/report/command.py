"""Report the rows, rejections and cost of a run, from its ledger."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import Field

from code_alpaca.core import console, fs, jsonl
from code_alpaca.core.config import StageConfig
from code_alpaca.core.ledger import Ledger
from code_alpaca.core.records import RunSummary
from code_alpaca.core.redact import redact
from code_alpaca.core.schema import DERISK_ROWS, count_fulfilled
from code_alpaca.dataset import plots
from code_alpaca.dataset.describe import RowStatistics
from code_alpaca.report.lineage import LineageReader, describe_lineage
from code_alpaca.report.page import PageContent, write_page

Tables = dict[str, dict[str, Any]]
# Keys of report.json that are printed with another name; scripts read the keys.
PRINTED_NAMES = {"asked_and_got": "requested vs generated", "asked": "requested",
                 "got": "generated"}  # fmt: skip


class ReportConfig(StageConfig):
    """The keys of `code-alpaca report`."""

    run_dir: Path = Field(description="run folder of generate or curate")
    row: str | None = Field(
        None,
        description="print where this row comes from, by its id or the beginning of it: its seed "
        "tasks, prompt, reply and decisions; nothing is written",
    )
    page_rows: int = Field(
        4_000,
        ge=0,
        description="report.html contains at most this many accepted and as many rejected rows; "
        "0 writes no page",
    )
    neighbours: int = Field(
        0,
        ge=0,
        description="also write neighbours.jsonl: for every accepted row, this many of the most "
        "similar earlier rows and the mean similarity, as in 2023",
    )


def write_report(config: ReportConfig) -> None:
    """Print the tables of a run and write them to its folder.

    `report.json` contains the numbers, `report/` the plots, `report.html` both and the rows. With
    `row`, print the origin of one row instead.
    """
    folder, output = config.run_dir, console.stage("report")
    if config.row is not None:
        with LineageReader(folder / "ledger.sqlite", write=False) as reader:
            for section in describe_lineage(reader, config.row):
                console.stage("").print(section)
        return
    with LineageReader(folder / "ledger.sqlite", write=False) as ledger:
        summary = _summarize(ledger, folder.resolve().name)
        tables = _make_tables(ledger, summary)
        fs.write_json(folder / "report.json", tables)
        _print_tables(tables, output)
        plots.draw_plots(summary, folder / "report")
        if config.page_rows:
            rows = _first_rows(ledger, config.page_rows)
            write_page(
                folder / "report.html", PageContent(summary, rows, folder / "report", ledger)
            )
            output.print(str(folder / "report.html"))
        else:
            (folder / "report.html").unlink(missing_ok=True)  # it would show an older run
    if config.neighbours:
        output.print(str(_write_neighbours(folder, config.neighbours)))


def _summarize(ledger: Ledger, name: str) -> RunSummary:
    """Return the part of the dataset's manifest that the report shows."""
    statistics, accepted = RowStatistics(), 0
    config = redact(ledger.record("config", {}))
    limit = config.get("num_examples")
    for example in ledger.accepted(limit):
        accepted += 1
        statistics.add(example.as_row())
    counts, reasons = statistics.as_dict(), ledger.reasons(limit)
    rejected = sum(reasons.values())
    return RunSummary(
        name=name,
        teacher=config.get("teacher_model"),
        strategy=config.get("strategy"),
        config=config,
        counts={
            "default": accepted,
            "derisk": min(accepted, DERISK_ROWS),
            "verified": counts["verification"].get("passed", 0),
            "rejected": rejected,
        },
        candidates=accepted + rejected,
        rejected_by_reason=reasons,
        cost_usd=round(ledger.spent(), 6),
        statistics=counts,
        pace=ledger.pace(),
    )


def _make_tables(ledger: Ledger, summary: RunSummary) -> Tables:
    """Return the rows of every table of the report, by its title.

    `asked_and_got` compares the quotas of the requests with the accepted rows. Only languages are
    measured: of other quotas, every accepted row of a request counts as what was requested.
    """
    quotas: dict[str, dict[str, int]] = {}
    for requested, languages in ledger.requested():
        count = requested.pop("count", 0)
        for dimension, label in requested.items():
            row = quotas.setdefault(f"{dimension}: {label}", {"asked": 0, "got": 0})
            row["asked"] += count
            row["got"] += count_fulfilled(dimension, label, languages)
    return {
        "totals": {
            **ledger.usage(),
            "candidates": summary.candidates,
            "accepted": summary.counts["default"],
            "accepted_with_input": summary.statistics.with_input,
            "rejected": summary.counts["rejected"],
            "cost_usd": summary.cost_usd,
        },
        "rejected": summary.rejected_by_reason,
        "asked_and_got": dict(sorted(quotas.items())),
        "languages": summary.statistics.languages,
        "verification": summary.statistics.verification,
        "test_strength": _label_bins(summary.statistics.test_strength),
    }


def _label_bins(bins: list[int]) -> dict[str, int]:
    """Return the counts of a histogram of shares by the limits of each bin."""
    size = len(bins)
    return {
        f"{index / size:.1f} to {(index + 1) / size:.1f}": count for index, count in enumerate(bins)
    }


def _print_tables(tables: Tables, output: console.Stage) -> None:
    for title, rows in tables.items():
        if not rows:
            continue
        cells, numbers = [], {}
        for name, value in rows.items():
            numbers = value if isinstance(value, dict) else {"count": value}
            label = name.replace("_", " ") if title == "totals" else name
            cells.append([label, *(f"{number:,}" for number in numbers.values())])
            if title == "asked_and_got" and not name.startswith("language: "):
                cells[-1][-1] = "-"  # not measured
        names = [PRINTED_NAMES.get(name, name) for name in numbers]
        title = PRINTED_NAMES.get(title, title.replace("_", " "))
        output.table(["", *names], cells, title=title)


def _first_rows(ledger: Ledger, limit: int) -> Iterator[dict[str, Any]]:
    """Yield the first accepted rows, then the first rejected ones."""
    for example in ledger.accepted(limit):
        yield example.as_row()
    for decision in islice(ledger.rejected(), limit):
        yield decision.as_row()


def _write_neighbours(run_dir: Path, count: int) -> Path:
    from code_alpaca.curation.novelty.pool import find_neighbours

    with Ledger(run_dir / "ledger.sqlite", write=False) as ledger:
        rows = list(ledger.accepted())
        measure = ledger.record("config", {}).get("novelty", "rouge_l")
    path = run_dir / "neighbours.jsonl"
    jsonl.write(path, (row._asdict() for row in find_neighbours(rows, measure, count)))
    return path
