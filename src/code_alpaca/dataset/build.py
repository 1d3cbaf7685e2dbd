"""From a run's ledger to the dataset folder that would be on the Hub, byte for byte.

Everything is written beside the old folder and swapped in by rename, so a reader, or a kill,
never sees half a dataset. The same rows give the same Parquet bytes.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from code_alpaca import __version__
from code_alpaca.dataset import card
from code_alpaca.errors import InputError
from code_alpaca.ledger import Ledger, now
from code_alpaca.schema import CONFIGS, DERISK_ROWS, Example, content_id, features, is_unicode

ROWS_PER_GROUP = 1_000  # rows held in memory at once
MANIFEST = "manifest.json"
Rows = Callable[[str], Iterable[dict[str, Any]]]  # config name -> its rows, in order


def build(run_dir: Path, *, dataset_version: str | None = None, license: str | None = None) -> Path:
    """Write `<run_dir>/dataset` from the run's ledger and return its path.

    Args:
        dataset_version, license: None keeps what the folder has, and starts with the config's
            version and the licence "other".

    Raises:
        InputError: `run_dir` holds no run, or `dataset/` holds something else.
    """
    before = manifest_of(run_dir / "dataset") or {}
    with Ledger(run_dir / "ledger.sqlite", write=False) as ledger:
        config = json.loads(ledger.meta("config") or "null")
        if config is None:
            raise InputError(f"{run_dir} holds no run; give it another run_dir")
        reasons = ledger.reasons()
        facts = {
            "teacher": config.get("teacher_model", "unknown"),
            "embedded_teacher": str(config.get("teacher_base_url") or "").startswith("offline"),
            "strategy": config.get("strategy", "imported"),
            "source": _public(config.get("source")),
            "source_revision": ledger.meta("source_revision"),
            "prompt_version": ledger.meta("prompt_version"),
            "seed_tasks_sha256": ledger.meta("seed_tasks_sha256"),
            "candidates": ledger.accepted_count() + sum(reasons.values()),
            "rejected_by_reason": reasons,
            "contamination": json.loads(ledger.meta("contamination") or "null"),
            "usage": ledger.usage() if "teacher_model" in config else None,
            "config": {key: _public(value) for key, value in config.items()},
        }
        return _write(
            run_dir,
            rows=lambda name: _ledger_rows(ledger, name, config.get("num_examples")),
            facts=facts,
            dataset_version=dataset_version or before.get("version") or config["dataset_version"],
            license=license or before.get("license") or "other",
        )


def build_from_source(
    source: Path, run_dir: Path, *, dataset_version: str, license: str = "other"
) -> Path:
    """Write `<run_dir>/dataset` from an Alpaca JSON or JSONL file, its fields untouched.

    Raises:
        InputError: the file is no list of rows with `instruction`, `input` and `output`, or
            `run_dir` holds a run of generate.
    """
    if (run_dir / "ledger.sqlite").exists():
        raise InputError(f"{run_dir} holds a run of generate; import into another run_dir")
    records = read_alpaca_file(source)
    examples = [
        Example(
            **record,
            id=content_id(record["instruction"], record["input"], record["output"]),
            strategy="imported",
            verification="skipped",
        )
        for record in records
    ]
    run_dir.mkdir(parents=True, exist_ok=True)
    facts = {
        "teacher": "unknown",
        "embedded_teacher": False,
        "strategy": "imported",
        "source": source.name,
        "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "candidates": len(examples),
        "rejected_by_reason": {},
        "usage": None,
        "config": None,
    }
    return _write(
        run_dir,
        rows=lambda name: _example_rows(examples, name),
        facts=facts,
        dataset_version=dataset_version,
        license=license,
    )


def _public(value: Any) -> Any:
    """A value of the config as the manifest may tell it: of an absolute path its last part.

    The rest is about somebody's disk.
    """
    if isinstance(value, list):
        return [_public(item) for item in value]
    return Path(value).name if isinstance(value, str) and os.path.isabs(value) else value


def read_records(path: Path) -> list[Any]:
    """The records of a JSON list or JSONL file, whatever they are.

    Raises:
        InputError: unreadable, neither of the two, or empty.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from None
    try:
        if text.lstrip().startswith("["):
            records = json.loads(text)
        else:
            records = [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is neither a JSON list nor JSONL: {error}") from None
    if not records:
        raise InputError(f"{path} holds no rows")
    return records


def read_alpaca_file(path: Path) -> list[dict[str, str]]:
    """The rows of an Alpaca JSON list or JSONL file as instruction, input, output.

    Raises:
        InputError: unreadable, empty, or a row (named by its number) of another shape.
    """
    records, rows = read_records(path), []
    for number, record in enumerate(records, 1):
        row = record if isinstance(record, dict) else {}
        row = {"input": "", **{k: row[k] for k in ("instruction", "input", "output") if k in row}}
        if len(row) < 3 or not all(isinstance(value, str) for value in row.values()):
            raise InputError(f"{path}, row {number}: needs instruction, input and output as text")
        if not all(is_unicode(value) for value in row.values()):
            raise InputError(f"{path}, row {number}: half a surrogate pair, which no file can hold")
        rows.append({key: row[key] for key in ("instruction", "input", "output")})
    return rows


def _ledger_rows(ledger: Ledger, name: str, limit: int | None) -> Iterator[dict[str, Any]]:
    if name == "rejected":
        for decision in ledger.rejected():
            row = decision.example.as_row()
            yield {**row, "reason": decision.reason, "evidence": decision.evidence}
        return
    examples = (example for _, example in ledger.accepted(limit))
    yield from _example_rows(examples, name)


def _example_rows(examples: Iterable[Example], name: str) -> Iterator[dict[str, Any]]:
    if name == "rejected":
        return
    if name == "derisk":
        examples = itertools.islice(examples, DERISK_ROWS)
    for example in examples:
        if name != "verified" or example.verification == "passed":
            yield replace(example).as_row()


def _write(
    run_dir: Path, *, rows: Rows, facts: dict[str, Any], dataset_version: str, license: str
) -> Path:
    with open(run_dir / ".dataset.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one writer at a time; the kernel lets go after a kill
        return _swap_in(run_dir, rows, facts, dataset_version, license)


def manifest_of(folder: Path) -> dict[str, Any] | None:
    """What a dataset folder says of itself; None where there is no folder yet.

    Raises:
        InputError: the folder is someone else's.
    """
    if not folder.exists():
        return None
    try:
        return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(
            f"{folder} exists and is no dataset of ours (no {MANIFEST}); move it away first"
        ) from None


def _swap_in(
    run_dir: Path, rows: Rows, facts: dict[str, Any], dataset_version: str, license: str
) -> Path:
    manifest_of(run_dir / "dataset")  # or it is not ours to replace
    target, part, old = run_dir / "dataset", run_dir / ".dataset.part", run_dir / ".dataset.old"
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir()
    counts, shards, statistics = {}, {}, {}
    for name in CONFIGS:
        shard = Path("data") / name / "train-00000-of-00001.parquet"
        counts[name], statistics[name] = _write_parquet(part / shard, rows(name), name)
        if not counts[name]:  # `datasets` cannot load a split without rows
            shutil.rmtree((part / shard).parent)
            continue
        shards[str(shard)] = hashlib.sha256((part / shard).read_bytes()).hexdigest()
    if not counts["default"]:
        raise InputError(f"{run_dir} holds no accepted row yet; generate some first")
    manifest = {
        "version": dataset_version,
        "license": license,
        "counts": counts,
        "sha256": shards,
        **facts,
        "statistics": statistics["default"],
        "tools": {"code-alpaca": __version__, "pyarrow": version("pyarrow")},
        "created_at": now(),
    }
    (part / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    example = next(iter(rows("default")), None)
    (part / "README.md").write_text(card.render(manifest, example), encoding="utf-8")
    if target.exists():
        os.rename(target, old)
    os.rename(part, target)
    shutil.rmtree(old, ignore_errors=True)
    return target


def _write_parquet(
    path: Path, rows: Iterable[dict[str, Any]], name: str
) -> tuple[int, dict[str, Any]]:
    """Write rows in bounded groups; return their number and what the card tells of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = features(name).arrow_schema
    languages: Counter[str] = Counter()
    verification: Counter[str] = Counter()
    count = with_input = characters = 0
    path.parent.mkdir(parents=True)
    iterator = iter(rows)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while group := list(itertools.islice(iterator, ROWS_PER_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            count += len(group)
            for row in group:
                languages[row["language"] or "unknown"] += 1
                verification[row["verification"] or "skipped"] += 1
                with_input += bool(row["input"])
                characters += len(row["output"])
    return count, {
        "languages": dict(languages.most_common()),
        "verification": dict(verification.most_common()),
        "with_input": with_input,
        "output_characters": characters,
    }
