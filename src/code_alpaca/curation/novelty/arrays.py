"""Array layouts that the compiled similarity search (`kernels`) reads and writes.

The defaults of `TokenRows` and `PrefixLevel` are an empty one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

NUM_PARTS = 3  # instruction words, instruction operators, input tokens
RECENT_ROWS = 256  # entries of `Workspace.recent` in a search for a single match


class TokenRows(NamedTuple):
    """Tokenized tasks. The tokens of row r are `tokens[start[r]:start[r + 1]]`."""

    tokens: np.ndarray = np.zeros(0, np.int32)
    start: np.ndarray = np.zeros(1, np.int64)  # (rows + 1,)
    ends: np.ndarray = np.zeros((0, NUM_PARTS), np.int32)  # of the parts of each row, in its tokens
    signatures: np.ndarray = np.zeros((0, 2), np.uint64)  # see `kernels.write_signatures`
    filled: np.ndarray = np.zeros(0, np.uint8)  # (rows,): bit p is set if part p has tokens


class Query(NamedTuple):
    """One row that is compared with others (see `kernels.read_query`)."""

    tokens: np.ndarray  # (tokens,) int32
    ends: np.ndarray  # (3,) int32
    filled: np.uint8
    low: np.uint64  # the two words of the signature
    high: np.uint64


class PrefixLevel(NamedTuple):
    """A prefix index over rows that no longer change.

    Postings are sorted by token, then by the row's length (a group), then by the token's position.
    """

    rank: np.ndarray = np.zeros(0, np.int32)  # (vocabulary,): rank of a token, rarest first
    groups: np.ndarray = np.zeros(1, np.int32)  # (vocabulary + 1,): first group of each rank
    length: np.ndarray = np.zeros(0, np.int32)  # (groups,): row length
    first: np.ndarray = np.zeros(1, np.int32)  # (groups + 1,): first posting of each group
    row: np.ndarray = np.zeros(0, np.int32)  # (postings,)
    position: np.ndarray = np.zeros(0, np.int32)  # (postings,)
    signatures: np.ndarray = np.zeros((0, 2), np.uint64)  # copied: a scan reads memory in order
    threshold: float = 0.0  # similarity above which two rows match


class SearchIndex(NamedTuple):
    """Indexed rows; those from `num_indexed` on are in no level and are scanned one by one."""

    rows: TokenRows
    levels: tuple[PrefixLevel, PrefixLevel, PrefixLevel]
    num_indexed: int
    num_rows: int
    capacity: int  # `kernels.check_batch` stops at this number of rows
    threshold: float


class LcsTables(NamedTuple):
    """The current query as `kernels.similarity` reads it; zeros between two queries."""

    bits: np.ndarray  # (vocabulary,) uint64: positions of a token in its part of the query
    places: np.ndarray  # (vocabulary,) int32: 1 + the row of `wide` of a token, or 0
    wide: np.ndarray  # (query tokens + 1, words): `bits` for parts longer than a word
    vector: np.ndarray  # (words,) uint64: state of the LCS computation


class Workspace(NamedTuple):
    """Scratch memory of one thread."""

    lcs: LcsTables
    ranks: np.ndarray  # (query tokens,) int32
    recent: np.ndarray  # (a power of two,) int64: rows compared with the current query
    matches: np.ndarray  # (most matches to find,) int64
    distances: np.ndarray  # (rows to scan,) float32


def grow_rows(rows: TokenRows, num_rows: int, num_tokens: int) -> TokenRows:
    """Return the rows in arrays with room for at least this many rows and tokens."""
    sizes = (num_tokens, num_rows + 1, num_rows, num_rows, num_rows)
    return TokenRows(*map(_grow, rows, sizes))


def make_workspace(vocabulary: int, longest_row: int, words: int) -> Workspace:
    """Return scratch memory for queries of up to `longest_row` tokens.

    `words` is the number of 64-bit words of the longest part of a query.
    """
    wide = np.zeros((longest_row + 1 if words > 1 else 1, words), np.uint64)
    bits, places = np.zeros(vocabulary, np.uint64), np.zeros(vocabulary, np.int32)
    return Workspace(
        LcsTables(bits, places, wide, vector=np.zeros(words, np.uint64)),
        ranks=np.zeros(longest_row, np.int32),
        recent=np.zeros(RECENT_ROWS, np.int64),
        matches=np.zeros(1, np.int64),
        distances=np.zeros(1, np.float32),
    )


def _grow(array: np.ndarray, size: int) -> np.ndarray:
    """Return a copy with at least `size` entries, half as long again so that growing is rare."""
    if size <= len(array):
        return array
    longer = np.zeros((max(size, len(array) * 3 // 2), *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer
