"""Build prefix indices (`arrays.PrefixLevel`) over token rows."""

from __future__ import annotations

import numpy as np

from code_alpaca.curation.novelty.arrays import PrefixLevel, TokenRows
from code_alpaca.curation.novelty.kernels import compiled, prefix_length


def build_level(
    rows: TokenRows, begin: int, end: int, vocabulary: int, threshold: float
) -> PrefixLevel:
    """Return a prefix index over the rows from `begin` to `end`.

    Args:
        vocabulary: number of distinct tokens.
        threshold: similarity above which two rows match.
    """
    frequencies = count_document_frequencies(rows, begin, end, vocabulary)
    rank = np.empty(vocabulary, np.int32)
    rank[np.argsort(frequencies, kind="stable")] = np.arange(vocabulary, dtype=np.int32)
    longest = int(rows.ends[begin:end, -1].max(initial=0))
    prefix_lengths = np.array([prefix_length(n, threshold) for n in range(longest + 1)])
    key, row, position = make_postings(rows, begin, end, rank, prefix_lengths)
    order = np.lexsort((position, key))
    key, row, position = key[order], row[order], position[order]
    first = np.flatnonzero(np.diff(key, prepend=-1))  # keys are never negative
    groups = np.zeros(vocabulary + 1, np.int32)
    groups[1:] = np.cumsum(np.bincount(key[first] >> 32, minlength=vocabulary))
    return PrefixLevel(
        rank=rank,
        groups=groups,
        length=(key[first] & 0xFFFFFFFF).astype(np.int32),
        first=np.append(first, len(key)).astype(np.int32),
        row=row,
        position=position,
        signatures=rows.signatures[row],
        threshold=threshold,
    )


@compiled
def count_document_frequencies(rows, begin, end, vocabulary):
    """Return in how many of the rows from `begin` to `end` each token occurs."""
    counts = np.zeros(vocabulary, np.int32)
    last = np.full(vocabulary, -1, np.int64)
    for row in range(begin, end):
        for i in range(rows.start[row], rows.start[row + 1]):
            token = rows.tokens[i]
            if last[token] != row:
                last[token] = row
                counts[token] += 1
    return counts


@compiled
def make_postings(rows, begin, end, rank, prefix_lengths):
    """Return the postings of the rows from `begin` to `end`: arrays of keys, rows and positions.

    A key is the rank of a token (upper 32 bits) and the length of the row. The lengths come as an
    array because numba does not notice changes to a function in another file (see `kernels`).
    """
    size = 0
    for row in range(begin, end):
        size += prefix_lengths[rows.ends[row, 2]]
    key = np.empty(size, np.int64)
    row_of, position_of = np.empty(size, np.int32), np.empty(size, np.int32)
    count = 0
    for row in range(begin, end):
        n = np.int64(rows.ends[row, 2])
        ranks = np.sort(rank[rows.tokens[rows.start[row] : rows.start[row + 1]]])
        for position in range(prefix_lengths[n]):
            if position == 0 or ranks[position] != ranks[position - 1]:
                key[count] = (np.int64(ranks[position]) << 32) | n
                row_of[count], position_of[count] = row, position
                count += 1
    return key[:count], row_of[:count], position_of[:count]
