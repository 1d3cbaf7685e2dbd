"""Decide the rows of an existing dataset by the rules of generation: the same filters, benchmarks,
sandboxes and novelty, into the same ledger and dataset folder.

Rows are decided in file order; the same command goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from code_alpaca.config import Version
from code_alpaca.curation.curate import Curator
from code_alpaca.curation.languages import language_of
from code_alpaca.dataset.build import build
from code_alpaca.dataset.load import ALPACA, load, read_records
from code_alpaca.dataset.manifest import sha256
from code_alpaca.errors import InputError
from code_alpaca.generation.folder import open_run
from code_alpaca.generation.rules import Rules, curator_of
from code_alpaca.ledger import Decision, Ledger, now
from code_alpaca.schema import Example, content_id, is_unicode, load_seed_tasks

CHUNK = 500  # rows decided and committed together
KEPT_TEXT = ("language", "strategy", "teacher", "prompt_version", "request_id", "tests")
KEPT_CHARACTERS = 2_000  # of a field of a row that is no row


class Config(Rules):
    """The keys of `code-alpaca curate`."""

    source: str = Field(
        description="a dataset folder, an Alpaca JSON or JSONL file, or a dataset on the Hub"
    )
    source_config: str = Field("default", description="the config of a folder or Hub dataset")
    revision: str | None = Field(None, description="tag, branch or commit of a Hub dataset")
    run_dir: Path = Field(description="folder of this run; the same command resumes it")
    seed_tasks: Path | None = Field(
        None, description="JSONL of tasks that no row may be like; none: an empty pool"
    )
    strict: bool = Field(False, description="refuse a source with a row that is not one")
    dataset_version: Version = Field("0.1.0", description="SemVer of the dataset that is made")


def run(config: Config) -> None:
    """Decide every row of the source and write `<run_dir>/dataset`.

    Raises:
        InputError: no such source, a row that is not one (under strict), a run folder of another
            config, a benchmark or a sandbox that is not there.
    """
    records, revision = _open(config)
    facts = {"source_revision": revision}
    if config.seed_tasks:
        told = config.seed_tasks.read_bytes() if config.seed_tasks.is_file() else b""
        facts["seed_tasks_sha256"] = hashlib.sha256(told).hexdigest()
    seeds = load_seed_tasks(config.seed_tasks) if config.seed_tasks else []
    if config.strict:
        _refuse_odd_rows(config.source, records)
    console = Console(highlight=False, soft_wrap=True)
    with (
        curator_of(config) as (curator, contamination),
        open_run(config.run_dir, config, facts) as ledger,
    ):
        ledger.set_meta("contamination", contamination)
        curator.keep(seeds)
        curator.keep(ledger.accepted())
        _decide(records, curator, ledger, console)
        _print_funnel(ledger, len(records), console)
        if not ledger.accepted_count():
            raise InputError(f"{config.source}: no row was accepted; the reasons are above")
    folder = build(config.run_dir, dataset_version=config.dataset_version)
    console.print(f"curate    {folder}, version {config.dataset_version}")


def _open(config: Config) -> tuple[Sequence[Any], str]:
    """The records of the source, whatever their form, and the revision that names them."""
    path = Path(config.source)
    if not path.is_file():
        return load(config.source, config.source_config, config.revision)
    if config.revision is not None or config.source_config != "default":
        raise InputError(f"{path} is a file: leave revision and source_config out")
    records = read_records(path)
    return records, f"sha256 {sha256(path)}"


def _refuse_odd_rows(source: str, records: Sequence[Any]) -> None:
    for number, record in enumerate(records):
        if decision := _odd(record, number):
            raise InputError(f"{source}: {decision.evidence}; without strict it would be dropped")


def _decide(records: Sequence[Any], curator: Curator, ledger: Ledger, console: Console) -> None:
    chunks = range(0, len(records), CHUNK)
    columns = (TextColumn("curate "), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
        ThreadPoolExecutor(curator.runners) as threads,  # they wait for the sandboxes
    ):
        first = ledger.next_undecided()
        bar = progress.add_task("curate", total=len(records), completed=first * CHUNK)
        for number in range(first, len(chunks)):
            rows = records[chunks[number] : chunks[number] + CHUNK]
            read = [
                _read(record, chunks[number] + place, curator)
                for place, record in enumerate(_listed(rows))
            ]
            settled = [curator.settle(decision) for decision in threads.map(curator.verify, read)]
            ledger.request(number, "source", {"first_row": chunks[number], "rows": len(settled)})
            ledger.decide(number, settled)
            progress.advance(bar, len(settled))
            if not console.is_terminal and number % 10 == 9:
                done = chunks[number] + len(settled)
                console.print(f"curate    {done}/{len(records)} rows decided")


def _listed(rows: Any) -> Iterator[Any]:
    """The rows of a slice: a list of them, or, of a `datasets.Dataset`, lists by column."""
    if isinstance(rows, dict):
        for values in zip(*rows.values(), strict=True):
            yield dict(zip(rows, values, strict=True))
    else:
        yield from rows


def _read(record: Any, number: int, curator: Curator) -> Decision:
    return _odd(record, number) or curator.examine(_example(record))


def _odd(record: Any, number: int) -> Decision | None:
    """A decision against a record that is no row: which it is, and what is wrong with it."""
    given = record if isinstance(record, dict) else {}
    wrong = "" if isinstance(record, dict) else "is no JSON object"
    for key in ALPACA:
        value = given.get(key, "" if key == "input" else None)
        if key == "input" and value is None:
            continue
        if not isinstance(value, str):
            wrong = wrong or f"{key!r} is {'missing' if value is None else 'no text'}"
        elif not is_unicode(value):
            wrong = wrong or f"{key!r} holds half a surrogate pair"
    if not wrong:
        return None
    shown = {key: _shown(given.get(key)) for key in ALPACA}
    example = Example(**shown, id=content_id(**shown), strategy="imported", created_at=now())
    return Decision(example, "malformed_row", f"row {number + 1}: {wrong}")


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value)
    return text[:KEPT_CHARACTERS].encode("utf-8", "backslashreplace").decode()


def _example(record: dict[str, Any]) -> Example:
    """A record as a row, with what it says of its origin; the language is found where none is."""
    text = {key: record.get(key) or "" for key in ALPACA}
    kept = {key: record[key] for key in KEPT_TEXT if isinstance(record.get(key), str)}
    seed_ids = record.get("seed_ids")
    example = Example(
        **text,
        **{"strategy": "imported", **{key: value for key, value in kept.items() if value}},
        id=content_id(**text),
        seed_ids=seed_ids if isinstance(seed_ids, list) else [],
        created_at=now(),
    )
    return replace(example, language=language_of(example))


def _print_funnel(ledger: Ledger, rows: int, console: Console) -> None:
    accepted = ledger.accepted_count()
    table = Table("outcome", "rows", "share")
    for column in table.columns[1:]:
        column.justify = "right"
    for outcome, count in [("accepted", accepted), *ledger.reasons().items()]:
        table.add_row(outcome, f"{count:,}", f"{count / max(1, rows):.1%}")
    console.print(f"curate    {accepted:,} of {rows:,} rows accepted")
    console.print(table)
