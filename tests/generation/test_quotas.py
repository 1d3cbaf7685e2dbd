"""Quotas: accepted rows get the fractions, also where labels yield different numbers of rows."""

from __future__ import annotations

from collections import Counter

import pytest

from code_alpaca.core.errors import InputError
from code_alpaca.core.schema import count_fulfilled
from code_alpaca.generation.quotas import Quotas


def simulate(weights, yields, requests=400, lookahead=8):
    """Return accepted rows by label, where a request for a label brings `yields[label]` rows."""
    quotas, accepted = Quotas({"language": weights}, lookahead), Counter()
    pending: list[str] = []
    for number in range(requests):
        pending.append(quotas.next_labels(number)["language"])
        if number >= lookahead - 1:
            label = pending[number - lookahead + 1]
            accepted[label] += yields[label]
            quotas.record_decision([label] * yields[label])
    return accepted


def test_rows_get_the_fractions_where_one_label_yields_less():
    accepted = simulate({"python": 2, "rust": 1, "go": 1}, {"python": 4, "rust": 1, "go": 4})
    total = accepted.total()
    assert accepted["python"] / total == pytest.approx(0.5, abs=0.04)
    assert accepted["rust"] / total == pytest.approx(0.25, abs=0.04)


def test_a_label_without_rows_does_not_use_up_the_requests():
    accepted = simulate({"python": 1, "cobol": 1}, {"python": 5, "cobol": 0})
    assert accepted["python"] >= 5 * 400 * 0.05


def test_a_restart_does_not_change_the_labels():
    weights = {"language": {"python": 2, "rust": 1}, "difficulty": {"easy": 1, "hard": 3}}
    straight = Quotas(weights, 3)
    labels = []
    for number in range(30):
        labels.append(straight.next_labels(number))
        if number >= 2:
            straight.record_decision(["rust"] * (number % 4))
    resumed = Quotas(weights, 3)
    for number in range(20):
        resumed.restore(labels[number], ["rust"] * ((number + 2) % 4))
    later = []
    for number in range(20, 30):
        later.append(resumed.next_labels(number))
        if number >= 22:
            resumed.record_decision(["rust"] * (number % 4))
    assert later == labels[20:]


def test_a_row_in_another_language_than_requested_does_not_count():
    languages = ["Rust", "python", "", "rust"]
    assert count_fulfilled("language", "rust", languages) == 3
    assert count_fulfilled("difficulty", "hard", languages) == 4


@pytest.mark.parametrize(
    ("weights", "message"),
    [({"mood": {"good": 1}}, "no dimension 'mood'"), ({"language": {"go": 0}}, "weights above 0")],
)
def test_bad_quotas_are_refused(weights, message):
    with pytest.raises(InputError, match=message):
        Quotas(weights, 8)
