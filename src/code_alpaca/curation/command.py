"""Decide the rows of an existing dataset by the rules of generation: the same filters, benchmarks,
sandboxes and novelty, into the same ledger and dataset folder.

Rows are decided in file order; the same command resumes where it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from code_alpaca.core.config import Version
from code_alpaca.core.data_files import Unreadable
from code_alpaca.core.errors import InputError
from code_alpaca.core.key_roles import Role
from code_alpaca.core.ledger import Decision, Ledger, now
from code_alpaca.core.row_formats import ALPACA, ColumnMap, RowFormat, is_unicode
from code_alpaca.core.run_folder import open_run
from code_alpaca.core.schema import Example, content_id, load_seed_tasks
from code_alpaca.curation.language_detection import detect_language
from code_alpaca.curation.pipeline import Curator
from code_alpaca.curation.rules import CurationRules, open_curator
from code_alpaca.dataset.build import build_dataset
from code_alpaca.dataset.folder import DatasetOptions
from code_alpaca.dataset.load import OpenedDataset, open_dataset, slice_records

CHUNK = 500  # rows decided and committed together
EVERY_S = 10.0  # between two lines of progress, where the output is no terminal
KEPT_TEXT = ("language", "strategy", "teacher", "prompt_version", "request_id", "tests")
NAMED, NAMED_ROWS = ("malformed_row", "internal_error"), 3  # printed, the first of them
KEPT_CHARACTERS = 2_000  # of a field of a row that is no row


class CurateConfig(CurationRules):
    """The keys of `code-alpaca curate`."""

    source: str = Field(
        description="a dataset folder, a JSON, JSONL, CSV or Parquet file (also compressed), or a "
        "dataset on the Hub"
    )
    source_config: str = Field("default", description="the config of a folder or Hub dataset")
    revision: str | None = Field(None, description="tag, branch or commit of a Hub dataset")
    column_map: ColumnMap = Field(
        None,
        description="columns of the source that hold the Alpaca fields, e.g. {instruction: "
        "problem, output: solution}",
    )
    run_dir: Annotated[Path, Role.FREE] = Field(
        description="folder of this run; the same command resumes it"
    )
    seed_tasks: Path | None = Field(
        None, description="JSONL of tasks that no row may be like; none: an empty pool"
    )
    strict: bool = Field(False, description="refuse a source with a row that is not one")
    dataset_version: Annotated[Version, Role.FREE] = Field(
        "0.1.0", description="SemVer of the dataset that is made"
    )


def curate_dataset(config: CurateConfig) -> None:
    """Decide every row of the source and write `<run_dir>/dataset`.

    Raises:
        InputError: no such source, a row that is not one (under strict), a run folder of another
            config, a benchmark or a sandbox that is not there.
    """
    source = _open(config)
    facts = {"source_revision": source.revision}
    if config.seed_tasks:
        told = config.seed_tasks.read_bytes() if config.seed_tasks.is_file() else b""
        facts["seed_tasks_sha256"] = hashlib.sha256(told).hexdigest()
    seeds = load_seed_tasks(config.seed_tasks) if config.seed_tasks else []
    if config.strict:
        _refuse_odd_rows(config.source, source)
    console = Console(highlight=False, soft_wrap=True)
    if source.row_format.note:
        console.print(f"curate    {config.source}: {source.row_format.note}")
    with (
        open_curator(config) as (curator, contamination),
        open_run(config.run_dir, config, facts) as ledger,
    ):
        ledger.set_meta("contamination", contamination)
        curator.add_to_pool(seeds)
        curator.add_to_pool(ledger.accepted())
        _decide(source, curator, ledger, console)
        _print_funnel(ledger, len(source.records), console)
    folder = build_dataset(config.run_dir, DatasetOptions(config.dataset_version))
    console.print(f"curate    {folder}, version {config.dataset_version}")


def _open(config: CurateConfig) -> OpenedDataset:
    """The records of the source, whatever their form, and the revision that names them."""
    path = Path(config.source)
    if path.is_file() and (config.revision is not None or config.source_config != "default"):
        raise InputError(f"{path} is a file: leave revision and source_config out")
    return open_dataset(
        config.source, config.source_config, config.revision, column_map=config.column_map
    )


def _refuse_odd_rows(name: str, source: OpenedDataset) -> None:
    for start in range(0, len(source.records), CHUNK):
        for number, record in enumerate(slice_records(source.records, start, start + CHUNK), start):
            if problem := _read(record, source.row_format).problem:
                raise InputError(
                    f"{name}: row {number + 1}: {problem}; without strict it would be dropped"
                )


def _decide(source: OpenedDataset, curator: Curator, ledger: Ledger, console: Console) -> None:
    total = len(source.records)
    chunks = range(0, total, CHUNK)
    columns = (TextColumn("curate "), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=console, disable=not console.is_terminal) as progress,
        ThreadPoolExecutor(curator.num_workers) as threads,  # they wait for the sandboxes
    ):
        first, printed_at = ledger.next_undecided(), time.monotonic()
        bar = progress.add_task("curate", total=total, completed=first * CHUNK)
        for number in range(first, len(chunks)):
            start = chunks[number]
            read = [
                _examined(_read(record, source.row_format), place, curator)
                for place, record in enumerate(
                    slice_records(source.records, start, start + CHUNK), start + 1
                )
            ]
            settled = [
                curator.check_pool(decision) for decision in threads.map(curator.verify, read)
            ]
            ledger.request(number, "source", {"first_row": start, "rows": len(settled)})
            ledger.decide(number, settled)
            progress.advance(bar, len(settled))
            if not console.is_terminal and time.monotonic() - printed_at >= EVERY_S:
                printed_at = time.monotonic()
                console.print(f"curate    {start + len(settled)}/{total} rows decided")


class _Row(NamedTuple):
    """One record as an example, and why it is none where it is not."""

    example: Example
    problem: str = ""


def _read(record: Any, form: RowFormat) -> _Row:
    """Read a record as an example."""
    row = form.row(record)
    if not isinstance(row, Unreadable):
        null = [key for key in ALPACA if row[key] is None]
        if not null:
            return _Row(_example(row))
        row = Unreadable(f"{form.columns.get(null[0], null[0])!r} is null")
    given = record if isinstance(record, dict) else {}
    shown = {key: _shown(given.get(form.columns.get(key, key))) for key in ALPACA}
    example = Example(**shown, id=content_id(**shown), strategy="imported", created_at=now())
    return _Row(example, row.problem)


def _examined(row: _Row, place: int, curator: Curator) -> Decision:
    if row.problem:
        return Decision(row.example, "malformed_row", f"row {place}: {row.problem}")
    example = row.example
    with contextlib.suppress(Exception):  # what fails on it here fails in `examine`, which says so
        stated = example.language.strip().lower()
        language = stated if example.language else detect_language(example)
        example = replace(example, language=language)
    return curator.check_row(example)


def _shown(value: Any) -> str:
    """The beginning of a value that is no field of a row, as text that any file can hold."""
    if value is None:
        return ""
    try:
        text = value if isinstance(value, str) else json.dumps(value, default=str)
    except (ValueError, RecursionError):
        text = f"<{type(value).__name__}>"
    return text[:KEPT_CHARACTERS].encode("utf-8", "backslashreplace").decode()


def _example(row: dict[str, Any]) -> Example:
    """A row with what it says of its origin; values of another type say nothing."""
    text = {key: row[key] for key in ALPACA}
    kept = {key: row[key] for key in KEPT_TEXT if isinstance(row.get(key), str)}
    tests = row.get("tests")
    if isinstance(tests, list) and all(isinstance(i, str) and is_unicode(i) for i in tests):
        kept["tests"] = "\n".join(tests)  # as MBPP and its like have them
    seed_ids = row.get("seed_ids")
    if not isinstance(seed_ids, list) or not all(isinstance(i, str | int) for i in seed_ids):
        seed_ids = []
    return Example(
        **text,
        **{"strategy": "imported", **{key: value for key, value in kept.items() if value}},
        id=content_id(**text),
        seed_ids=[str(i)[:KEPT_CHARACTERS] for i in seed_ids if is_unicode(str(i))],
        created_at=now(),
    )


def _print_funnel(ledger: Ledger, rows: int, console: Console) -> None:
    accepted = ledger.accepted_count()
    table = Table("outcome", "rows", "share")
    for column in table.columns[1:]:
        column.justify = "right"
    for outcome, count in [("accepted", accepted), *ledger.reasons().items()]:
        table.add_row(outcome, f"{count:,}", f"{count / max(1, rows):.1%}")
    malformed = (row for row in ledger.rejected() if row.reason in NAMED)
    for decision in islice(malformed, NAMED_ROWS):
        console.print(f"curate    {decision.reason}: {decision.evidence}")
    console.print(f"curate    {accepted:,} of {rows:,} rows accepted")
    console.print(table)
