"""Commands of `code-alpaca generate` against the embedded teacher, and what their runs contain."""

from __future__ import annotations

import hashlib
import json
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from datasets import load_dataset

from code_alpaca.core.ledger import Ledger

QUICK = ("--verify", "false", "--decontaminate", "none")  # for runs whose curation is not tested


def generate_args(run_dir: Path, *more: str, url: str = "offline", rows: int = 10) -> list[str]:
    """Return the command line of a run; `more` wins over the other options."""
    return [
        "generate", "--run_dir", str(run_dir), "--teacher_base_url", url,
        "--num_examples", str(rows), "--lookahead", "8", "--max_concurrency", "8", *more,
    ]  # fmt: skip


def read_rows(run_dir: Path, limit: int | None = None) -> list[dict[str, Any]]:
    """Return the accepted rows of a ledger without the time at which they were created."""
    with Ledger(run_dir / "ledger.sqlite", write=False) as ledger:
        rows = [example.as_row() for example in ledger.accepted(limit)]
    for row in rows:
        row.pop("created_at")
    return rows


def read_payloads(run_dir: Path) -> list[dict[str, Any]]:
    """Return the bodies of the answered requests, in order."""
    with Ledger(run_dir / "ledger.sqlite", write=False) as ledger:
        numbers = range(ledger.usage()["requests"])
        return [sent[0] for number in numbers if (sent := ledger.answered(number)) is not None]


def count_replies(run_dir: Path) -> int:
    """Return the replies in a ledger, 0 while there is none."""
    try:
        with Ledger(run_dir / "ledger.sqlite", write=False) as ledger:
            return ledger.usage()["replies"]
    except Exception:  # not created yet, or being created
        return 0


def dataset_hash(run_dir: Path) -> str:
    """Return a hash over the dataset's rows, without the time at which they were created."""
    table = load_dataset(str(run_dir / "dataset"), split="train").remove_columns("created_at")
    rows = json.dumps(table.to_list(), sort_keys=True)
    return hashlib.sha256(rows.encode()).hexdigest()


def server_stats(url: str) -> Counter[str]:
    """Return what an embedded teacher counted: replies and injected faults."""
    with urllib.request.urlopen(f"{url}/stats") as reply:
        return Counter(json.load(reply))
