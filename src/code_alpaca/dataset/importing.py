"""Import an Alpaca dataset of any origin as a dataset folder, with its fields unchanged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from code_alpaca.core import console
from code_alpaca.core.errors import InputError
from code_alpaca.core.row_checks import validate_row
from code_alpaca.core.row_formats import ALPACA, is_unicode
from code_alpaca.core.schema import OPTIONAL_COLUMNS, Example, content_id, features
from code_alpaca.dataset.build import publishable
from code_alpaca.dataset.folder import DatasetContent, DatasetOptions, write_dataset
from code_alpaca.dataset.load import load_source
from code_alpaca.dataset.manifest import recover_manifest
from code_alpaca.dataset.origin_files import read_origin_files
from code_alpaca.dataset.source import DatasetSource
from code_alpaca.dataset.unkept_columns import describe_unkept, list_unkept


def import_dataset(
    source: DatasetSource,
    run_dir: Path,
    options: DatasetOptions | None = None,
    *,
    output_dir: Path | None = None,
    draw_plots: bool = True,
) -> Path:
    """Write `<run_dir>/dataset` from a file, folder or Hub dataset and return its path.

    Args:
        options: by default version 0.1.0, license "other", no validation split, no repository.
        output_dir: write `dataset` there instead of `run_dir`.

    Raises:
        InputError: a row has no `instruction` or `output`, or has several turns, or `run_dir`
            contains a run.
    """
    if (run_dir / "ledger.sqlite").exists():
        raise InputError(f"{run_dir} contains a run of generate; import into another run_dir")
    rows, opened, turns = load_source(source, blank="keep")
    schema = features(optional=OPTIONAL_COLUMNS)
    columns = [
        name
        for name in rows.column_names
        if name in ALPACA or (name in schema and rows.features[name] == schema[name])
    ]
    unkept = list_unkept(opened, columns)
    if unkept:
        console.stage("publish").print(f"{source.label}: {describe_unkept(unkept)}")
    form = opened.provenance(turns, unkept)
    provenance = {
        "teacher": "unknown",
        "embedded_teacher": False,
        "strategy": "imported",
        "source": publishable(source.name),
        "source_revision": opened.revision,
        **({"source_form": form} if form else {}),
        **dict.fromkeys(("contamination", "usage", "cost_usd", "config", "pace")),
    }
    rows = rows.select_columns(columns)
    return write_dataset(
        output_dir or run_dir,
        DatasetContent(
            lambda: _check_rows(rows, source.name),
            lambda: iter(()),
            provenance,
            read_origin_files(source.name, opened.revision),
            optional_columns=[name for name in OPTIONAL_COLUMNS if name in columns],
        ),
        (options or DatasetOptions()).resolve(None, "0.1.0"),
        recover_manifest(run_dir / "dataset"),
        draw_plots=draw_plots,
    )


def _check_rows(rows: Iterable[dict[str, Any]], source: str) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows, 1):
        texts = [row["instruction"], row["input"] or "", row["output"]]
        if not all(isinstance(text, str) and is_unicode(text) for text in texts):
            raise InputError(
                f"{source}, row {number}: instruction, input and output must be text; correct or "
                "delete that row"
            )
        values = {name: value for name, value in row.items() if value is not None}
        example = Example(**values | dict(zip(ALPACA, texts, strict=True)))
        if fault := validate_row(example):
            raise InputError(f"{source}, row {number}: {fault[1]}; correct or delete that row")
        yield {
            **example.as_row(),
            "id": example.id or content_id(*texts),
            "strategy": example.strategy or "imported",
            "verification": example.verification or "skipped",
        }
