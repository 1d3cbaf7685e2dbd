"""From a run's ledger to the dataset folder that would be on the Hub, byte for byte.

Everything is written beside the old folder and swapped in by rename, so a reader, or a kill,
never sees half a dataset. The same rows give the same bytes, the manifest's date included.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from code_alpaca import __version__
from code_alpaca.core import fs, plots
from code_alpaca.core.errors import InputError
from code_alpaca.core.fs import file_sha256
from code_alpaca.core.ledger import Decision, Ledger, utc_now
from code_alpaca.core.redact import redact
from code_alpaca.core.row_checks import make_storable, validate_row
from code_alpaca.core.schema import CONFIGS, DERISK_ROWS, Example, content_id, features, is_unicode
from code_alpaca.dataset import card
from code_alpaca.dataset.describe import Description
from code_alpaca.dataset.load import ALPACA, load
from code_alpaca.dataset.manifest import CARD, MANIFEST, manifest_of, mended
from code_alpaca.hub.cards import strip_local_paths

ROWS_PER_GROUP = 1_000  # rows held in memory at once
ROWS_PER_SHARD = 50_000
SPLITS = ("train", "validation")
Rows = Callable[[], Iterator[dict[str, Any]]]


def build(
    run_dir: Path,
    *,
    dataset_version: str | None = None,
    license: str | None = None,
    validation_fraction: float | None = None,
    repository: str | None = None,
    into: Path | None = None,
    draw: bool = True,
) -> Path:
    """Write `<run_dir>/dataset` from the run's ledger and return its path.

    A row that cannot be stored, or that was damaged in the ledger, is among the rejected ones.
    Where no row was accepted, the rejected ones are written alone, before that is refused.

    Args:
        dataset_version, license, validation_fraction, repository: None keeps what the folder has,
            and starts with the config's version, the licence "other", no validation split and no
            repository on the Hub.
        into: another folder to write `dataset` in.
        draw: make the pictures of the card.

    Raises:
        InputError: `run_dir` holds no run or no accepted row, or `dataset/` holds something else.
    """
    before = mended(run_dir / "dataset") or {}
    with Ledger(run_dir / "ledger.sqlite", write=False) as ledger:
        config = ledger.record("config")
        if config is None:
            raise InputError(f"{run_dir} holds no run; give it another run_dir")
        changes = ledger.record("config_changes", [])
        facts = {
            "teacher": _teachers(config, changes),
            "embedded_teacher": str(config.get("teacher_base_url") or "").startswith("offline"),
            "strategy": config.get("strategy", "imported"),
            "source": _public(config.get("source")),
            "source_revision": ledger.meta("source_revision"),
            "prompt_version": ledger.meta("prompt_version"),
            "seed_tasks_sha256": ledger.meta("seed_tasks_sha256"),
            "candidates": 0,
            "rejected_by_reason": {},
            "contamination": ledger.record("contamination"),
            "usage": ledger.usage() if "teacher_model" in config else None,
            "cost_usd": round(ledger.spent(), 6) if "teacher_model" in config else None,
            "config": {key: _public(value) for key, value in config.items()},
        }
        if changes:
            facts["config_changes"] = redact(changes)
        rows = _Sorted(ledger, config.get("num_examples"))
        return _write(
            into or run_dir,
            accepted=rows.accepted,
            rejected=rows.rejected,
            facts=facts | {"pace": ledger.pace()},
            dataset_version=dataset_version or before.get("version") or config["dataset_version"],
            license=license or before.get("license") or "other",
            validation_fraction=(
                before.get("validation_fraction", 0.0)
                if validation_fraction is None
                else validation_fraction
            ),
            repository=repository or before.get("repository"),
            before=before,
            draw=draw,
        )


def _teachers(config: dict[str, Any], changes: list[dict[str, Any]]) -> str:
    """The model that answered; all of them in order, where the key was changed on the way."""
    key = "teacher_model"
    before = [each["changed"][key][0] for each in changes if key in each["changed"]]
    return ", ".join(dict.fromkeys([*before, config.get(key, "unknown")]))


def _public(value: Any) -> Any:
    """A value of the config without secrets or places on somebody's disk, as it is published."""
    return redact(strip_local_paths(value))


class _Sorted:
    """The rows of a ledger: those that a dataset can hold, and all that are rejected."""

    def __init__(self, ledger: Ledger, limit: int | None) -> None:
        self._ledger, self._limit = ledger, limit
        self._found: list[Decision] = []  # accepted once, and not usable any more

    def accepted(self) -> Iterator[dict[str, Any]]:
        return itertools.islice(self._usable(), self._limit)

    def rejected(self) -> Iterator[dict[str, Any]]:
        """Call it after all of `accepted`."""
        for decision in itertools.chain(self._ledger.rejected(), self._found):
            yield replace(decision, example=make_storable(decision.example)).as_row()
        if self._found:
            print(
                f"warning   {len(self._found)} accepted rows are unusable and were rejected, the "
                f"first: {self._found[0].reason}, {self._found[0].evidence}"
            )

    def _usable(self) -> Iterator[dict[str, Any]]:
        self._found = []
        for decision in self._ledger.checked():
            fault = None if decision.reason else validate_row(decision.example)
            if decision.reason:
                self._found.append(decision)
            elif fault:
                self._found.append(Decision(decision.example, *fault))
            else:
                yield decision.example.as_row()


def build_from_source(
    source: str,
    run_dir: Path,
    *,
    dataset_version: str,
    license: str = "other",
    source_config: str = "default",
    revision: str | None = None,
    column_map: dict[str, str] | None = None,
    validation_fraction: float = 0.0,
    repository: str | None = None,
    into: Path | None = None,
    draw: bool = True,
) -> Path:
    """Write `<run_dir>/dataset` from an Alpaca-shaped dataset, its fields untouched.

    Args:
        source: an Alpaca JSON or JSONL file, a dataset folder, or a dataset on the Hub.
        column_map: as `load` takes it.

    Raises:
        InputError: it has rows without `instruction`, `input` and `output`, or `run_dir` holds a
            run of generate.
    """
    if (run_dir / "ledger.sqlite").exists():
        raise InputError(f"{run_dir} holds a run of generate; import into another run_dir")
    rows, source_revision = load(
        source, source_config, revision, column_map=column_map, blank="keep"
    )
    known = features()
    kept = [
        name
        for name in rows.column_names
        if name in ALPACA or (name in known and rows.features[name] == known[name])
    ]
    facts = {
        "teacher": "unknown",
        "embedded_teacher": False,
        "strategy": "imported",
        "source": _public(source),
        "source_revision": source_revision,
        "candidates": 0,
        "rejected_by_reason": {},
        "contamination": None,
        "usage": None,
        "cost_usd": None,
        "config": None,
        "pace": None,
    }
    return _write(
        into or run_dir,
        accepted=lambda: _imported_rows(rows.select_columns(kept), source),
        rejected=lambda: iter(()),
        facts=facts,
        dataset_version=dataset_version,
        license=license,
        validation_fraction=validation_fraction,
        repository=repository,
        before=mended(run_dir / "dataset") or {},
        draw=draw,
    )


def _imported_rows(rows: Iterable[dict[str, Any]], source: str) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows, 1):
        texts = [row["instruction"], row["input"] or "", row["output"]]
        if not all(isinstance(text, str) and is_unicode(text) for text in texts):
            raise InputError(f"{source}, row {number}: needs instruction, input and output as text")
        known = {name: value for name, value in row.items() if value is not None}
        known |= dict(zip(("instruction", "input", "output"), texts, strict=True))
        example = Example(**known)
        if fault := validate_row(example):
            raise InputError(f"{source}, row {number}: {fault[1]}; correct or delete that row")
        yield {
            **example.as_row(),
            "id": example.id or content_id(*texts),
            "strategy": example.strategy or "imported",
            "verification": example.verification or "skipped",
        }


def _write(run_dir: Path, **what: Any) -> Path:
    target = run_dir / "dataset"
    with fs.lock(target, wait=True):
        manifest_of(target)  # or it is not ours to replace
        with fs.atomic_folder(target, replace=True) as part:
            rows = _fill(part, run_dir, **what)
    if not rows:
        raise InputError(
            f"{run_dir}: no row was accepted; the rejected ones and their reasons are in "
            f"{target / 'data/rejected'}"
        )
    return target


def _fill(
    part: Path,
    run_dir: Path,
    *,
    accepted: Rows,
    rejected: Rows,
    facts: dict[str, Any],
    dataset_version: str,
    license: str,
    validation_fraction: float,
    repository: str | None,
    before: dict[str, Any],
    draw: bool,
) -> int:
    """Write the files of a dataset, and return how many rows were accepted."""
    description = Description()
    first: dict[str, Any] | None = None
    rows = 0
    reasons: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        shards = {
            (name, split): stack.enter_context(_Shards(part / "data" / name, name, split))
            for name in CONFIGS
            for split in SPLITS
        }
        for number, row in enumerate(accepted()):
            first, rows = first or row, rows + 1
            description.add(row)
            split = split_of(row["id"], validation_fraction)
            shards["default", split].add(row)
            if number < DERISK_ROWS:
                shards["derisk", split].add(row)
            if row["verification"] == "passed":
                shards["verified", split].add(row)
        for row in rejected():
            reasons[row["reason"]] += 1
            shards["rejected", "train"].add(row)
    if shards["default", "validation"].count and not shards["default", "train"].count:
        raise InputError(f"validation_fraction {validation_fraction} leaves no row to train on")
    if first is None and (not reasons or (before or {}).get("counts", {}).get("default")):
        raise InputError(f"{run_dir} holds no accepted row yet; generate some first")
    # `datasets` cannot load a split without rows, so an empty one is not there.
    made = {key: each for key, each in shards.items() if each.count}
    manifest = {
        "version": dataset_version,
        "license": license,
        "repository": repository,
        "counts": {
            name: sum(each.count for (config, _), each in shards.items() if config == name)
            for name in CONFIGS
        },
        "splits": {
            name: {split: made[name, split].count for split in SPLITS if (name, split) in made}
            for name in CONFIGS
        },
        "validation_fraction": validation_fraction,
        "columns": {name: str(kind) for name, kind in _columns().items()},
        "sha256": {
            str(path.relative_to(part)): file_sha256(path)
            for each in made.values()
            for path in each.paths
        },
        "bytes": sum(path.stat().st_size for each in made.values() for path in each.paths),
        **facts,
        "candidates": rows + reasons.total(),
        "rejected_by_reason": dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        "statistics": description.facts(),
        "tools": {"code-alpaca": __version__, "pyarrow": version("pyarrow")},
    }
    # Made anew from the same rows it is the same dataset, and keeps its date.
    manifest = json.loads(json.dumps(manifest))
    same = {key: value for key, value in before.items() if key != "created_at"} == manifest
    manifest["created_at"] = before["created_at"] if same else utc_now()
    drawn = plots.draw(manifest, part / "assets") if draw and first else []
    (part / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    text = card.render(manifest, first, drawn)
    (part / "README.md").write_text(text, encoding="utf-8")
    # The card as we made it: what people write into README.md on the Hub is told by it.
    (part / CARD).parent.mkdir(exist_ok=True)
    (part / CARD).write_text(text, encoding="utf-8")
    return rows


def split_of(row_id: str, fraction: float) -> str:
    """`train` or `validation`, by the id alone: a row stays in its split in every version."""
    if not fraction:
        return "train"
    place = int.from_bytes(hashlib.sha256(row_id.encode()).digest()[:8]) / 2**64
    return "validation" if place < fraction else "train"


def _columns() -> dict[str, Any]:
    return {field.name: field.type for field in features().arrow_schema}


class _Shards:
    """The Parquet files of one split, written in bounded groups and numbered at the end."""

    def __init__(self, folder: Path, config: str, split: str) -> None:
        self.count = 0
        self.paths: list[Path] = []
        self._folder, self._split = folder, split
        self._schema = features(config).arrow_schema
        self._group: list[dict[str, Any]] = []
        self._writer: Any = None

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        self._flush()
        self._close()
        if failed is None:
            total = len(self.paths)
            for number, path in enumerate(self.paths):
                final = path.with_name(f"{self._split}-{number:05}-of-{total:05}.parquet")
                self.paths[number] = path.rename(final)

    def add(self, row: dict[str, Any]) -> None:
        self._group.append(row)
        self.count += 1
        if len(self._group) == ROWS_PER_GROUP:
            self._flush()
        if self.count % ROWS_PER_SHARD == 0:
            self._close()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._group:
            return
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self.paths.append(self._folder / f".{self._split}-{len(self.paths)}.part")
            self._writer = pq.ParquetWriter(self.paths[-1], self._schema, compression="zstd")
        self._writer.write_table(pa.Table.from_pylist(self._group, schema=self._schema))
        self._group.clear()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
