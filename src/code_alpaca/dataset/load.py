"""Load the rows of a dataset in their Alpaca columns, with the revision that identifies them."""

from __future__ import annotations

import secrets
import shlex
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from code_alpaca.core import console
from code_alpaca.core.console import plural
from code_alpaca.core.errors import InputError
from code_alpaca.core.json_records import RecordList, UnreadableRecord
from code_alpaca.core.row_formats import (
    ALPACA,
    MESSAGES,
    TARGET_COLUMNS,
    contains_reasoning,
    join_statements,
)
from code_alpaca.dataset.source import (
    BATCH_ROWS,
    DatasetSource,
    OpenedDataset,
    TurnCounts,
    find_manifest,
    load_hub_format,
    locate,
    open_dataset,
)

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

# Keys of a manifest that training records about its data.
ORIGIN_KEYS = ("version", "license", "teacher", "strategy", "prompt_version", "embedded_teacher",
               "source")  # fmt: skip
REJECTED = "rejected"  # the config with the rows that curation rejected, also as `empty`
Blank = Literal["drop", "keep"]


def load_rows(  # the parameters of `datasets.load_dataset`, and how to read the rows
    name: str,
    config: str = "default",
    revision: str | None = None,
    *,
    split: str = "train",
    column_map: Mapping[str, str] | None = None,
    first_turn: bool = False,
    blank: Blank | None = None,
    log: console.Log | None = None,
) -> tuple[Dataset, str]:
    """Load the rows of a dataset, and the immutable revision that identifies them.

    Args:
        name: a file or folder that `data_files` reads, a dataset folder of `publish`, or a Hub id.
        revision: tag, branch or commit of a Hub dataset.
        column_map: the columns that contain the Alpaca fields, if they have other names; or
            `{"messages": COLUMN}` for a column of conversations.
        first_turn: keep the first question and answer of conversations with several, which are
            refused otherwise.
        blank: what to do with rows whose instruction or output is null or white space: "drop"
            them and log their number, or "keep" white space and refuse null; None: keep the rows of
            the config `rejected`, and drop others.
        log: receives lines about the form of the rows and dropped ones; stderr by default.

    Returns:
        The dataset, with at least the Alpaca columns as text, and its revision: the commit of a
        Hub dataset, `vX.Y.Z (sha256 ...)` for a dataset folder, `sha256 ...` for files.

    Raises:
        InputError: the dataset does not exist, is empty, has unknown columns or conversations of
            several turns, or a value is not text (the message names the row).
    """
    source = DatasetSource(name, config, revision, split, column_map, first_turn)
    loaded = load_source(source, blank=blank or ("keep" if config == REJECTED else "drop"), log=log)
    return loaded.rows, loaded.revision


class LoadedRows(NamedTuple):
    """The rows that `load_rows` returns, and what they were read from."""

    rows: Dataset
    opened: OpenedDataset
    turns: TurnCounts

    @property
    def revision(self) -> str:
        return self.opened.revision


def load_source(
    source: DatasetSource,
    *,
    blank: Blank = "drop",
    log: console.Log | None = None,
    conversations: bool = False,
) -> LoadedRows:
    """Load the rows of a dataset; see `load_rows`.

    Args:
        conversations: add a column `messages` with all turns of each row and its system prompt.
    """
    opened, name = open_dataset(source), source.name
    log = log or console.stage("dataset", stderr=True).print
    turns = opened.count_turns()
    if not opened.row_format.plain:
        log(f"{source.label}: {opened.describe(turns, all_turns=conversations)}")
    if turns.several_turns and not (source.first_turn or conversations):
        raise InputError(
            f"{name}: {turns.several_turns:,} of {plural(len(opened.records), 'row')} with several "
            "turns, where a row has one question and one answer; set first_turn: true to read the "
            f"first of each, or leave them out with code-alpaca curate --source {shlex.quote(name)}"
        )
    rows = _select_complete(opened, blank, log, conversations=conversations)
    return LoadedRows(rows, opened, turns)


def stream_rows(
    name: str, config: str = "default", revision: str | None = None, *, split: str = "train"
) -> tuple[IterableDataset, str]:
    """Return the rows one by one as they are read, and their revision; deprecated."""
    message = "stream_rows is deprecated; use datasets.load_dataset(..., streaming=True)"
    warnings.warn(message, DeprecationWarning, stacklevel=2)
    source = DatasetSource(name, config, revision, split)
    location, commit = locate(source)
    if isinstance(location, RecordList):
        return load_rows(name, config, split=split)[0].to_iterable_dataset(), commit
    return load_hub_format(source, location, commit, streaming=True), commit


def __getattr__(name: str) -> Any:
    """Return `load_rows` and `stream_rows` under their first names, `load` and `stream`."""
    if name not in ("load", "stream"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    message = f"{name} is deprecated; it is now called {name}_rows"
    warnings.warn(message, DeprecationWarning, stacklevel=2)
    return globals()[f"{name}_rows"]


def read_origin(name: str, revision: str) -> dict[str, Any]:
    """Return what a dataset's manifest records about its origin: license, teacher, strategy, ...

    It is empty if code-alpaca did not release the dataset. `load_rows` returns the `revision`.
    """
    manifest = find_manifest(name, revision)
    if manifest is None:
        return {}
    values = manifest.as_dict()
    origin = {key: values[key] for key in ORIGIN_KEYS if values.get(key) is not None}
    if manifest.contamination and manifest.contamination.benchmarks:
        origin["decontaminated"] = manifest.contamination.benchmarks
    return origin


def _select_complete(
    opened: OpenedDataset, blank: Blank, log: console.Log, *, conversations: bool
) -> Dataset:
    """Return the rows; log those with reasoning, and those without an instruction or output."""
    name, every_turn = opened.source.name, opened
    if conversations:  # the Alpaca columns contain the first turn
        opened = opened._replace(row_format=replace(opened.row_format, first_turn=True))
    rows = _to_text_columns(opened)
    if conversations:
        rows = _add_conversations(rows, every_turn)
    complete: list[int] = []
    with_reasoning = 0
    for index, row in enumerate(_checked_rows(opened, blank)):
        if all((row[key] or "").strip() for key in ("instruction", "output")):
            complete.append(index)
            with_reasoning += contains_reasoning(row["output"])
    if with_reasoning:
        log(
            f"{name}: {with_reasoning} of {plural(len(rows), 'output')} with a model's reasoning "
            "(<think>), kept; code-alpaca curate rejects such rows"
        )
    if num_blank := len(rows) - len(complete):
        first = next(i for i in range(len(rows)) if i == len(complete) or complete[i] != i)
        log(
            f"{name}: {num_blank} of {plural(len(rows), 'row')} without instruction or output (the "
            f"first is row {first + 1}), {'dropped' if blank == 'drop' else 'kept unchanged'}"
        )
    if blank == "drop":
        if not complete:
            raise InputError(f"dataset {name} has no row with an instruction and an output")
        rows = rows.select(complete) if num_blank else rows
    return rows


def _add_conversations(rows: Dataset, opened: OpenedDataset) -> Dataset:
    """Return the rows with a column of their messages; refuse one whose turns do not alternate."""
    from datasets import List, Value

    def converse(_: Any, places: list[int]) -> dict[str, list[Any]]:
        records = opened.slice(places[0], places[-1] + 1)
        found = list(map(opened.row_format.conversation, records))
        for place, messages in zip(places, found, strict=True):
            if isinstance(messages, UnreadableRecord):
                raise InputError(
                    f"{opened.source.name}, {opened.where(place)}: {messages.problem}; correct it, "
                    "or set first_turn: true to read the first question and answer of each row"
                )
        return {MESSAGES: found}

    rows = rows.select_columns([name for name in rows.column_names if name in TARGET_COLUMNS])
    message = {"role": Value("string"), "content": Value("string")}
    features = rows.features.copy()
    features[MESSAGES] = List(message)
    return rows.map(
        converse,
        batched=True,
        with_indices=True,
        batch_size=BATCH_ROWS,
        features=features,
        keep_in_memory=True,
        new_fingerprint=secrets.token_hex(8),  # hashing the records would take longer
    )


def _unreadable(opened: OpenedDataset, place: int, record: UnreadableRecord) -> InputError:
    name = opened.source.name
    return InputError(
        f"{name}, {opened.where(place)}: {record.problem}; correct it, or drop such rows with "
        f"code-alpaca curate --source {shlex.quote(name)}"
    )


def _checked_rows(opened: OpenedDataset, blank: Blank) -> Iterator[dict[str, Any]]:
    """Yield every row; refuse unreadable ones, and null if blank rows are kept."""
    for index, row in enumerate(_read_rows(opened)):
        if not isinstance(row, UnreadableRecord):
            null = next((key for key in ALPACA if row[key] is None), "")
            if not null or blank == "drop":
                yield row
                continue
            row = UnreadableRecord(f"{opened.row_format.columns.get(null, null)!r} is null")
        raise _unreadable(opened, index, row)


def _read_rows(opened: OpenedDataset) -> Iterator[dict[str, Any] | UnreadableRecord]:
    if opened.row_format.plain and not isinstance(opened.records, RecordList):
        columns = [key for key in ALPACA if key in opened.records.column_names]
        # The other columns are not decoded.
        opened = opened._replace(records=opened.records.select_columns(columns))
    for start in range(0, len(opened.records), BATCH_ROWS):
        yield from map(opened.row_format.row, opened.slice(start, start + BATCH_ROWS))


def _to_text_columns(opened: OpenedDataset) -> Dataset:
    """Return the records as a `datasets.Dataset` whose Alpaca columns are text."""
    from datasets import Dataset, Features, Value

    row_format, records = opened.row_format, opened.records
    fields = dict.fromkeys((*ALPACA, *row_format.columns))
    text = Features({key: Value("string") for key in fields})

    def texts(record: Mapping[str, Any] | UnreadableRecord) -> dict[str, str | None]:
        row = row_format.row({**record} if isinstance(record, Mapping) else record)
        row = {} if isinstance(row, UnreadableRecord) else row
        values = {key: join_statements(row.get(key)) for key in fields}
        return {key: text if isinstance(text, str) else None for key, text in values.items()}

    if isinstance(records, RecordList):
        return Dataset.from_list(list(map(texts, records)), features=text)
    if row_format.plain and all(_is_text_column(records, key) for key in ALPACA):
        return records
    others = [key for key in records.column_names if key in TARGET_COLUMNS and key not in fields]
    features = Features({**text, **{key: records.features[key] for key in others}})
    unused = [key for key in records.column_names if key not in features]
    return records.map(texts, remove_columns=unused, features=features, desc="reading rows")


def _is_text_column(rows: Dataset, column: str) -> bool:
    """Return whether a column is text; `input` must not be null in any row either."""
    if getattr(rows.features.get(column), "dtype", "") not in ("string", "large_string"):
        return False
    return column != "input" or not rows.data.column(column).null_count
