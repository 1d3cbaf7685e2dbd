"""Token rows with prefix indices that grow with the rows.

The compiled search is in `kernels`; this module manages the memory that it works on.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from code_alpaca.curation.novelty import arrays, kernels
from code_alpaca.curation.novelty.arrays import PrefixLevel, SearchIndex, TokenRows, Workspace
from code_alpaca.curation.novelty.measures import TokenizedTask


class LevelSizes(NamedTuple):
    """The newest rows are scanned; older ones are in prefix indices of growing size."""

    scanned_rows: int = 2048
    merge_factor: int = 16  # size of a level relative to the level before it


DEFAULT_SIZES = LevelSizes()


class NoveltyVerdict(NamedTuple):
    """The most similar row in the pool ("" if none is similar) and the decision."""

    nearest_id: str
    score: float
    is_novel: bool


class Vocabulary:
    """Token numbers, separate for each part of a task, and scratch memory of matching size.

    Args:
        size: tokens below this number are already in use.
    """

    def __init__(self, size: int = 0) -> None:
        self._numbers: tuple[dict[str, int], ...] = ({}, {}, {})
        self._next_number = itertools.count(size).__next__
        self._size = size
        self._workspace = arrays.make_workspace(1 << 12, 1, 1)

    def __len__(self) -> int:
        return self._size

    def encode(self, tasks: Sequence[TokenizedTask]) -> TokenRows:
        """Return tasks as rows of token numbers; new tokens get the next numbers."""
        flat: list[int] = []
        start, ends = [0], []
        for task in tasks:
            begin = len(flat)
            ends.append([])
            for numbers, tokens in zip(self._numbers, task[1:], strict=True):
                for token in tokens:
                    number = numbers.get(token)
                    if number is None:
                        number = numbers[token] = self._next_number()
                        self._size = number + 1
                    flat.append(number)
                ends[-1].append(len(flat) - begin)
            start.append(len(flat))
        part_ends = np.array(ends, np.int32).reshape(-1, arrays.NUM_PARTS)
        return make_rows(np.array(flat, np.int32), np.array(start, np.int64), part_ends)

    def workspace_for(self, batch: TokenRows) -> Workspace:
        """Return scratch memory for the rows of a batch; it must not be used by two threads."""
        words, longest_row = _query_size(batch.ends)
        old = self._workspace
        sizes = len(old.lcs.bits), len(old.ranks), len(old.lcs.vector)
        needed = self._size, longest_row, words
        if any(map(operator.lt, sizes, needed)):
            if self._size > sizes[0]:  # the vocabulary grows with every batch
                needed = (1 << (self._size - 1).bit_length(), longest_row, words)
            self._workspace = arrays.make_workspace(*map(max, sizes, needed))
        return self._workspace


class SimilarityIndex:
    """The pool of one group of tasks: rows, and three prefix indices that are merged as they grow.

    As in an LSM tree (O'Neil et al. 1996, https://doi.org/10.1007/s002360050048), the newest rows
    are scanned, and a full level is merged into the next, larger one.
    """

    def __init__(
        self, threshold: float, vocabulary: Vocabulary, sizes: LevelSizes = DEFAULT_SIZES
    ) -> None:
        self._threshold, self._vocabulary, self._sizes = threshold, vocabulary, sizes
        self._ids: list[str] = []
        self._rows = arrays.grow_rows(TokenRows(), 1 << 8, 1 << 12)
        self._levels = [PrefixLevel()] * 3
        self._ends = [0, 0, 0]  # level k has rows _ends[k + 1] to _ends[k], level 2 from 0

    def __len__(self) -> int:
        return len(self._ids)

    def insert(self, ids: Sequence[str], batch: TokenRows) -> None:
        """Add rows without comparing them."""
        self._make_room(batch)
        kernels.insert_batch(batch, self._rows, len(self))
        self._ids.extend(ids)

    def check_nearest(self, ids: Sequence[str], batch: TokenRows) -> list[NoveltyVerdict]:
        """Decide rows in order by the exact nearest row of each, and add the novel ones."""
        self._make_room(batch)
        workspace = self._vocabulary.workspace_for(batch)
        workspace = workspace._replace(distances=np.empty(len(self) + len(ids), np.float32))
        nearest, scores = np.empty(len(ids), np.int64), np.empty(len(ids))
        kernels.check_batch_nearest(batch, self._as_arrays(), workspace, nearest, scores)
        self._ids.extend(ids[i] for i in np.flatnonzero(~(scores > self._threshold)))
        return self._make_verdicts(nearest, scores)

    def check(self, ids: Sequence[str], batch: TokenRows) -> list[NoveltyVerdict]:
        """Decide rows in order by the first row that is too similar, and add the novel ones."""
        self._make_room(batch)
        workspace = self._vocabulary.workspace_for(batch)
        matches, scores = np.full(len(ids), -1, np.int64), np.zeros(len(ids))
        done = 0
        while done < len(ids):
            if len(self) - self._ends[0] >= self._sizes.scanned_rows:
                self._compact()
            before = done
            done, _ = kernels.check_batch(batch, done, self._as_arrays(), workspace, matches)
            self._ids.extend(ids[i] for i in range(before, done) if matches[i] < 0)
        kernels.score_matches(batch, self._rows, matches, workspace, scores)
        return self._make_verdicts(matches, scores)

    def rank_earlier(
        self, row: int, count: int, workspaces: dict[int, Workspace]
    ) -> tuple[list[tuple[str, float]], float]:
        """Return the `count` most similar rows before `row`, and the sum of all similarities.

        `workspaces` is scratch memory of this thread, reused between calls.
        """
        words, length = _query_size(self._rows.ends[row : row + 1])
        workspace = workspaces.get(words)
        if workspace is None or len(workspace.ranks) < length:
            workspace = arrays.make_workspace(len(self._vocabulary), length, words)
            workspaces[words] = workspace
        workspace = workspace._replace(matches=np.empty(count, np.int64))
        scores = np.empty(count)
        total = kernels.rank_earlier(row, self._rows, workspace, scores)
        ranked = zip(workspace.matches.tolist(), scores.tolist(), strict=True)
        return [(self._ids[i], score) for i, score in ranked if i >= 0], total

    def _make_verdicts(self, rows: np.ndarray, scores: np.ndarray) -> list[NoveltyVerdict]:
        return [
            NoveltyVerdict(self._ids[row] if row >= 0 else "", score, not score > self._threshold)
            for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
        ]

    def _as_arrays(self) -> SearchIndex:
        indexed, capacity = self._ends[0], self._ends[0] + self._sizes.scanned_rows
        levels = tuple(self._levels)
        return SearchIndex(self._rows, levels, indexed, len(self), capacity, self._threshold)

    def _make_room(self, batch: TokenRows) -> None:
        num_tokens = int(self._rows.start[len(self)]) + len(batch.tokens)
        self._rows = arrays.grow_rows(self._rows, len(self) + len(batch.ends), num_tokens)

    def _compact(self) -> None:
        """Index the newest rows, together with those of the levels that are full."""
        count, depth = len(self), 0
        size = self._sizes.scanned_rows * self._sizes.merge_factor  # of level 1
        if count - self._ends[1] >= size:
            full = count - self._ends[2] >= size * self._sizes.merge_factor // 2
            depth = 2 if full else 1
        begin = 0 if depth == 2 else self._ends[depth + 1]
        sizes = begin, count, len(self._vocabulary)
        self._levels[depth] = _build_level(self._rows, *sizes, self._threshold)
        self._levels[:depth] = [PrefixLevel()] * depth
        self._ends[: depth + 1] = [count] * (depth + 1)


def find_similar_pairs(
    batch: TokenRows, vocabulary: Vocabulary, threshold: float
) -> Iterator[tuple[int, int]]:
    """Yield all pairs of rows of a batch that are more similar than the threshold, later first."""
    size = len(batch.ends)
    if not size:
        return
    level = _build_level(batch, 0, size, len(vocabulary), threshold)
    workspace = vocabulary.workspace_for(batch)._replace(
        recent=np.full(1 << size.bit_length(), -1, np.int64), matches=np.empty(size, np.int64)
    )
    for row in range(size):
        count = kernels.find_all_matches(row, batch, level, workspace)
        for earlier in workspace.matches[:count].tolist():
            yield row, earlier


def _build_level(
    rows: TokenRows, begin: int, end: int, vocabulary: int, threshold: float
) -> PrefixLevel:
    """Return a prefix index over the rows from `begin` to `end`."""
    frequencies = kernels.count_document_frequencies(rows, begin, end, vocabulary)
    rank = np.empty(vocabulary, np.int32)
    rank[np.argsort(frequencies, kind="stable")] = np.arange(vocabulary, dtype=np.int32)
    key, row, position = kernels.make_postings(rows, begin, end, rank, threshold)
    order = np.lexsort((position, key))
    key, row, position = key[order], row[order], position[order]
    first = np.flatnonzero(np.diff(key, prepend=-1))  # keys are never negative
    groups = np.zeros(vocabulary + 1, np.int32)
    groups[1:] = np.cumsum(np.bincount(key[first] >> 32, minlength=vocabulary))
    length = (key[first] & 0xFFFFFFFF).astype(np.int32)
    first = np.append(first, len(key)).astype(np.int32)
    signatures = rows.signatures[row]
    return PrefixLevel(rank, groups, length, first, row, position, signatures, threshold)


def make_rows(tokens: np.ndarray, start: np.ndarray, ends: np.ndarray) -> TokenRows:
    """Return rows with these tokens, row starts and part ends (see `arrays.TokenRows`)."""
    lengths = np.diff(ends, axis=1, prepend=0)
    filled = ((lengths > 0) * np.array([1, 2, 4])).sum(axis=1).astype(np.uint8)
    rows = TokenRows(tokens, start, ends, np.empty((len(ends), 2), np.uint64), filled)
    kernels.write_signatures(rows)
    return rows


def _query_size(ends: np.ndarray) -> tuple[int, int]:
    """Return the 64-bit words of the longest part of these rows, and the longest row in tokens."""
    longest_part = int(np.diff(ends, axis=1, prepend=0).max(initial=1))
    return -(-longest_part // kernels.WORD_BITS), int(ends[:, -1].max(initial=1))
