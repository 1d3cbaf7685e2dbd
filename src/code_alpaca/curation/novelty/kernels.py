"""Compiled exact similarity search over token rows.

Two rows are as similar as their least similar part, by ROUGE-L F1 (Lin 2004,
https://aclanthology.org/W04-1013). Candidates are pruned by bounds that never lose a match:

- Length and signature. F1 > t in every part needs a common subsequence of more than t (m + n) / 2
  tokens, so at most (1 - t) (m + n) tokens are in one row only. Each token flips one bit of a
  128-bit signature, so the XOR of two signatures has at most that many bits.
- Prefix filtering (Chaudhuri et al. 2006, https://doi.org/10.1109/ICDE.2006.9) with positions
  (Xiao et al. 2008, https://doi.org/10.1145/1367497.1367516). With tokens ordered rarest first,
  two similar rows share one of their first few tokens, near the front of both.

Remaining candidates are compared with a bit-parallel longest common subsequence, 64 tokens a step
(Hyyro 2004, "Bit-parallel LCS-length computation revisited").

All kernels are in one file: numba invalidates its cache by the file of the compiled function only,
not by the files of the functions that it calls.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit

from code_alpaca.curation.novelty.arrays import Query

MARGIN = 1e-6  # added to floating-point bounds, so that rounding never prunes a match
WORD_BITS = 64

_ZERO, _ONE, _ALL = np.uint64(0), np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)


def compiled(function: Callable) -> Callable:
    """Compile a function at its first call, cached on disk if there is a writable cache folder."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither the source folder nor the home is writable: compile every time
        return njit(nogil=True)(function)


@compiled
def check_batch(batch, begin, index, workspace, matches):
    """Compare the rows of a batch, from `begin` on, with all earlier rows; insert the novel ones.

    `matches[i]` becomes a row that is more similar than the threshold to row i, or -1. Stops at
    `index.capacity` rows; returns the next row to check and the new number of rows.
    """
    i, num_rows = begin, index.num_rows
    while i < matches.size and num_rows < index.capacity:
        query = read_query(batch, i)
        matches[i] = find_match(query, index, num_rows, workspace)
        if matches[i] < 0:
            insert_row(query, index.rows, num_rows)
            num_rows += 1
        i += 1
    return i, num_rows


@compiled
def find_match(query, index, num_rows, workspace):
    """Return a row among the first `num_rows` that matches the query, or -1."""
    if query.filled & np.uint8(1) == 0:
        return -1
    rows, threshold = index.rows, index.threshold
    low, high, filled = query.low, query.high, query.filled
    open_query(query, workspace.lcs)
    match, m, slack = -1, query.tokens.size, 1.0 - threshold
    for row in range(num_rows - 1, index.num_indexed - 1, -1):
        distance = count_different_bits(rows.signatures, row, low, high)
        if distance > slack * (m + rows.ends[row, 2]) + MARGIN or rows.filled[row] != filled:
            continue
        if similarity(rows, row, query.ends, workspace.lcs, threshold) > threshold:
            match = row
            break
    workspace.recent[:] = -1
    for k in range(3):
        level = index.levels[k]
        if match < 0 and level.row.size and scan_postings(query, rows, level, num_rows, workspace):
            match = workspace.matches[0]
    close_query(query, workspace.lcs)
    return match


@compiled
def find_all_matches(row, rows, level, workspace):
    """Write the earlier rows of a level that match a row to `workspace.matches`; count them."""
    query = read_query(rows, row)
    open_query(query, workspace.lcs)
    count = scan_postings(query, rows, level, row, workspace)
    close_query(query, workspace.lcs)
    return count


@compiled
def scan_postings(query, rows, level, num_rows, workspace):
    """Write rows of a level that match the open query to `workspace.matches` until it is full.

    Only rows before `num_rows` count. Returns the number of matches.
    """
    threshold, ranks = level.threshold, workspace.ranks
    recent, matches, lcs = workspace.recent, workspace.matches, workspace.lcs
    low, high, filled = query.low, query.high, query.filled
    m, vocabulary = query.tokens.size, level.rank.size
    for i in range(m):
        token = query.tokens[i]
        # A token that is in no row of the level is rarer than all others.
        ranks[i] = level.rank[token] if token < vocabulary else -1 - token
    ordered = np.sort(ranks[:m])
    # A row has several postings; `recent` is a cache of the rows compared with this query.
    key_base, last_place = np.int64(num_rows) << 32, recent.size - 1
    count = 0
    for i in range(prefix_length(m, threshold)):
        rank = ordered[i]
        if rank < 0 or (i > 0 and rank == ordered[i - 1]):
            continue
        for group in range(level.groups[rank], level.groups[rank + 1]):
            n = level.length[group]
            shared = min_shared_tokens(m, n, threshold)
            if shared > min(m, n) or i > m - shared:
                continue
            max_distance = (1.0 - threshold) * (m + n) + MARGIN
            for p in range(level.first[group], level.first[group + 1]):
                if level.position[p] > n - shared:
                    break
                if count_different_bits(level.signatures, p, low, high) > max_distance:
                    continue
                row = level.row[p]
                key = key_base | row
                if row >= num_rows or rows.filled[row] != filled or recent[row & last_place] == key:
                    continue
                recent[row & last_place] = key
                if similarity(rows, row, query.ends, lcs, threshold) > threshold:
                    matches[count] = row
                    count += 1
                    if count == matches.size:
                        return count
    return count


@compiled
def check_batch_nearest(batch, index, workspace, nearest, scores):
    """Find the nearest earlier row of each row of a batch, and insert the novel ones.

    `nearest[i]` becomes -1 if no row has anything in common with row i.
    """
    num_rows = index.num_rows
    for i in range(nearest.size):
        query = read_query(batch, i)
        nearest[i], scores[i] = find_nearest(query, index.rows, 0, num_rows, workspace)
        if not scores[i] > index.threshold:
            insert_row(query, index.rows, num_rows)
            num_rows += 1


@compiled
def score_matches(batch, rows, matches, workspace, scores):
    """Write the similarity of each row of a batch to its match to `scores`."""
    for i in range(matches.size):
        if matches[i] >= 0:
            query = read_query(batch, i)
            _, scores[i] = find_nearest(query, rows, matches[i], matches[i] + 1, workspace)


@compiled
def find_nearest(query, rows, begin, end, workspace):
    """Return the most similar row from `begin` to `end`, the oldest of equals, and its score.

    (-1, 0.0) if no row has anything in common.
    """
    best, score, m = -1, 0.0, query.tokens.size
    if query.filled & np.uint8(1) == 0:
        return best, score
    # Slices, so that the compiler can rule out negative indices.
    signatures, lengths = rows.signatures[begin:end], rows.ends[begin:end, 2]
    filled_parts = rows.filled[begin:end]
    low, high, filled = query.low, query.high, query.filled
    ends, lcs = query.ends, workspace.lcs
    distances = workspace.distances[: end - begin]
    smallest = np.float32(1.0)
    for i in range(distances.size):
        bits = count_different_bits(signatures, i, low, high)
        fraction = np.float32(np.int64(bits)) / np.float32(m + lengths[i])
        distances[i] = fraction if filled_parts[i] == filled else np.float32(2.0)
        if distances[i] < smallest:
            smallest, best = distances[i], i
    if best < 0:
        return best, score
    # The row with the best bound first: its similarity rules out nearly all others.
    open_query(query, workspace.lcs)
    score = max(0.0, similarity(rows, begin + best, ends, lcs, 0.0))
    bound = np.float32(1.0 - score + MARGIN)
    for i in range(distances.size):
        if distances[i] <= bound and i != best:
            other = similarity(rows, begin + i, ends, lcs, np.nextafter(score, -1.0))
            if other > score or (other == score and i < best):
                best, score = i, other
                bound = np.float32(1.0 - score + MARGIN)
    close_query(query, workspace.lcs)
    return (begin + best, score) if score > 0 else (-1, 0.0)


@compiled
def rank_earlier(row, rows, workspace, scores):
    """Rank the rows before `row` by their similarity to it, newest first among equals.

    The best `scores.size` rows are written to `workspace.matches` (-1: none) and their similarities
    to `scores`. Returns the sum of all similarities.
    """
    query, best = read_query(rows, row), workspace.matches
    best[:], scores[:] = -1, 0.0
    total = 0.0
    if query.filled & np.uint8(1) == 0:
        return total
    open_query(query, workspace.lcs)
    last = scores.size - 1
    for earlier in range(row):
        if rows.filled[earlier] != query.filled:
            continue
        score = similarity(rows, earlier, query.ends, workspace.lcs, 0.0)
        if not score > 0.0:
            continue
        total += score
        if score >= scores[last]:
            place = last
            while place > 0 and score >= scores[place - 1]:
                best[place], scores[place] = best[place - 1], scores[place - 1]
                place -= 1
            best[place], scores[place] = earlier, score
    close_query(query, workspace.lcs)
    return total


@compiled
def read_query(rows, row):
    """Return a row as a query."""
    tokens = rows.tokens[rows.start[row] : rows.start[row + 1]]
    low, high = rows.signatures[row, 0], rows.signatures[row, 1]
    return Query(tokens, rows.ends[row], rows.filled[row], low, high)


@compiled
def insert_batch(batch, rows, num_rows):
    """Write the rows of a batch after the first `num_rows`; the caller has made room."""
    for i in range(batch.filled.size):
        insert_row(read_query(batch, i), rows, num_rows + i)


@compiled
def insert_row(query, rows, row):
    """Write a query to `rows` as the row with this number; the caller has made room."""
    start, end = rows.start[row], rows.start[row] + query.tokens.size
    rows.tokens[start:end] = query.tokens
    rows.start[row + 1] = end
    rows.ends[row, :] = query.ends
    rows.filled[row] = query.filled
    rows.signatures[row, 0], rows.signatures[row, 1] = query.low, query.high


@compiled
def open_query(query, lcs):
    """Record the positions of each token of a query, for `similarity`."""
    bits, places, wide = lcs.bits, lcs.places, lcs.wide
    ends = query.ends
    longest = max(ends[0], ends[1] - ends[0], ends[2] - ends[1])
    begin, used = 0, 0
    for part in range(3):
        for i in range(begin, ends[part]):
            token, position = query.tokens[i], i - begin
            if longest <= WORD_BITS:
                bits[token] |= _ONE << np.uint64(position)
            else:
                if places[token] == 0:
                    used += 1
                    places[token] = used
                    wide[used, :] = _ZERO
                bit = _ONE << np.uint64(position % WORD_BITS)
                wide[places[token], position // WORD_BITS] |= bit
        begin = ends[part]


@compiled
def close_query(query, lcs):
    """Reset the positions after a query."""
    for token in query.tokens:
        lcs.bits[token] = _ZERO
        lcs.places[token] = 0


@compiled
def similarity(rows, row, ends, lcs, floor):
    """Return the similarity of a row to the open query, or -1.0 if it is not above `floor`.

    The caller has checked that the same parts of both are empty.
    """
    start, score, m_before, n_before = rows.start[row], 1.0, 0, 0
    longest = max(ends[0], ends[1] - ends[0], ends[2] - ends[1])
    for part in range(3):
        m, n = ends[part] - m_before, rows.ends[row, part] - n_before
        if m > 0:
            if not f1(min(m, n), m, n) > floor:
                return -1.0
            begin, end = start + n_before, start + rows.ends[row, part]
            if longest <= WORD_BITS:
                common = lcs_length(rows.tokens, begin, end, lcs.bits)
            else:
                common = lcs_length_wide(rows.tokens, begin, end, m, lcs)
            score = min(score, f1(np.int64(common), m, n))
            if not score > floor:
                return -1.0
        m_before, n_before = ends[part], rows.ends[row, part]
    return score


@compiled
def f1(common, m, n):
    """Return the F1 of two lengths.

    In rouge_score's order of operations: rounding decides whether it is above 0.7.
    """
    if m == 0 or n == 0:
        return 0.0
    precision, recall = common / n, common / m
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


@compiled
def lcs_length(tokens, begin, end, bits):
    """Return the length of the longest common subsequence with a part of up to 64 tokens."""
    vector = _ALL
    for i in range(begin, end):
        both = vector & bits[tokens[i]]
        vector = (vector + both) | (vector - both)
    return popcount(~vector)


@compiled
def lcs_length_wide(tokens, begin, end, m, lcs):
    """Return the length of the longest common subsequence with a part of `m` > 64 tokens."""
    words = (m + WORD_BITS - 1) // WORD_BITS
    places, wide, vector = lcs.places, lcs.wide, lcs.vector
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
            overflow = _ONE if total < old else _ZERO
            summed = total + carry
            carry = overflow | (_ONE if summed < total else _ZERO)
            vector[w] = summed | (old - both)
    length = _ZERO
    for w in range(words):
        length += popcount(~vector[w])
    return length


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
def make_postings(rows, begin, end, rank, threshold):
    """Return the postings of the rows from `begin` to `end`: arrays of keys, rows and positions.

    A key is the rank of a token (upper 32 bits) and the length of the row.
    """
    size = 0
    for row in range(begin, end):
        size += prefix_length(rows.ends[row, 2], threshold)
    key = np.empty(size, np.int64)
    row_of, position_of = np.empty(size, np.int32), np.empty(size, np.int32)
    count = 0
    for row in range(begin, end):
        n = np.int64(rows.ends[row, 2])
        ranks = np.sort(rank[rows.tokens[rows.start[row] : rows.start[row + 1]]])
        for position in range(prefix_length(n, threshold)):
            if position == 0 or ranks[position] != ranks[position - 1]:
                key[count] = (np.int64(ranks[position]) << 32) | n
                row_of[count], position_of[count] = row, position
                count += 1
    return key[:count], row_of[:count], position_of[:count]


@compiled
def prefix_length(length, threshold):
    """Return the number of rarest tokens to index: two similar rows share at least one of them."""
    return length + 1 - max(1, int(np.ceil(threshold * length / (2.0 - threshold) - MARGIN)))


@compiled
def min_shared_tokens(m, n, threshold):
    """Return the least number of tokens that two similar rows of these lengths share."""
    return max(1, int(np.ceil(threshold * (m + n) / 2.0 - MARGIN)))


@compiled
def write_signatures(rows):
    """Compute the signature of every row: each token flips one of 128 bits."""
    for row in range(rows.filled.size):
        low, high = _ZERO, _ZERO
        for i in range(rows.start[row], rows.start[row + 1]):
            x = np.uint64(rows.tokens[i] + 1) * np.uint64(0x9E3779B97F4A7C15)
            x ^= x >> np.uint64(29)
            x *= np.uint64(0xBF58476D1CE4E5B9)
            x ^= x >> np.uint64(32)
            bit = _ONE << (x & np.uint64(63))
            if x & np.uint64(64):
                high ^= bit
            else:
                low ^= bit
        rows.signatures[row, 0], rows.signatures[row, 1] = low, high


@compiled
def count_different_bits(signatures, place, low, high):
    """Return the Hamming distance of a signature to the one with these two words."""
    return popcount(signatures[place, 0] ^ low) + popcount(signatures[place, 1] ^ high)


@compiled
def popcount(x):
    """Return the number of set bits; LLVM compiles this to one instruction."""
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (x * np.uint64(0x0101010101010101)) >> np.uint64(56)
