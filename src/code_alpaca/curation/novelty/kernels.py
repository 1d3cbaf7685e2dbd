"""The compiled part of novelty: how alike are two token sequences, and which row is the nearest?

A row is up to three parts of token ids (see `novelty`); two rows are as alike as their least
alike part, by ROUGE-L F1 (Lin 2004, https://aclanthology.org/W04-1013). All searches are exact.
What they skip, they skip by bounds:

- Length and sign. F1 > t in every part needs a common subsequence of more than t (m + n) / 2
  tokens, so at most (1 - t) (m + n) tokens may stand on one side alone. The XOR of two rows'
  128-bit signs (one bit flipped by each token) has no more bits than that.
- Prefixes (Chaudhuri et al. 2006, https://doi.org/10.1109/ICDE.2006.9; with positions, Xiao et
  al. 2008, https://doi.org/10.1145/1367497.1367516). With tokens ordered rarest first, two rows
  that share enough share one of their first few, near enough to the front.

What is left is compared by a bit-parallel longest common subsequence, 64 tokens a step (Hyyrö
2004, "Bit-parallel LCS-length computation revisited").

All in one file: numba knows that what it keeps is out of date by the file of a function alone, not
by those of the functions that it calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit

MARGIN = 1e-6  # on real-number bounds, against the rounding of floats; only ever lets more through
WORD = 64

_ZERO, _ONE, _ALL = np.uint64(0), np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)


class Rows(NamedTuple):
    """Token rows. Row d is `tokens[start[d]:start[d + 1]]`; its parts end at `ends[d]` in it."""

    tokens: np.ndarray  # (tokens,) int32
    start: np.ndarray  # (rows + 1,) int64
    ends: np.ndarray  # (rows, 3) int32; the last is the row's length
    signs: np.ndarray  # (rows, 2) uint64
    filled: np.ndarray  # (rows,) uint8: bit p says that part p is not empty


class Level(NamedTuple):
    """A prefix index over rows that no longer change.

    The postings of one token stand together, those of rows of equal length in one group, and in a
    group by the token's place in the row.
    """

    rank: np.ndarray  # (vocabulary,) int32: tokens by how many rows hold them, rarest first
    groups: np.ndarray  # (vocabulary + 1,) int32: the first group of the token of each rank
    length: np.ndarray  # (groups,) int32
    first: np.ndarray  # (groups + 1,) int32: the first posting of each group
    row: np.ndarray  # (postings,) int32
    place: np.ndarray  # (postings,) int32
    signs: np.ndarray  # (postings, 2) uint64, copied here so that a scan reads memory in order


class Scratch(NamedTuple):
    """Working memory of one thread; `bits` and `places` are all zero between two queries."""

    bits: np.ndarray  # (vocabulary,) uint64: where in its part a token of the query stands
    places: np.ndarray  # (vocabulary,) int32: row of `wide` of a token, plus one
    wide: np.ndarray  # (tokens of a query + 1, words): `bits` of queries longer than a word
    vector: np.ndarray  # (words,) uint64
    seen: np.ndarray  # (256,) int64: rows compared just now


def compiled(function: Callable) -> Callable:
    """Compiled at its first call, and kept for later starts where there is a folder to keep it."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither beside this file nor at home: some seconds, at every start
        return njit(nogil=True)(function)


@compiled
def popcount(x):
    """Bits set; LLVM knows these four lines and makes them one instruction."""
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (x * np.uint64(0x0101010101010101)) >> np.uint64(56)


@compiled
def sign_of(tokens):
    """The two words of a row's sign."""
    low, high = _ZERO, _ZERO
    for token in tokens:
        x = np.uint64(token + 1) * np.uint64(0x9E3779B97F4A7C15)
        x ^= x >> np.uint64(29)
        x *= np.uint64(0xBF58476D1CE4E5B9)
        x ^= x >> np.uint64(32)
        bit = _ONE << (x & np.uint64(63))
        if x & np.uint64(64):
            high ^= bit
        else:
            low ^= bit
    return low, high


@compiled
def differing(signs, place, low, high):
    """How many bits of a sign, one of many, are not those of another."""
    return popcount(signs[place, 0] ^ low) + popcount(signs[place, 1] ^ high)


@compiled
def prefix(length, threshold):
    """How many of its rarest tokens a row is found by: two that are alike share one of those."""
    return length + 1 - max(1, int(np.ceil(threshold * length / (2.0 - threshold) - MARGIN)))


@compiled
def least_shared(m, n, threshold):
    """How many tokens two rows of such lengths share at least if they are alike."""
    return max(1, int(np.ceil(threshold * (m + n) / 2.0 - MARGIN)))


@compiled
def f1(common, m, n):
    """rouge_score's own expression: at a threshold such as 0.7 the order of operations decides."""
    if m == 0 or n == 0:
        return 0.0
    precision, recall = common / n, common / m
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


@compiled
def open_query(query, ends, scratch):
    """Note where each token of a query stands."""
    longest = max(ends[0], ends[1] - ends[0], ends[2] - ends[1])
    bits, places, wide, _, _ = scratch
    begin = 0
    used = 0
    for part in range(3):
        for i in range(begin, ends[part]):
            token, at = query[i], i - begin
            if longest <= WORD:
                bits[token] |= _ONE << np.uint64(at)
            else:
                if places[token] == 0:
                    used += 1
                    places[token] = used
                    wide[used, :] = _ZERO
                wide[places[token], at // WORD] |= _ONE << np.uint64(at % WORD)
        begin = ends[part]


@compiled
def close_query(query, scratch):
    for token in query:
        scratch.bits[token] = _ZERO
        scratch.places[token] = 0


@compiled
def common_narrow(tokens, begin, end, bits):
    """Length of the longest common subsequence with a query's part of up to 64 tokens."""
    vector = _ALL
    for i in range(begin, end):
        both = vector & bits[tokens[i]]
        vector = (vector + both) | (vector - both)
    return popcount(~vector)


@compiled
def common_wide(tokens, begin, end, m, scratch):
    """The same for a longer one."""
    words = (m + WORD - 1) // WORD
    _, places, wide, vector, _ = scratch
    vector[:words] = _ALL
    for i in range(begin, end):
        place = places[tokens[i]]
        if place == 0:
            continue
        carry = _ZERO
        for w in range(words):
            old = vector[w]
            both = old & wide[place, w]
            total = old + both
            over = _ONE if total < old else _ZERO
            summed = total + carry
            carry = over | (_ONE if summed < total else _ZERO)
            vector[w] = summed | (old - both)
    found = _ZERO
    for w in range(words):
        found += popcount(~vector[w])
    return found


@compiled
def alike(rows, row, ends, scratch, floor):
    """How alike a row is to the open query, or -1.0 where that is not above `floor`.

    The caller has seen to it that the same parts of both are empty.
    """
    start = rows.start[row]
    longest = max(ends[0], ends[1] - ends[0], ends[2] - ends[1])
    score = 1.0
    m_before, n_before = 0, 0
    for part in range(3):
        m, n = ends[part] - m_before, rows.ends[row, part] - n_before
        if m > 0:
            if not f1(min(m, n), m, n) > floor:
                return -1.0
            begin, end = start + n_before, start + rows.ends[row, part]
            if longest <= WORD:
                common = common_narrow(rows.tokens, begin, end, scratch.bits)
            else:
                common = common_wide(rows.tokens, begin, end, m, scratch)
            score = min(score, f1(np.int64(common), m, n))
            if not score > floor:
                return -1.0
        m_before, n_before = ends[part], rows.ends[row, part]
    return score


@compiled
def nearest(query, ends, filled, rows, begin, end, scratch, apart):
    """The most similar of the rows from `begin` to `end`, the oldest of equals, and how alike.

    `apart` is room for `end - begin` float32. Returns (-1, 0.0) where nothing is alike.
    """
    best, score = -1, 0.0
    m = query.size
    if filled & np.uint8(1) == 0:
        return best, score
    low, high = sign_of(query)
    # Slices of what is read: the compiler then knows that no index is negative.
    signs, lengths, kinds = rows.signs[begin:end], rows.ends[begin:end, 2], rows.filled[begin:end]
    apart = apart[: end - begin]
    closest = np.float32(1.0)
    for i in range(apart.size):
        bits = differing(signs, i, low, high)
        share = np.float32(np.int64(bits)) / np.float32(m + lengths[i])
        apart[i] = share if kinds[i] == filled else np.float32(2.0)
        if apart[i] < closest:
            closest, best = apart[i], i
    if best < 0:
        return best, score
    # The one with the best bound first: what it scores spares looking at nearly all others.
    open_query(query, ends, scratch)
    score = max(0.0, alike(rows, begin + best, ends, scratch, 0.0))
    bound = np.float32(1.0 - score + MARGIN)
    for i in range(apart.size):
        if apart[i] <= bound and i != best:
            found = alike(rows, begin + i, ends, scratch, np.nextafter(score, -1.0))
            if found > score or (found == score and i < best):
                best, score = i, found
                bound = np.float32(1.0 - score + MARGIN)
    close_query(query, scratch)
    return (begin + best, score) if score > 0 else (-1, 0.0)


@compiled
def most_similar(query, ends, filled, rows, count, scratch, best, scores):
    """The most similar of the first `count` rows, by score and then the newest, into `best`.

    Looks at every row, and returns the sum of all scores. `best` and `scores` have the length
    that is wanted; unused places of `best` become -1.
    """
    best[:], scores[:] = -1, 0.0
    total = 0.0
    if filled & np.uint8(1) == 0:
        return total
    open_query(query, ends, scratch)
    last = best.size - 1
    for row in range(count):
        if rows.filled[row] != filled:
            continue
        score = alike(rows, row, ends, scratch, 0.0)
        if not score > 0.0:
            continue
        total += score
        if score >= scores[last]:
            place = last
            while place > 0 and score >= scores[place - 1]:
                best[place], scores[place] = best[place - 1], scores[place - 1]
                place -= 1
            best[place], scores[place] = row, score
    close_query(query, scratch)
    return total


@compiled
def _search_level(query, ranks, ends, filled, low, high, rows, level, scratch, threshold):
    """Some row of a level that is too alike, or -1. `ranks` is room for the query's tokens."""
    m = query.size
    known = level.rank.size
    for i in range(m):
        # Tokens that the level has never seen are rarer than all others.
        ranks[i] = level.rank[query[i]] if query[i] < known else -1 - query[i]
    ordered = np.sort(ranks[:m])
    scratch.seen[:] = -1
    for i in range(prefix(m, threshold)):
        rank = ordered[i]
        if rank < 0 or (i > 0 and rank == ordered[i - 1]):
            continue
        for group in range(level.groups[rank], level.groups[rank + 1]):
            n = level.length[group]
            shared = least_shared(m, n, threshold)
            if shared > min(m, n) or i > m - shared:
                continue
            apart_at_most = (1.0 - threshold) * (m + n) + MARGIN
            for p in range(level.first[group], level.first[group + 1]):
                if level.place[p] > n - shared:
                    break
                apart = differing(level.signs, p, low, high)
                if apart > apart_at_most:
                    continue
                row = level.row[p]
                if rows.filled[row] != filled or scratch.seen[row & 255] == row:
                    continue
                scratch.seen[row & 255] = row
                if alike(rows, row, ends, scratch, threshold) > threshold:
                    return row
    return -1


@compiled
def all_alike(row, ranks, rows, level, scratch, threshold, stamps, found):
    """Every row before `row` that is more alike than the threshold, into `found`; how many.

    The level holds all rows. `stamps` has a place for each, and starts with -1.
    """
    query = rows.tokens[rows.start[row] : rows.start[row + 1]]
    ends, filled, m = rows.ends[row], rows.filled[row], query.size
    low, high = rows.signs[row, 0], rows.signs[row, 1]
    for i in range(m):
        ranks[i] = level.rank[query[i]]
    ordered = np.sort(ranks[:m])
    open_query(query, ends, scratch)
    count = 0
    for i in range(prefix(m, threshold)):
        rank = ordered[i]
        if i > 0 and rank == ordered[i - 1]:
            continue
        for group in range(level.groups[rank], level.groups[rank + 1]):
            n = level.length[group]
            shared = least_shared(m, n, threshold)
            if shared > min(m, n) or i > m - shared:
                continue
            apart_at_most = (1.0 - threshold) * (m + n) + MARGIN
            for p in range(level.first[group], level.first[group + 1]):
                if level.place[p] > n - shared:
                    break
                other = level.row[p]
                if other >= row or stamps[other] == row or rows.filled[other] != filled:
                    continue
                apart = differing(level.signs, p, low, high)
                if apart > apart_at_most:
                    continue
                stamps[other] = row
                if alike(rows, other, ends, scratch, threshold) > threshold:
                    found[count] = other
                    count += 1
    close_query(query, scratch)
    return count


@compiled
def find_alike(query, ranks, ends, filled, rows, indexed, count, levels, scratch, threshold):
    """Some row among the first `count` that is more alike than the threshold, or -1.

    Rows from `indexed` on stand in no level and are scanned, newest first.
    """
    if filled & np.uint8(1) == 0:
        return -1
    low, high = sign_of(query)
    open_query(query, ends, scratch)
    found = -1
    m = query.size
    slack = 1.0 - threshold
    for row in range(count - 1, indexed - 1, -1):
        apart = differing(rows.signs, row, low, high)
        if apart > slack * (m + rows.ends[row, 2]) + MARGIN or rows.filled[row] != filled:
            continue
        if alike(rows, row, ends, scratch, threshold) > threshold:
            found = row
            break
    for k in range(3):
        if found < 0 and levels[k].row.size:
            found = _search_level(
                query, ranks, ends, filled, low, high, rows, levels[k], scratch, threshold
            )
    close_query(query, scratch)
    return found


@compiled
def insert(query, ends, filled, rows, count):
    """Write a row behind the first `count`; the caller has made room."""
    start = rows.start[count]
    for i in range(query.size):
        rows.tokens[start + i] = query[i]
    rows.start[count + 1] = start + query.size
    rows.ends[count, :] = ends
    rows.filled[count] = filled
    low, high = sign_of(query)
    rows.signs[count, 0], rows.signs[count, 1] = low, high


@compiled
def check(batch, begin, rows, indexed, count, room, levels, scratch, ranks, threshold, found):
    """Decide the rows of a batch from `begin` on, in their order; keep those that are new.

    `found[i]` becomes the kept row that is too like row i, or -1. Stops when `count` reaches
    `room`. Returns the next row to decide and the new count.
    """
    i = begin
    while i < found.size and count < room:
        query = batch.tokens[batch.start[i] : batch.start[i + 1]]
        ends, filled = batch.ends[i], batch.filled[i]
        found[i] = find_alike(
            query, ranks, ends, filled, rows, indexed, count, levels, scratch, threshold
        )
        if found[i] < 0:
            insert(query, ends, filled, rows, count)
            count += 1
        i += 1
    return i, count


@compiled
def count_rows(rows, begin, end, vocabulary):
    """In how many of the rows each token stands."""
    times = np.zeros(vocabulary, np.int32)
    last = np.full(vocabulary, -1, np.int64)
    for row in range(begin, end):
        for i in range(rows.start[row], rows.start[row + 1]):
            token = rows.tokens[i]
            if last[token] != row:
                last[token] = row
                times[token] += 1
    return times


@compiled
def postings(rows, begin, end, rank, threshold, key, row_of, place_of):
    """Fill the postings of rows `begin` to `end`, and return how many there are.

    `key` is the token's rank and the row's length, to be sorted by. With empty arrays it only
    counts (an upper bound).
    """
    filled = 0
    for row in range(begin, end):
        n = np.int64(rows.ends[row, 2])
        if n == 0:
            continue
        shown = prefix(n, threshold)
        if key.size == 0:
            filled += shown
            continue
        ranks = np.sort(rank[rows.tokens[rows.start[row] : rows.start[row + 1]]])
        for place in range(shown):
            if place == 0 or ranks[place] != ranks[place - 1]:
                key[filled] = (np.int64(ranks[place]) << 32) | n
                row_of[filled], place_of[filled] = row, place
                filled += 1
    return filled


@compiled
def group(key, vocabulary, groups, length, first):
    """Where in sorted keys each token and each length begins; returns the number of groups."""
    found = -1
    rank = -1
    for p in range(key.size):
        if p == 0 or key[p] != key[p - 1]:
            found += 1
            length[found] = key[p] & 0xFFFFFFFF
            first[found] = p
            while rank < key[p] >> 32:
                rank += 1
                groups[rank] = found
    found += 1
    first[found] = key.size
    while rank < vocabulary:
        rank += 1
        groups[rank] = found
    return found
