"""What a dataset looks like in numbers: counted in one pass, small however many rows there are."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from typing import Any

from code_alpaca.dataset.phrases import verb_and_object

WORD_OR_MARK = re.compile(r"\w+|[^\w\s]")
# Each bin begins at its edge and ends before the next one; the last is open. The first holds texts
# without a word; from 4 on there are two bins for each doubling.
LENGTH_EDGES = (0, 1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512, 724,
                1_024, 1_448, 2_048, 2_896, 4_096)  # fmt: skip
FIELDS = ("instruction", "input", "output")
NEAREST_BINS = 20
LABELS = 40  # languages told by name; a teacher can make up any number of them
LABEL_LENGTH = 40  # characters
VERBS = 20
OBJECTS = 4  # of each verb, as in the sunburst of Self-Instruct


class Description:
    """The facts of a dataset, gathered row by row."""

    def __init__(self) -> None:
        self._labels: dict[str, Counter[str]] = {"language": Counter(), "verification": Counter()}
        self._lengths = {name: [0] * len(LENGTH_EDGES) for name in FIELDS}
        self._nearest = [0] * NEAREST_BINS
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._with_input = self._output_characters = 0

    def add(self, row: dict[str, Any]) -> None:
        """Count one row of the `default` config."""
        for name, counter in self._labels.items():
            counter[row[name][:LABEL_LENGTH]] += 1
        for name, bins in self._lengths.items():
            length = sum(1 for _ in WORD_OR_MARK.finditer(row[name]))
            bins[bisect_right(LENGTH_EDGES, length) - 1] += 1
        if row["nearest_id"]:
            place = int(row["nearest_score"] * NEAREST_BINS)
            self._nearest[min(max(place, 0), NEAREST_BINS - 1)] += 1
        if pair := verb_and_object(row["instruction"]):
            self._pairs[pair] += 1
        self._with_input += bool(row["input"])
        self._output_characters += len(row["output"])

    def facts(self) -> dict[str, Any]:
        """Counts of rows, ready for JSON.

        Returns:
            `languages` and `verification` (most common first), `with_input`, `output_characters`
            (a sum), `lengths` (in words and punctuation marks: `edges` and, of each field, how
            many rows are in the bin that begins at each), `nearest` (rows by the similarity to
            their nearest earlier row, in equal bins from 0 to 1; rows without one are left out),
            and `verbs` (`rows` with a verb and an object, and the most `common` of both).
        """
        return {
            "languages": _most_common(self._labels["language"], "unknown"),
            "verification": _most_common(self._labels["verification"], "skipped"),
            "with_input": self._with_input,
            "output_characters": self._output_characters,
            "lengths": {"edges": list(LENGTH_EDGES), **self._lengths},
            "nearest": self._nearest,
            "verbs": {"rows": self._pairs.total(), "common": _common_verbs(self._pairs)},
        }


def _most_common(counter: Counter[str], unnamed: str) -> dict[str, int]:
    """The most common labels; those beyond `LABELS` are summed as "other"."""
    named: Counter[str] = Counter()
    for label, count in counter.items():
        named[label or unnamed] += count
    first, rest = _ranked(named.items()), 0
    if len(first) > LABELS:
        first, rest = first[: LABELS - 1], sum(count for _, count in first[LABELS - 1 :])
    found = dict(first)
    return found | {"other": found.get("other", 0) + rest} if rest else found


def _common_verbs(pairs: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    verbs: Counter[str] = Counter()
    objects: dict[str, Counter[str]] = {}
    for (verb, noun), count in pairs.items():
        verbs[verb] += count
        objects.setdefault(verb, Counter())[noun] += count
    return [
        {"verb": verb, "rows": count, "objects": dict(_ranked(objects[verb].items())[:OBJECTS])}
        for verb, count in _ranked(verbs.items())[:VERBS]
    ]


def _ranked(counts: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Most common first, then by name: the order of rows must not show."""
    return sorted(counts, key=lambda item: (-item[1], item[0]))
