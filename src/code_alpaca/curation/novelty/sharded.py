"""Deduplicate datasets of many files on many machines, with datatrove's executors.

`make_stages` returns pipelines for a local, Slurm or Ray executor, to run one after the other. They
keep exactly the rows that one process keeps over the same files in order. Two similar tasks share
one of their rarest tokens (see `kernels`), so each row is sent to the shards of its rarest tokens,
where every similar pair meets. A last pass over these pairs decides in row order.

An exact copy of an earlier row is dropped without comparison, so that a thousand copies do not
become half a million pairs.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from datatrove.data import Document, DocumentsPipeline
from datatrove.io import DataFolderLike, get_datafolder
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter

from code_alpaca.core.schema import Example
from code_alpaca.curation.novelty.index import Vocabulary, find_similar_pairs, make_rows
from code_alpaca.curation.novelty.kernels import prefix_length
from code_alpaca.curation.novelty.measures import MEASURES, TokenizedTask
from code_alpaca.curation.novelty.pool import resolve_threshold

LINE_BITS = 40  # a row's position: file number above, line number in the low bits


class Folders(NamedTuple):
    """Where `make_stages` reads and writes."""

    source: DataFolderLike  # JSONL of rows with `instruction` and perhaps `input` and `language`
    work: DataFolderLike  # empty, and shared by all workers
    output: DataFolderLike  # the kept rows, as JSONL files


def make_stages(
    folders: Folders, *, tasks: int, measure: str = "code_aware", threshold: float | None = None
) -> list[tuple[list[PipelineStep], int]]:
    """Return pipelines, each with its number of tasks, to run in this order.

    Args:
        tasks: number of shards; each may run on another machine.
    """
    settings = (folders.work, measure, resolve_threshold(measure, threshold))
    writer = JsonlWriter(folders.output, compression=None, adapter=_to_row)

    def read() -> JsonlReader:
        return JsonlReader(folders.source, text_key="instruction", adapter=_to_document)

    return [
        ([read(), CountTokens(*settings)], tasks),
        ([read(), DistributeRows(*settings)], tasks),
        ([FindPairs(*settings)], tasks),
        ([ResolvePairs(*settings)], 1),
        ([read(), KeepRows(*settings), writer], tasks),
    ]


def _to_document(self: Any, data: dict[str, Any], path: str, line: int | str) -> dict[str, Any]:
    metadata = {"row": data, "path": path, "line": int(line)}
    return {"text": data.get("instruction"), "id": f"{path}:{line}", "metadata": metadata}


def _to_row(self: Any, document: Document) -> dict[str, Any]:
    return document.metadata["row"]


class NoveltyStep(PipelineStep):
    """Base of the steps: the shared folder, and the token counts in it."""

    type = "novelty"

    def __init__(self, work: DataFolderLike, measure: str, threshold: float) -> None:
        super().__init__()
        self.work, self._measure, self._threshold = get_datafolder(work), measure, threshold

    @cached_property
    def _numbers(self) -> tuple[dict[str, int], dict[str, int]]:
        """The numbers of tokens, rarest first, and of files; the same in every worker."""
        counts: Counter[str] = Counter()
        files: list[str] = []
        for path in self.work.list_files("counts"):
            with self.work.open(path, "rt") as file:
                shard = json.load(file)
            counts.update(shard["times"])
            files += shard["files"]
        tokens = sorted(counts, key=lambda token: (counts[token], token))
        tables = [{name: n for n, name in enumerate(names)} for names in (tokens, sorted(files))]
        return tables[0], tables[1]

    def _tokenize(self, document: Document) -> TokenizedTask:
        row = document.metadata["row"]
        texts = row["instruction"], row.get("input") or "", ""
        return MEASURES[self._measure](Example(*texts, language=row.get("language") or ""))

    def _position(self, document: Document) -> int:
        """Return a number that orders the rows of all files."""
        _, files = self._numbers
        return files[document.metadata["path"]] << LINE_BITS | document.metadata["line"]

    def _save(self, path: str, **arrays: np.ndarray) -> None:
        with self.work.open(path, "wb") as file:
            np.savez(file, **arrays)

    def _load(self, folder: str) -> Iterator[dict[str, np.ndarray]]:
        for path in self.work.list_files(folder):
            with self.work.open(path, "rb") as file, np.load(file) as arrays:
                yield dict(arrays)


class CountTokens(NoveltyStep):
    """Count the rows with each token, and list the files."""

    name = "count tokens"

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        counts: Counter[str] = Counter()
        files: set[str] = set()
        for document in data:
            files.add(document.metadata["path"])
            counts.update(set(_name_tokens(self._tokenize(document))))
        with self.work.open(f"counts/{rank:05}.json", "wt") as file:
            json.dump({"times": counts, "files": sorted(files)}, file)
        yield from ()


class DistributeRows(NoveltyStep):
    """Send each row to the shards (workers of the next step) of its rarest tokens."""

    name = "distribute rows"

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        numbers, _ = self._numbers
        shards: list[list[tuple[Any, ...]]] = [[] for _ in range(world_size)]
        for document in data:
            task = self._tokenize(document)
            if not task.words:
                continue  # similar to no row
            ids = [numbers[token] for token in _name_tokens(task)]
            ends = list(itertools.accumulate(map(len, task[1:])))
            rarest = sorted(ids)[: prefix_length(len(ids), self._threshold)]
            for shard in {token % world_size for token in rarest}:
                shards[shard].append((self._position(document), task.group, ids, ends))
        for shard, rows in enumerate(shards):
            self._save(
                f"rows/{shard:05}/{rank:05}.npz",
                positions=np.array([row[0] for row in rows], np.int64),
                groups=np.array([row[1] for row in rows], np.str_),
                tokens=np.array([token for row in rows for token in row[2]], np.int32),
                ends=np.array([row[3] for row in rows], np.int32).reshape(-1, 3),
            )
        yield from ()


class FindPairs(NoveltyStep):
    """Find all pairs of too similar rows in a shard, and all copies."""

    name = "find pairs"

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        groups: dict[str, list[tuple[int, np.ndarray, np.ndarray]]] = {}
        for arrays in self._load(f"rows/{rank:05}"):
            tokens = np.split(arrays["tokens"], np.cumsum(arrays["ends"][:, 2])[:-1])
            columns = arrays["groups"], arrays["positions"], tokens, arrays["ends"]
            for group, position, *row in zip(*columns, strict=False):
                groups.setdefault(str(group), []).append((int(position), *row))
        pairs: list[tuple[int, int]] = []
        copies: list[int] = []
        for rows in groups.values():
            distinct, seen = [], set()
            for position, tokens, ends in sorted(rows, key=lambda row: row[0]):
                key = tokens.tobytes() + ends.tobytes()
                if key in seen and self._threshold < 1:
                    copies.append(position)
                else:
                    seen.add(key)
                    distinct.append((position, tokens, ends))
            pairs += self._find_pairs(distinct)
        self._save(
            f"pairs/{rank:05}.npz",
            pairs=np.array(pairs, np.int64).reshape(-1, 2),
            copies=np.array(copies, np.int64),
        )
        yield from ()

    def _find_pairs(
        self, rows: Sequence[tuple[int, np.ndarray, np.ndarray]]
    ) -> Iterator[tuple[int, int]]:
        positions, tokens, ends = zip(*rows, strict=True)
        flat = np.concatenate(tokens)
        start = np.cumsum([0, *map(len, tokens)], dtype=np.int64)
        batch = make_rows(flat, start, np.array(ends, np.int32))
        vocabulary = Vocabulary(size=int(flat.max()) + 1)
        for later, earlier in find_similar_pairs(batch, vocabulary, self._threshold):
            yield positions[later], positions[earlier]


class ResolvePairs(NoveltyStep):
    """Decide in row order which row of each pair is dropped, as one process would."""

    name = "resolve pairs"

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        shards = list(self._load("pairs"))
        pairs = np.unique(np.concatenate([shard["pairs"] for shard in shards]), axis=0)
        dropped = set(np.concatenate([shard["copies"] for shard in shards]).tolist())
        for later, earlier in pairs.tolist():  # sorted, so `earlier` has been decided
            if earlier not in dropped:
                dropped.add(later)
        self._save("dropped/rows.npz", positions=np.array(sorted(dropped), np.int64))
        yield from ()


class KeepRows(NoveltyStep):
    """Pass on the rows that were not dropped."""

    name = "keep rows"

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        with self.work.open("dropped/rows.npz", "rb") as file, np.load(file) as arrays:
            dropped = set(arrays["positions"].tolist())
        for document in data:
            if self._position(document) not in dropped:
                self.stat_update("kept")
                yield document


def _name_tokens(task: TokenizedTask) -> Iterator[str]:
    """Yield tokens with the number of their part, so that tokens of two parts are never equal."""
    for part, tokens in enumerate(task[1:]):
        for token in tokens:
            yield f"{part}{token}"
