"""Curate an existing dataset with the rules of `generate`, in file order.

Decisions are recorded in a ledger, so the same command resumes an interrupted run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from code_alpaca.core import console
from code_alpaca.core.config import TITLE_HELP, Title, Version
from code_alpaca.core.conversations import MULTI_TURN
from code_alpaca.core.errors import InputError
from code_alpaca.core.json_records import MALFORMED_ROW, UnreadableRecord
from code_alpaca.core.key_roles import Role
from code_alpaca.core.ledger import Decision, Ledger, utc_now
from code_alpaca.core.row_formats import (
    ALPACA,
    SAMPLE_SIZE,
    RowFormat,
    is_unicode,
    join_statements,
)
from code_alpaca.core.run_folder import RunInput, open_run, resume_config
from code_alpaca.core.schema import Example, content_id, load_seed_tasks, restore_seed_ids
from code_alpaca.curation.language_detection import label_language
from code_alpaca.curation.pipeline import INTERNAL_ERROR, Curator
from code_alpaca.curation.rules import CurationRules, open_curator, print_outcomes
from code_alpaca.dataset.build import build_dataset
from code_alpaca.dataset.folder import DatasetOptions
from code_alpaca.dataset.origin_files import read_origin_files, record_origin_files
from code_alpaca.dataset.source import OpenedDataset, TurnCounts, open_dataset
from code_alpaca.dataset.source_keys import SourceKeys
from code_alpaca.dataset.unkept_columns import describe_unkept, list_unkept

CHUNK = 500  # rows decided and committed together
EMPTY = "empty"  # the reason of the filter `empty`, also for null
MAX_PRINTED_ROWS = 3  # malformed or failed rows that are printed with their evidence

PROVENANCE = ("language", "strategy", "teacher", "prompt_version", "request_id", "tests")
# Columns that curation decides again.
DECIDED = ("nearest_id", "nearest_score", "verification", "test_strength", "contamination",
           "created_at")  # fmt: skip
MAX_FIELD_CHARACTERS = 2_000  # of a record that is not a row


class CurateConfig(SourceKeys, CurationRules):
    """The keys of `code-alpaca curate`."""

    source: str = Field(description=SourceKeys.model_fields["source"].description)
    run_dir: Annotated[Path, Role.FREE] = Field(description="folder of the run, also to resume it")
    seed_tasks: Path | None = Field(None, description="JSONL of tasks to treat as already accepted")
    strict: bool = Field(False, description="refuse a source with a malformed row")
    dataset_version: Annotated[Version, Role.FREE] = Field(
        "0.1.0", description="the dataset's SemVer"
    )
    title: Title = Field(None, description=TITLE_HELP)


def curate_dataset(config: CurateConfig) -> None:
    """Decide every row of the source and write `<run_dir>/dataset`.

    Raises:
        InputError: the source, the run folder, a benchmark, a filter or the sandbox cannot be used.
    """
    config = resume_config(config.run_dir, config)
    source = open_dataset(config.dataset_source)
    seed_tasks = load_seed_tasks(config.seed_tasks) if config.seed_tasks else []
    for row in _read_rows(source) if config.strict else ():
        if row.reason:
            raise InputError(
                f"{config.source}: {row.evidence}; without strict it would be rejected"
            )
    output = console.stage("curate")
    turns, unkept = source.count_turns(), _list_unkept(source)
    _print_form(source, turns, output)
    if unkept:
        output.print(f"{source.source.label}: {describe_unkept(unkept)}")
    with (
        open_curator(config) as (curator, benchmarks),
        open_run(config.run_dir, config, _list_inputs(config, source)) as ledger,
    ):
        ledger.set_meta("contamination", benchmarks)
        if ledger.is_empty() and (form := source.provenance(turns, unkept)):
            ledger.set_meta("source_form", form)
        curator.add_to_pool(restore_seed_ids(seed_tasks, config.seed_tasks, ledger))
        record_origin_files(ledger, read_origin_files(config.source, source.revision))
        curator.add_to_pool(ledger.accepted())
        _decide_rows(source, curator, ledger, output)
        _print_outcomes(ledger, len(source.records), output)
    folder = build_dataset(
        config.run_dir, DatasetOptions(config.dataset_version, title=config.title)
    )
    output.print(f"{folder}, version {config.dataset_version}")


def check_record(record: Any, form: RowFormat, number: int, curator: Curator) -> Decision:
    """Read a record as a row, and decide it by the rules that depend on this row only.

    Args:
        number: the place of the record in its source, counted from 1.
    """
    row = _read_row(record, form, number)
    if row.reason:
        return row
    example = row.example
    with contextlib.suppress(Exception):  # the same error in `check_row` rejects the row
        example = replace(example, language=label_language(example))
    return curator.check_row(example)


def _print_form(source: OpenedDataset, turns: TurnCounts, output: console.Stage) -> None:
    """Print the form of the rows, and how many have several turns."""
    output.print(f"{source.source.label}: {source.describe(turns)}")
    if turns.several_turns and not source.row_format.first_turn:
        rows = console.plural(
            turns.several_turns, "row with several turns is", "rows with several turns are"
        )
        output.print(
            f"{rows} rejected as {MULTI_TURN}; --first_turn true reads the first question and "
            "answer of each"
        )


def _list_unkept(source: OpenedDataset) -> list[str]:
    """Return the columns of a source that are neither kept nor decided again."""
    unkept = list_unkept(source, [*PROVENANCE, "seed_ids", "id", *DECIDED])
    id_column = source.row_format.columns.get("id", "id")
    for record in source.slice(0, SAMPLE_SIZE):
        row = source.row_format.row(record)
        own_id = "" if isinstance(row, UnreadableRecord) else record.get(id_column)
        if own_id and None not in (texts := [row[key] for key in ALPACA]):
            # Every row gets the hash of its text, which only rows of code-alpaca have already.
            return unkept if own_id == content_id(*texts) else [id_column, *unkept]
    return unkept


def _list_inputs(config: CurateConfig, source: OpenedDataset) -> list[RunInput]:
    """Return what the config only names and the run depends on."""
    inputs = [RunInput("source_revision", source.revision, f"source {config.source}")]
    if path := config.seed_tasks:
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        inputs.append(RunInput("seed_tasks_sha256", sha256, f"seed_tasks {path}"))
    return inputs + config.user_files()


def _decide_rows(
    source: OpenedDataset, curator: Curator, ledger: Ledger, output: console.Stage
) -> None:
    total, first = len(source.records), ledger.next_undecided()
    with (
        output.progress(total, "rows processed", completed=first * CHUNK) as update,
        ThreadPoolExecutor(curator.num_workers) as threads,  # they wait for the sandboxes
    ):
        for number, start in enumerate(range(first * CHUNK, total, CHUNK), first):
            records = source.slice(start, start + CHUNK)
            checked = [
                check_record(record, source.row_format, position, curator)
                for position, record in enumerate(records, start + 1)
            ]
            verified = threads.map(curator.verify, checked)
            decisions = [curator.check_pool(decision) for decision in verified]
            ledger.request(number, "source", {"first_row": start, "rows": len(decisions)})
            ledger.decide(number, decisions)
            update(start + len(decisions))


def _print_outcomes(ledger: Ledger, num_rows: int, output: console.Stage) -> None:
    """Print rows whose check failed, and how many rows had each outcome."""
    failed = (row for row in ledger.rejected() if row.reason in (MALFORMED_ROW, INTERNAL_ERROR))
    for decision in islice(failed, MAX_PRINTED_ROWS):
        output.print(f"{decision.reason}: {decision.evidence}")
    num_accepted = ledger.accepted_count()
    output.print(f"{num_accepted:,} of {console.plural(num_rows, 'row')} accepted")
    print_outcomes(output, num_accepted, ledger.reasons())


def _read_rows(source: OpenedDataset) -> Iterator[Decision]:
    """Yield every record; malformed ones are rejected."""
    for number, record in enumerate(source.slice(0), 1):
        yield _read_row(record, source.row_format, number)


def _read_row(record: Any, form: RowFormat, number: int) -> Decision:
    """Return a record as a row without a reason, or else an excerpt of it with why it is none."""
    row = form.row(record)
    if not isinstance(row, UnreadableRecord):
        null = next((key for key in ALPACA if row[key] is None), "")
        if not null:
            return Decision(_make_example(row), "")
        row = UnreadableRecord(f"{form.columns.get(null, null)!r} is null", EMPTY)
    return Decision(_make_excerpt(record, form), row.reason, f"row {number}: {row.problem}")


def _make_excerpt(record: Any, form: RowFormat) -> Example:
    """Return the beginning of what can be read of a record that is not a row."""
    row = replace(form, first_turn=True).row(record)
    if isinstance(row, UnreadableRecord):
        values = record if isinstance(record, dict) else {}
        row = {key: values.get(form.columns.get(key, key)) for key in ALPACA}
    texts = {key: _shorten(row[key]) for key in ALPACA}
    return Example(**texts, id=content_id(**texts), strategy="imported", created_at=utc_now())


def _make_example(row: dict[str, Any]) -> Example:
    """Return a row with its recorded origin; values of a wrong type are left out."""
    texts = {key: row[key] for key in ALPACA}
    origin = {key: row[key] for key in PROVENANCE if isinstance(row.get(key), str)}
    seed_ids = row.get("seed_ids")
    if isinstance(tests := join_statements(row.get("tests")), str):
        origin["tests"] = tests
    if not isinstance(seed_ids, list) or not all(isinstance(i, str | int) for i in seed_ids):
        seed_ids = []
    return Example(
        **texts,
        **{"strategy": "imported", **{key: value for key, value in origin.items() if value}},
        id=content_id(**texts),
        seed_ids=[str(i)[:MAX_FIELD_CHARACTERS] for i in seed_ids if is_unicode(str(i))],
        created_at=utc_now(),
    )


def _shorten(value: Any) -> str:
    """Return the beginning of any value as text that every file can store."""
    if value is None:
        return ""
    try:
        text = value if isinstance(value, str) else json.dumps(value, default=str)
    except (ValueError, RecursionError):
        text = f"<{type(value).__name__}>"
    return text[:MAX_FIELD_CHARACTERS].encode("utf-8", "backslashreplace").decode()
