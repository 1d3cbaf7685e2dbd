"""Steer the dataset towards fractions by language, kind of task and difficulty."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from code_alpaca.core.errors import InputError
from code_alpaca.core.schema import count_fulfilled

DIMENSIONS = ("language", "task_type", "difficulty")
MAX_BOOST = 10  # a label that brings no rows is requested at most ten times as often


class Quotas:
    """Choose the labels to request, so that the accepted rows get the fractions.

    A label whose tasks are accepted less often is requested more often; a row in another language
    than requested does not count. The labels of request k depend on the requests before it and on
    what was accepted from those up to k - lookahead.

    Args:
        weights: by dimension, labels with their weights; InputError if they are invalid.
    """

    def __init__(self, weights: Mapping[str, Mapping[str, float]], lookahead: int) -> None:
        for dimension, labels in weights.items():
            if dimension not in DIMENSIONS:
                raise InputError(
                    f"quotas: there is no dimension {dimension!r}; use {', '.join(DIMENSIONS)}"
                )
            if not labels or min(labels.values()) <= 0:
                raise InputError(f"quotas: {dimension} needs labels with weights above 0")
        self._fractions = {
            dimension: {label: weight / sum(labels.values()) for label, weight in labels.items()}
            for dimension, labels in weights.items()
        }
        self._lookahead = lookahead
        self._requested: list[Mapping[str, str]] = []  # labels of each request, by its number
        self._languages: list[Sequence[str]] = []  # of the accepted rows of each decided request
        self._num_counted = 0  # requests in _tried and _accepted
        self._num_requests: Counter[tuple[str, str]] = Counter()  # by dimension and label
        self._tried: Counter[tuple[str, str]] = Counter()  # requests up to k - lookahead
        self._accepted: Counter[tuple[str, str]] = Counter()  # rows from those

    def restore(self, requested: Mapping[str, Any], languages: Sequence[str]) -> None:
        """Count a request that was decided in an earlier start, by what it requested."""
        self._record_request({key: requested[key] for key in self._fractions if key in requested})
        self._languages.append(languages)

    def record_decision(self, languages: Sequence[str]) -> None:
        """Count the next request in order, by the languages of its accepted rows."""
        self._languages.append(languages)

    def next_labels(self, number: int) -> dict[str, str]:
        """Return one label per dimension for request `number`; call it once each, in order."""
        while self._num_counted <= number - self._lookahead:
            for item in self._requested[self._num_counted].items():
                self._tried[item] += 1
                self._accepted[item] += count_fulfilled(*item, self._languages[self._num_counted])
            self._num_counted += 1
        labels = {dimension: self._choose(dimension) for dimension in self._fractions}
        self._record_request(labels)
        return labels

    def _choose(self, dimension: str) -> str:
        """Return the label that is furthest behind its fraction of the requests."""
        fractions = self._fractions[dimension]
        yields = {label: self._estimate_yield((dimension, label)) for label in fractions}
        minimum = max(yields.values()) / MAX_BOOST
        weights = {label: part / max(minimum, yields[label]) for label, part in fractions.items()}
        total, num_requests = sum(weights.values()), len(self._requested) + 1

        def missing(label: str) -> float:
            expected = weights[label] / total * num_requests
            return expected - self._num_requests[dimension, label]

        return max(weights, key=missing)

    def _estimate_yield(self, item: tuple[str, str]) -> float:
        """Return accepted rows per request; starts at one, as if one request had brought one."""
        return (1 + self._accepted[item]) / (1 + self._tried[item])

    def _record_request(self, labels: Mapping[str, str]) -> None:
        self._requested.append(labels)
        self._num_requests.update(labels.items())
