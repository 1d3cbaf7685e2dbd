"""Shares of the dataset by language, kind of task and difficulty, and what to ask for next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from code_alpaca.core.errors import InputError
from code_alpaca.core.schema import count_fulfilled

DIMENSIONS = ("language", "task_type", "difficulty")
MOST_FAVOUR = 10  # a label that brings nothing is asked for ten times as often, and no more


class Quotas:
    """Says for each request which labels it asks for, so that the accepted rows get the shares.

    A label whose tasks are accepted less often is asked for more often; a row in another language
    than was asked is none. What request k asks for depends on the requests before it and on what
    was accepted from those up to k - lookahead.

    Args:
        shares: for some of DIMENSIONS, labels with their weights.

    Raises:
        InputError: another dimension, or a weight that is not positive.
    """

    def __init__(self, shares: Mapping[str, Mapping[str, float]], lookahead: int) -> None:
        for dimension, labels in shares.items():
            if dimension not in DIMENSIONS:
                raise InputError(
                    f"quotas: no dimension {dimension!r}; there are {', '.join(DIMENSIONS)}"
                )
            if not labels or min(labels.values()) <= 0:
                raise InputError(f"quotas: {dimension} needs labels with weights above 0")
        self._shares = {
            dimension: {label: weight / sum(labels.values()) for label, weight in labels.items()}
            for dimension, labels in shares.items()
        }
        self._lookahead = lookahead
        self._wishes: list[dict[str, str]] = []  # of every request so far, by its number
        self._accepted: list[Sequence[str]] = []  # languages of each decided request's rows
        self._seen = 0  # requests counted in _tried and _got
        self._asked: Counter[tuple[str, str]] = Counter()  # requests
        self._tried: Counter[tuple[str, str]] = Counter()  # requests up to k - lookahead
        self._got: Counter[tuple[str, str]] = Counter()  # rows from those

    def restore(self, wish: dict[str, str], languages: Sequence[str]) -> None:
        """Count a request that was decided in an earlier start."""
        self._record(wish)
        self._accepted.append(languages)

    def decided(self, languages: Sequence[str]) -> None:
        """The next request in order was decided: the languages of the rows that it brought."""
        self._accepted.append(languages)

    def wish(self, number: int) -> dict[str, str]:
        """What request `number` asks for, one label a dimension; call it once, in order."""
        while self._seen <= number - self._lookahead:
            for item in self._wishes[self._seen].items():
                self._tried[item] += 1
                self._got[item] += count_fulfilled(*item, self._accepted[self._seen])
            self._seen += 1
        made = {dimension: self._pick(dimension) for dimension in self._shares}
        self._record(made)
        return made

    def _pick(self, dimension: str) -> str:
        """The label that lags most behind its share of the requests."""
        shares = self._shares[dimension]
        yields = {label: self._yield((dimension, label)) for label in shares}
        least = max(yields.values()) / MOST_FAVOUR
        weights = {label: share / max(least, yields[label]) for label, share in shares.items()}
        total = sum(weights.values())
        asked = len(self._wishes) + 1
        return max(
            weights,
            key=lambda label: weights[label] / total * asked - self._asked[dimension, label],
        )

    def _yield(self, item: tuple[str, str]) -> float:
        """Rows a request brings under this label, one success in one trial before any is known."""
        return (1 + self._got[item]) / (1 + self._tried[item])

    def _record(self, wish: dict[str, str]) -> None:
        self._wishes.append(wish)
        self._asked.update(wish.items())
