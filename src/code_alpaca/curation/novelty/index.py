"""The kept tasks as numbers: rows of tokens, and prefix indices over them that grow with the rows.

How alike rows are is found by `kernels`; here is the memory that they work on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from code_alpaca.curation.novelty import kernels
from code_alpaca.curation.novelty.kernels import Level, Rows, Scratch
from code_alpaca.curation.novelty.measures import TokenizedTask

PARTS = 3
NEWEST = 2048  # rows that are scanned; older ones stand in prefix indices
FAN = 16  # an index takes in so many of the one before it


class NoveltyVerdict(NamedTuple):
    """The most similar kept row at the time ("" where nothing is alike), and the decision."""

    nearest_id: str
    score: float
    is_novel: bool


class Vocabulary:
    """Numbers for tokens, apart for each part, and working memory that fits them."""

    def __init__(self) -> None:
        numbers = itertools.count()
        self._numbers: tuple[dict[str, int], ...] = ({}, {}, {})
        self._next = numbers.__next__
        self._size = 0
        self._scratch = _scratch(1 << 12, 1, 1)

    def rows(self, tasks: Sequence[TokenizedTask]) -> Rows:
        """Tasks as rows of token numbers."""
        flat: list[int] = []
        start, ends = [0], []
        for task in tasks:
            begin, row_ends = len(flat), []
            for known, tokens in zip(self._numbers, task[1:], strict=True):
                for token in tokens:
                    number = known.get(token)
                    if number is None:
                        number = known[token] = self._next()
                        self._size = number + 1
                    flat.append(number)
                row_ends.append(len(flat) - begin)
            start.append(len(flat))
            ends.append(row_ends)
        cuts = np.array(ends, np.int32).reshape(-1, PARTS)
        return rows_of(np.array(flat, np.int32), np.array(start, np.int64), cuts)

    @classmethod
    def of_size(cls, size: int) -> Vocabulary:
        """For tokens that are numbered already, below `size`."""
        made = cls()
        made._size = size
        return made

    def __len__(self) -> int:
        return self._size

    def scratch(self, longest_part: int, longest_row: int) -> Scratch:
        """Working memory for queries of such lengths; one caller at a time."""
        have = self._scratch
        words = -(-longest_part // kernels.WORD)
        tokens = longest_row + 1 if words > 1 else 1
        if len(have.bits) < self._size or have.wide.shape[0] < tokens or len(have.vector) < words:
            size = len(have.bits)
            while size < self._size:
                size *= 2
            self._scratch = _scratch(
                size, max(tokens, have.wide.shape[0]), max(words, len(have.vector))
            )
        return self._scratch


class SimilarityIndex:
    """The kept tasks of one group: rows, and three prefix indices that are merged as they grow.

    As in an LSM tree (O'Neil et al. 1996, https://doi.org/10.1007/s002360050048) the newest rows
    are scanned, older ones stand in an index that takes in FAN times as many before it is merged
    into the next: a row is indexed a few times in all, however many there are.
    """

    def __init__(self, threshold: float, vocabulary: Vocabulary) -> None:
        self._threshold, self._vocabulary = threshold, vocabulary
        self._ids: list[str] = []
        self._rows = _empty_rows(1 << 8, 1 << 12)
        self._levels: list[Level] = [EMPTY_LEVEL] * 3
        self._ends = [0, 0, 0]  # level k holds rows _ends[k + 1] to _ends[k]; the last from 0

    def __len__(self) -> int:
        return len(self._ids)

    def insert(self, ids: Sequence[str], batch: Rows) -> None:
        """Keep rows without asking."""
        self._make_room(batch)
        for i in range(len(ids)):
            query = batch.tokens[batch.start[i] : batch.start[i + 1]]
            kernels.insert(query, batch.ends[i], batch.filled[i], self._rows, len(self) + i)
        self._ids.extend(ids)

    def check_nearest(self, ids: Sequence[str], batch: Rows) -> list[NoveltyVerdict]:
        """Decide rows in order by the exact nearest of each."""
        self._make_room(batch)
        scratch = self._scratch_for(batch)
        apart = np.empty(len(self) + len(ids), np.float32)
        verdicts = []
        for i, row_id in enumerate(ids):
            query = batch.tokens[batch.start[i] : batch.start[i + 1]]
            ends, filled = batch.ends[i], batch.filled[i]
            best, score = kernels.nearest(
                query, ends, filled, self._rows, 0, len(self), scratch, apart
            )
            fresh = not score > self._threshold
            verdicts.append(NoveltyVerdict(self._ids[best] if best >= 0 else "", score, fresh))
            if fresh:
                kernels.insert(query, ends, filled, self._rows, len(self))
                self._ids.append(row_id)
        return verdicts

    def check(self, ids: Sequence[str], batch: Rows) -> list[NoveltyVerdict]:
        """Decide rows in order by the first that is too similar."""
        self._make_room(batch)
        scratch = self._scratch_for(batch)
        ranks = np.empty(int(np.diff(batch.start).max(initial=0)), np.int32)
        found = np.full(len(ids), -1, np.int64)
        done = 0
        while done < len(ids):
            if len(self) - self._ends[0] >= NEWEST:
                self._compact()
            before = done
            done, _ = kernels.offer(
                batch, done, self._rows, self._ends[0], len(self), self._ends[0] + NEWEST,
                tuple(self._levels), scratch, ranks, self._threshold, found,
            )  # fmt: skip
            self._ids.extend(ids[i] for i in range(before, done) if found[i] < 0)
        verdicts, apart = [], np.empty(1, np.float32)
        for i, row in enumerate(found):
            if row < 0:
                verdicts.append(NoveltyVerdict("", 0.0, True))
                continue
            query = batch.tokens[batch.start[i] : batch.start[i + 1]]
            _, score = kernels.nearest(
                query, batch.ends[i], batch.filled[i], self._rows, row, row + 1, scratch, apart
            )
            verdicts.append(NoveltyVerdict(self._ids[row], score, False))
        return verdicts

    def pairs(self, batch: Rows) -> Iterator[tuple[int, int]]:
        """Of an empty index: all pairs of rows that are too alike, the later first."""
        size = len(batch.ends)
        self.insert([""] * size, batch)
        if not size:
            return
        scratch = self._scratch_for(batch)
        level = _level(self._rows, 0, size, len(self._vocabulary), self._threshold)
        ranks = np.empty(int(batch.ends[:, -1].max()), np.int32)
        stamps, found = np.full(size, -1, np.int64), np.empty(size, np.int64)
        for row in range(size):
            count = kernels.all_alike(
                row, ranks, self._rows, level, scratch, self._threshold, stamps, found
            )
            for other in found[:count].tolist():
                yield row, other

    def most_similar(
        self, row: int, most: int, scratches: dict[int, Scratch]
    ) -> tuple[list[tuple[str, float]], float]:
        """Ids and scores of the kept rows before `row` that are most like it; the sum of all.

        Args:
            scratches: working memory of this thread, kept between calls.
        """
        rows = self._rows
        query = rows.tokens[rows.start[row] : rows.start[row + 1]]
        ends = rows.ends[row]
        words = -(-int(np.diff(ends, prepend=0).max()) // kernels.WORD) or 1
        scratch = scratches.get(words)
        if scratch is None or scratch.wide.shape[0] <= len(query):
            scratch = _scratch(len(self._vocabulary), len(query) + 1, words)
            scratches[words] = scratch
        best, scores = np.empty(most, np.int64), np.empty(most, np.float64)
        total = kernels.most_similar(
            query, ends, rows.filled[row], rows, row, scratch, best, scores
        )
        found = [(self._ids[i], float(s)) for i, s in zip(best, scores, strict=True) if i >= 0]
        return found, float(total)

    def _scratch_for(self, batch: Rows) -> Scratch:
        parts = np.diff(batch.ends, axis=1, prepend=0)
        longest = int(parts.max(initial=0))
        return self._vocabulary.scratch(longest, int(batch.ends[:, -1].max(initial=0)))

    def _make_room(self, batch: Rows) -> None:
        have, count = self._rows, len(self)
        rows, tokens = count + len(batch.ends), int(have.start[count]) + len(batch.tokens)
        self._rows = Rows(  # each array for itself: their lengths are not in step
            _grown(have.tokens, tokens),
            _grown(have.start, rows + 1),
            _grown(have.ends, rows),
            _grown(have.signs, rows),
            _grown(have.filled, rows),
        )

    def _compact(self) -> None:
        """Index the newest rows, with those of the levels that are full."""
        count = len(self)
        depth = 0
        if count - self._ends[1] >= NEWEST * FAN:
            depth = 1
            if count - self._ends[2] >= NEWEST * FAN * FAN // 2:
                depth = 2
        begin = 0 if depth == 2 else self._ends[depth + 1]
        self._levels[depth] = _level(
            self._rows, begin, count, len(self._vocabulary), self._threshold
        )
        self._levels[:depth] = [EMPTY_LEVEL] * depth
        self._ends[: depth + 1] = [count] * (depth + 1)


def rows_of(tokens: np.ndarray, start: np.ndarray, ends: np.ndarray) -> Rows:
    """Rows from their tokens and parts; their signs are written where they are kept."""
    lengths = np.diff(ends, axis=1, prepend=0)
    filled = ((lengths > 0) * np.array([1, 2, 4])).sum(axis=1).astype(np.uint8)
    return Rows(tokens, start, ends, np.empty((len(ends), 2), np.uint64), filled)


def _level(rows: Rows, begin: int, end: int, vocabulary: int, threshold: float) -> Level:
    times = kernels.count_rows(rows, begin, end, vocabulary)
    rank = np.empty(vocabulary, np.int32)
    rank[np.argsort(times, kind="stable")] = np.arange(vocabulary, dtype=np.int32)
    nothing = np.empty(0, np.int64)
    most = kernels.postings(
        rows, begin, end, rank, threshold, nothing, np.empty(0, np.int32), np.empty(0, np.int32)
    )
    key, row, place = np.empty(most, np.int64), np.empty(most, np.int32), np.empty(most, np.int32)
    size = kernels.postings(rows, begin, end, rank, threshold, key, row, place)
    key, row, place = key[:size], row[:size], place[:size]
    order = np.lexsort((place, key))
    key, row, place = key[order], row[order], place[order]
    groups = np.zeros(vocabulary + 1, np.int32)
    length, first = np.empty(size, np.int32), np.empty(size + 1, np.int32)
    found = kernels.group(key, vocabulary, groups, length, first)
    return Level(
        rank, groups, length[:found].copy(), first[: found + 1].copy(), row, place, rows.signs[row]
    )


def _scratch(vocabulary: int, tokens: int, words: int) -> Scratch:
    return Scratch(
        np.zeros(vocabulary, np.uint64),
        np.zeros(vocabulary, np.int32),
        np.zeros((tokens, words), np.uint64),
        np.zeros(words, np.uint64),
        np.zeros(256, np.int64),
    )


def _empty_rows(rows: int, tokens: int) -> Rows:
    return Rows(
        np.zeros(tokens, np.int32),
        np.zeros(rows + 1, np.int64),
        np.zeros((rows, PARTS), np.int32),
        np.zeros((rows, 2), np.uint64),
        np.zeros(rows, np.uint8),
    )


def _grown(array: np.ndarray, least: int) -> np.ndarray:
    """A longer copy: half as long again, so that growing is rare and wastes a third at most."""
    if least <= len(array):
        return array
    longer = np.zeros((max(least, len(array) * 3 // 2), *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer


EMPTY_LEVEL = Level(
    np.zeros(0, np.int32), np.zeros(1, np.int32), np.zeros(0, np.int32), np.zeros(1, np.int32),
    np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros((0, 2), np.uint64),
)  # fmt: skip
