"""Count statistics of a dataset in one pass, in constant memory."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from typing import Any

from code_alpaca.core.row_formats import ALPACA
from code_alpaca.dataset.phrases import verb_and_object

WORD_OR_MARK = re.compile(r"\w+|[^\w\s]")
# A bin starts at its edge and ends before the next one; the last is open. Bin 0 counts texts
# without a word; from 4 on there are two bins per doubling.
LENGTH_EDGES = (0, 1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512, 724,
                1_024, 1_448, 2_048, 2_896, 4_096)  # fmt: skip
NEAREST_BINS = 20
TEST_STRENGTH_BINS = 10
MAX_LABELS = 40  # languages listed by name; a teacher can invent any number of them
MAX_LABEL_LENGTH = 40  # characters
MAX_VERBS = 20
OBJECTS_PER_VERB = 4  # as in the sunburst of Self-Instruct


class RowStatistics:
    """Statistics of the `default` config, updated row by row."""

    def __init__(self) -> None:
        self._labels: dict[str, Counter[str]] = {"language": Counter(), "verification": Counter()}
        self._lengths = {name: [0] * len(LENGTH_EDGES) for name in ALPACA}
        self._nearest = [0] * NEAREST_BINS
        self._test_strength = [0] * TEST_STRENGTH_BINS
        self._verbs: Counter[tuple[str, str]] = Counter()
        self._with_input = self._output_characters = 0

    def add(self, row: dict[str, Any]) -> None:
        """Count a row."""
        for name, counter in self._labels.items():
            counter[row[name][:MAX_LABEL_LENGTH]] += 1
        for name, bins in self._lengths.items():
            length = sum(1 for _ in WORD_OR_MARK.finditer(row[name]))
            bins[bisect_right(LENGTH_EDGES, length) - 1] += 1
        if row["nearest_id"]:
            _count_share(self._nearest, row["nearest_score"])
        if row.get("test_strength") is not None:
            _count_share(self._test_strength, row["test_strength"])
        if pair := verb_and_object(row["instruction"]):
            self._verbs[pair] += 1
        self._with_input += bool(row["input"])
        self._output_characters += len(row["output"])

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as the `statistics` of a manifest; see `records.Statistics`."""
        return {
            "languages": _most_common(self._labels["language"], "unknown"),
            "verification": _most_common(self._labels["verification"], "skipped"),
            "with_input": self._with_input,
            "output_characters": self._output_characters,
            "lengths": {"edges": list(LENGTH_EDGES), **self._lengths},
            "nearest": self._nearest,
            **({"test_strength": self._test_strength} if any(self._test_strength) else {}),
            "verbs": {"rows": self._verbs.total(), "common": _common_verbs(self._verbs)},
        }


def _count_share(bins: list[int], share: float) -> None:
    """Count a number from 0 to 1 in its bin; 1 belongs to the last."""
    index = int(share * len(bins))
    bins[min(max(index, 0), len(bins) - 1)] += 1


def _most_common(counter: Counter[str], unnamed: str) -> dict[str, int]:
    """Return the most common labels; those beyond `MAX_LABELS` are summed as "other"."""
    named: Counter[str] = Counter()
    for label, count in counter.items():
        named[label or unnamed] += count
    ranked = _rank(named)
    if len(ranked) <= MAX_LABELS:
        return dict(ranked)
    top, rest = dict(ranked[: MAX_LABELS - 1]), ranked[MAX_LABELS - 1 :]
    return top | {"other": top.get("other", 0) + sum(count for _, count in rest)}


def _common_verbs(pairs: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    verbs: Counter[str] = Counter()
    objects: dict[str, Counter[str]] = {}
    for (verb, noun), count in pairs.items():
        verbs[verb] += count
        objects.setdefault(verb, Counter())[noun] += count
    return [
        {"verb": verb, "rows": rows, "objects": dict(_rank(objects[verb])[:OBJECTS_PER_VERB])}
        for verb, rows in _rank(verbs)[:MAX_VERBS]
    ]


def _rank(counts: Counter[str]) -> list[tuple[str, int]]:
    """Sort by count, then by name, so that the result does not depend on the order of rows."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
