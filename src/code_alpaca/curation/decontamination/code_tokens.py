"""Compare code in any language by what a translation keeps: its identifiers and its literals.

`hasCloseElements`, `has_close_elements` and `HasCloseElements` are one identifier, `'a'` and `"a"`
one literal. An identifier of several words, a string and a number that is not small are rare in
other programs and weigh the most. `literal_runs` finds copied tests and examples.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator
from itertools import pairwise
from math import isclose, nan

RUN = 6  # literals
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
# Words that come as a list, which many programs hold.
LISTED = frozenset(
    {
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
        "ten", "eleven", "twelve", "monday", "tuesday", "wednesday", "thursday", "friday",
        "saturday", "sunday", "mon", "tue", "wed", "thu", "fri", "sat", "sun", "january",
        "february", "march", "april", "may", "june", "july", "august", "september",
        "october", "november", "december", "jan", "feb", "mar", "apr", "jun", "jul", "aug",
        "sep", "oct", "nov", "dec", "red", "green", "blue", "yellow",
    }
)  # fmt: skip
COMMON = frozenset(
    {
        "append", "args", "array", "bool", "boolean", "break", "case", "catch", "char",
        "class", "console", "const", "continue", "count", "data", "def", "default", "dict",
        "double", "elem", "element", "else", "enumerate", "equal", "equals", "except",
        "false", "final", "find", "float", "for", "from", "func", "function", "import",
        "index", "input", "int", "integer", "isinstance", "item", "items", "join", "key",
        "keys", "lambda", "len", "length", "let", "list", "lower", "main", "map", "math",
        "max", "min", "none", "not", "null", "num", "number", "nums", "object", "open",
        "output", "pass", "print", "printf", "println", "private", "public", "push",
        "range", "replace", "res", "result", "return", "reverse", "reversed", "self", "set",
        "size", "sort", "sorted", "split", "static", "std", "str", "string", "strip", "sub",
        "sum", "super", "system", "temp", "test", "text", "this", "throw", "total", "true",
        "try", "tuple", "type", "upper", "value", "values", "var", "vector", "void",
        "while", "with", "word", "words", "yield", "zip",
    }
)  # fmt: skip


def words_of(name: str) -> list[str]:
    """Return the words of an identifier, in lower case: `hasCloseElements` has three."""
    return [word.lower() for word in WORDS.findall(name)]


def tokens(code: str) -> dict[str, int]:
    """Return the identifiers and literals of a program with their weights in bits."""
    found: dict[str, int] = {}
    for match in TOKEN.finditer(code):
        if match["name"]:
            words = words_of(match["name"])
            name = "".join(words)
            if name and name not in IGNORED:
                found[name] = _name_bits(name, words)
        else:
            text = _literal(match)
            found[repr(text)] = _literal_bits(text) if len(text) > 1 else 2
    return found


def literal_runs(text: str) -> Iterator[str]:
    """Yield every run of RUN literals that other programs are unlikely to have in this order."""
    found = [text for match in TOKEN.finditer(text) if (text := _run_literal(match)) is not None]
    bits = [_literal_bits(item) for item in found]
    for start in range(len(found) - RUN + 1):
        run = found[start : start + RUN]
        distinct = set(run)
        if sum(bits[start : start + RUN]) < MIN_RUN_BITS or len(distinct) < MIN_DISTINCT:
            continue
        if not _regular(run):
            yield "|".join(run)


def _run_literal(match: re.Match[str]) -> str | None:
    if match["name"]:
        name = match["name"].lower()
        return name if name in CONSTANTS else None
    return _literal(match)


def _literal(match: re.Match[str]) -> str:
    if match["string"]:
        return match["string"][1:-1]
    number = match["number"]
    return number.rstrip("0").removesuffix(".") if "." in number else number


def _name_bits(name: str, words: list[str]) -> int:
    letters = sum(word.isalpha() for word in words)
    if letters >= 2:
        return 8 if len(name) >= 8 else 5
    return 1 if len(name) < 4 or name in COMMON else 4


def _literal_bits(text: str) -> int:
    if text in CONSTANTS or text.lower() in LISTED:
        return 1
    if re.fullmatch(r"-?\d+", text):
        return min(8, 2 + len(text))
    if re.fullmatch(r"-?\d+\.\d+", text):
        return 6
    return 1 if not text.strip() else min(12, 3 + len(text))


def _regular(run: list[str]) -> bool:
    """Whether a run is letters, or has four or more numbers in a row that follow a known rule."""
    if all(len(item) == 1 and item.isalpha() for item in run):
        return True
    numbers = [float(i) if re.fullmatch(r"-?\d+(?:\.\d+)?", i) else nan for i in run]
    return any(_is_series(numbers[start : start + 4]) for start in range(len(run) - 3)) or any(
        _is_quadratic(numbers[start : start + 5]) for start in range(len(run) - 4)
    )


def _is_series(numbers: list[float]) -> bool:
    """Equal steps, equal ratios, Fibonacci's rule or primes; a NaN is in no series."""
    a, b, c, d = numbers
    steps = isclose(b - a, c - b) and isclose(c - b, d - c)
    ratios = b * b == a * c and c * c == b * d
    return steps or ratios or (a + b == c and b + c == d) or f" {a:g} {b:g} {c:g} {d:g} " in PRIMES


def _is_quadratic(numbers: list[float]) -> bool:
    """Equal second differences: 1, 4, 9, 16, 25."""
    steps = [b - a for a, b in pairwise(numbers)]
    growth = [b - a for a, b in pairwise(steps)]
    return all(isclose(found, growth[0], abs_tol=1e-9) for found in growth)  # false for a NaN
