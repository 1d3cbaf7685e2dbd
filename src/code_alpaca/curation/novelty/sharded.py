"""The same novelty decisions on many machines, moved by datatrove's executors.

`stages` gives pipelines for `LocalPipelineExecutor`, `SlurmPipelineExecutor` or
`RayPipelineExecutor`, one after the other; what is kept equals what one process keeps over the
same files in order. Two tasks that are too alike share one of their rarest tokens (see `kernels`),
so rows go to the workers of those: each pair meets somewhere. Who of a pair stays depends on the
rows before it, and is settled by one pass over the few pairs there are.

A copy of an earlier row is dropped whatever became of that one, which was kept or is too similar
to a kept one; so a thousand copies do not become half a million pairs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from datatrove.data import Document, DocumentsPipeline
from datatrove.io import DataFolderLike, get_datafolder
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter

from code_alpaca.core.schema import Example
from code_alpaca.curation.novelty.index import SimilarityIndex, Vocabulary, rows_of
from code_alpaca.curation.novelty.kernels import prefix
from code_alpaca.curation.novelty.measures import DEFAULT_THRESHOLDS, MEASURES, TokenizedTask

LINE_BITS = 40  # of a row's position: the file above, the line below


def stages(
    source: DataFolderLike,
    work: DataFolderLike,
    output: DataFolderLike,
    *,
    tasks: int,
    measure: str = "code_aware",
    threshold: float | None = None,
) -> list[tuple[list[PipelineStep], int]]:
    """Pipelines with their numbers of tasks, to be run one after the other.

    Args:
        source: a folder of JSONL files of rows with `instruction`, and where they have them
            `input` and `language`; their order is that of the files' names, then of lines.
        work: an empty folder that all workers share.
        output: where the kept rows go, as JSONL files.
        tasks: how many shards; each may run on another machine.

    Raises:
        ValueError: there is no such measure, or the threshold is outside 0..1.
    """
    if measure not in MEASURES:
        raise ValueError(f"no measure {measure!r}; there are {', '.join(MEASURES)}")
    limit = DEFAULT_THRESHOLDS[measure] if threshold is None else threshold
    if not 0 <= limit <= 1:
        raise ValueError(f"a threshold of {threshold} is outside 0..1")

    def read() -> JsonlReader:
        return JsonlReader(source, text_key="instruction", adapter=_adapter)

    return [
        ([read(), CountTokens(work, measure)], tasks),
        ([read(), SendToTokens(work, measure, limit, tasks)], tasks),
        ([FindPairs(work, limit)], tasks),
        ([Settle(work)], 1),
        ([read(), Keep(work), JsonlWriter(output, compression=None, adapter=_as_it_was)], tasks),
    ]


def _adapter(self: Any, data: dict[str, Any], path: str, id_in_file: int | str) -> dict[str, Any]:
    """A row, whole, with its place; the instruction is the text."""
    return {
        "text": data.get("instruction"),
        "id": f"{path}:{id_in_file}",
        "metadata": {"row": data, "path": path, "line": int(id_in_file)},
    }


def _as_it_was(self: Any, document: Document) -> dict[str, Any]:
    return document.metadata["row"]


class _Step(PipelineStep):
    """What the steps share: the folder, and what was counted in it."""

    type = "novelty"

    def __init__(self, work: DataFolderLike, measure: str = "code_aware") -> None:
        super().__init__()
        self.work, self._measure = get_datafolder(work), measure

    @cached_property
    def _counted(self) -> tuple[dict[str, int], dict[str, int]]:
        """Numbers of tokens, the rarest first, and of files: the same in every worker."""
        times: Counter[str] = Counter()
        files: list[str] = []
        for path in self.work.list_files("counts"):
            with self.work.open(path, "rt") as file:
                counted = json.load(file)
            times.update(counted["times"])
            files += counted["files"]
        tokens = sorted(times, key=lambda token: (times[token], token))
        return (
            {token: number for number, token in enumerate(tokens)},
            {path: number for number, path in enumerate(sorted(files))},
        )

    def _parts(self, document: Document) -> TokenizedTask:
        row = document.metadata["row"]
        texts = row["instruction"], row.get("input") or "", ""
        return MEASURES[self._measure](Example(*texts, language=row.get("language") or ""))

    def _position(self, document: Document) -> int:
        """A number that orders the rows of all files."""
        _, files = self._counted
        return files[document.metadata["path"]] << LINE_BITS | document.metadata["line"]

    def _save(self, path: str, **arrays: np.ndarray) -> None:
        with self.work.open(path, "wb") as file:
            np.savez(file, **arrays)

    def _load(self, folder: str) -> Iterator[dict[str, np.ndarray]]:
        for path in self.work.list_files(folder):
            with self.work.open(path, "rb") as file, np.load(file) as arrays:
                yield dict(arrays)


class CountTokens(_Step):
    """In how many rows each token stands, and which files there are."""

    name = "count tokens"

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        times: Counter[str] = Counter()
        files: set[str] = set()
        for document in data:
            files.add(document.metadata["path"])
            times.update(set(_named(self._parts(document))))
        with self.work.open(f"counts/{rank:05}.json", "wt") as file:
            json.dump({"times": times, "files": sorted(files)}, file)
        yield from ()


class SendToTokens(_Step):
    """Each row to the shards of its rarest tokens."""

    name = "send to tokens"

    def __init__(self, work: DataFolderLike, measure: str, threshold: float, shards: int) -> None:
        super().__init__(work, measure)
        self._threshold, self._shards = threshold, shards

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        numbers, _ = self._counted
        sent: list[list[tuple[int, str, list[int], list[int]]]] = [[] for _ in range(self._shards)]
        for document in data:
            parts = self._parts(document)
            if not parts.words:
                continue  # like nothing
            ids: list[int] = []
            ends: list[int] = []
            for number, tokens in enumerate(parts[1:]):
                ids += [numbers[f"{number}{token}"] for token in tokens]
                ends.append(len(ids))
            rarest = sorted(ids)[: prefix(len(ids), self._threshold)]
            for shard in {token % self._shards for token in rarest}:
                sent[shard].append((self._position(document), parts.group, ids, ends))
        for shard, rows in enumerate(sent):
            self._save(
                f"rows/{shard:05}/{rank:05}.npz",
                positions=np.array([row[0] for row in rows], np.int64),
                groups=np.array([row[1] for row in rows], np.str_),
                tokens=np.array([token for row in rows for token in row[2]], np.int32),
                ends=np.array([row[3] for row in rows], np.int32).reshape(-1, 3),
            )
        yield from ()


class FindPairs(_Step):
    """All pairs of rows of one shard that are too alike: the later, and the earlier."""

    name = "find pairs"

    def __init__(self, work: DataFolderLike, threshold: float) -> None:
        super().__init__(work)
        self._threshold = threshold

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        groups: dict[str, list[tuple[int, np.ndarray, np.ndarray]]] = {}
        for arrays in self._load(f"rows/{rank:05}"):
            starts = np.concatenate([[0], np.cumsum(arrays["ends"][:, 2], dtype=np.int64)])
            for i, position in enumerate(arrays["positions"]):
                tokens = arrays["tokens"][starts[i] : starts[i + 1]]
                row = (int(position), tokens, arrays["ends"][i])
                groups.setdefault(str(arrays["groups"][i]), []).append(row)
        pairs: list[tuple[int, int]] = []
        copies: list[int] = []
        for rows in groups.values():
            distinct = []
            seen = set()
            for position, tokens, ends in sorted(rows, key=lambda row: row[0]):
                key = tokens.tobytes() + ends.tobytes()
                if key in seen and self._threshold < 1:
                    copies.append(position)
                else:
                    seen.add(key)
                    distinct.append((position, tokens, ends))
            pairs += self._pairs(distinct)
        self._save(
            f"pairs/{rank:05}.npz",
            pairs=np.array(pairs, np.int64).reshape(-1, 2),
            copies=np.array(copies, np.int64),
        )
        yield from ()

    def _pairs(
        self, rows: Sequence[tuple[int, np.ndarray, np.ndarray]]
    ) -> Iterator[tuple[int, int]]:
        positions = [position for position, _, _ in rows]
        tokens = np.concatenate([tokens for _, tokens, _ in rows])
        batch = rows_of(
            tokens,
            np.concatenate([[0], np.cumsum([len(t) for _, t, _ in rows], dtype=np.int64)]),
            np.array([ends for _, _, ends in rows], np.int32),
        )
        index = SimilarityIndex(self._threshold, Vocabulary.of_size(int(tokens.max()) + 1))
        for i, j in index.pairs(batch):
            yield positions[i], positions[j]


class Settle(_Step):
    """Who of each pair stays: row by row in order, as one process would have it."""

    name = "settle"

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        found = list(self._load("pairs"))
        pairs = np.unique(np.concatenate([shard["pairs"] for shard in found]), axis=0)
        dropped = set(np.concatenate([shard["copies"] for shard in found]).tolist())
        for later, earlier in pairs.tolist():  # sorted: all that decides `earlier` was seen
            if earlier not in dropped:
                dropped.add(later)
        self._save("dropped/rows.npz", positions=np.array(sorted(dropped), np.int64))
        yield from ()


class Keep(_Step):
    """Lets the rows pass that were not dropped."""

    name = "keep"

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        with self.work.open("dropped/rows.npz", "rb") as file, np.load(file) as arrays:
            dropped = set(arrays["positions"].tolist())
        for document in data:
            if self._position(document) not in dropped:
                self.stat_update("kept")
                yield document


def _named(parts: TokenizedTask) -> Iterator[str]:
    """Tokens with the number of their part, so that those of two parts are never equal."""
    for number, tokens in enumerate(parts[1:]):
        for token in tokens:
            yield f"{number}{token}"
