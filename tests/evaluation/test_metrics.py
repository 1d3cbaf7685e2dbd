"""pass@k equals its closed form; every interval contains the mean and has a width."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from code_alpaca.evaluation import metrics


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(
    st.just(n), st.integers(0, n), st.integers(1, n))))  # fmt: skip
def test_pass_at_k_equals_its_product_form(case):
    n, c, k = case
    product = math.prod(1 - k / i for i in range(n - c + 1, n + 1)) if n - c >= k else 0.0
    assert metrics.pass_at_k(n, c, k) == pytest.approx(1 - product)


@given(st.integers(1, 40), st.data())
def test_more_passes_or_a_larger_k_never_score_less(n, data):
    c = data.draw(st.integers(0, n - 1)) if n > 1 else 0
    k = data.draw(st.integers(1, n))
    assert 0 <= metrics.pass_at_k(n, c, k) <= metrics.pass_at_k(n, c + 1, k) <= 1
    assert metrics.pass_at_k(n, c, 1) == pytest.approx(c / n)
    assert metrics.pass_at_k(n, c, k) <= metrics.pass_at_k(n, c, n) + 1e-12


def test_problems_without_samples_count_as_unsolved_and_k_above_n_is_an_error():
    assert metrics.summarize([(1, 1), (0, 0)], [1])["pass@1"] == 0.5
    with pytest.raises(ValueError, match="k = 5 needs"):
        metrics.summarize([(2, 1)], [5])


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=50))
def test_an_interval_of_single_samples_contains_the_mean(scores):
    low, high = metrics.confidence_interval(scores)
    assert 0 <= low <= sum(scores) / len(scores) <= high <= 1
    assert low < high


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=40))
def test_an_interval_of_several_samples_per_problem_is_never_a_point(scores):
    low, high = metrics.confidence_interval(scores)
    assert 0 <= low <= sum(scores) / len(scores) <= high <= 1
    assert high - low > 0.01


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=1, max_size=40))
def test_an_interval_of_differences_is_never_a_point(differences):
    low, high = metrics.paired_confidence_interval(differences)
    assert -1 <= low <= sum(differences) / len(differences) <= high <= 1
    assert high - low > 0.01
    mirrored = metrics.paired_confidence_interval([-difference for difference in differences])
    if len(differences) < metrics.MIN_BOOTSTRAP_PROBLEMS:
        assert mirrored == pytest.approx((-high, -low))


def test_wilson_interval_of_15_in_20():
    low, high = metrics.confidence_interval([1.0] * 15 + [0.0] * 5)
    assert (round(low, 3), round(high, 3)) == (0.531, 0.888)
