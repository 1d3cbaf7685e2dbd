"""Compare code in any language by what a translation preserves: identifiers and literals.

`hasCloseElements`, `has_close_elements` and `HasCloseElements` are the same identifier, `'a'` and
`"a"` the same literal. Identifiers of several words, strings and large numbers are rare in other
programs and have the highest weights.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator
from itertools import pairwise
from math import isclose, nan

from code_alpaca.curation.decontamination.word_lists import COMMON_IDENTIFIERS, LISTED

RUN_LENGTH = 6  # literals
MIN_RUN_BITS = 22
MIN_DISTINCT = 4
TOKEN = re.compile(
    r"(?P<string>\"(?:[^\"\\\n]|\\.){0,60}\"|'(?:[^'\\\n]|\\.){0,60}')"
    r"|(?P<number>(?<![\w.])-?\d+(?:\.\d+)?(?![\w]))|(?P<name>[A-Za-z_]\w*)"
)
WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
CONSTANTS = frozenset({"true", "false", "none", "null", "nil"})
IGNORED = CONSTANTS | frozenset(keyword.kwlist)
PRIMES = " 2 3 5 7 11 13 17 19 23 29 31 37 41 43 47 53 59 61 67 71 73 79 83 89 97 "


def split_identifier(name: str) -> list[str]:
    """Return the words of an identifier in lower case: `hasCloseElements` has three."""
    return [word.lower() for word in WORDS.findall(name)]


def weigh_tokens(code: str) -> dict[str, int]:
    """Return the identifiers and literals of a program with their weights in bits."""
    bits: dict[str, int] = {}
    for match in TOKEN.finditer(code):
        if match["name"]:
            words = split_identifier(match["name"])
            name = "".join(words)
            if name and name not in IGNORED:
                bits[name] = _name_bits(name, words)
        else:
            text = _read_literal(match)
            bits[repr(text)] = _literal_bits(text) if len(text) > 1 else 2
    return bits


def find_literal_runs(text: str) -> Iterator[str]:
    """Yield runs of RUN_LENGTH literals that are unlikely in other programs: copied tests."""
    literals = [
        match["name"].lower() if match["name"] else _read_literal(match)
        for match in TOKEN.finditer(text)
        if not match["name"] or match["name"].lower() in CONSTANTS
    ]
    bits = [_literal_bits(literal) for literal in literals]
    for start in range(len(literals) - RUN_LENGTH + 1):
        run = literals[start : start + RUN_LENGTH]
        run_bits = sum(bits[start : start + RUN_LENGTH])
        if run_bits >= MIN_RUN_BITS and len(set(run)) >= MIN_DISTINCT and not _is_regular(run):
            yield "|".join(run)


def _read_literal(match: re.Match[str]) -> str:
    if match["string"]:
        return match["string"][1:-1]
    number = match["number"]
    return number.rstrip("0").removesuffix(".") if "." in number else number


def _name_bits(name: str, words: list[str]) -> int:
    letters = sum(word.isalpha() for word in words)
    if letters >= 2:
        return 8 if len(name) >= 8 else 5
    return 1 if len(name) < 4 or name in COMMON_IDENTIFIERS else 4


def _literal_bits(text: str) -> int:
    if text in CONSTANTS or text.lower() in LISTED:
        return 1
    if re.fullmatch(r"-?\d+", text):
        return min(8, 2 + len(text))
    if re.fullmatch(r"-?\d+\.\d+", text):
        return 6
    return 1 if not text.strip() else min(12, 3 + len(text))


def _is_regular(run: list[str]) -> bool:
    """Return whether a run is letters, or contains four or more numbers of a common series."""
    if all(len(item) == 1 and item.isalpha() for item in run):
        return True
    numbers = [float(i) if re.fullmatch(r"-?\d+(?:\.\d+)?", i) else nan for i in run]
    return any(_is_series(numbers[start : start + 4]) for start in range(len(run) - 3)) or any(
        _is_quadratic(numbers[start : start + 5]) for start in range(len(run) - 4)
    )


def _is_series(numbers: list[float]) -> bool:
    """Return whether four numbers are an arithmetic, geometric, Fibonacci or prime series."""
    a, b, c, d = numbers
    steps = isclose(b - a, c - b) and isclose(c - b, d - c)
    ratios = b * b == a * c and c * c == b * d
    return steps or ratios or (a + b == c and b + c == d) or f" {a:g} {b:g} {c:g} {d:g} " in PRIMES


def _is_quadratic(numbers: list[float]) -> bool:
    """Return whether the second differences are equal, as in 1, 4, 9, 16, 25."""
    steps = [b - a for a, b in pairwise(numbers)]
    growth = [b - a for a, b in pairwise(steps)]
    return all(isclose(step, growth[0], abs_tol=1e-9) for step in growth)  # False for NaN
