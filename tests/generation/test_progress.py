"""The progress of a run: rows, usage, speed and time; a cost only where a price is known."""

from __future__ import annotations

from collections import Counter

import pytest

from code_alpaca.generation.progress import RunProgress, RunTotals


@pytest.fixture
def show(capsys):
    """Print the progress of a run, and return the line."""

    def show(totals: RunTotals, spent: float | None = None) -> str:
        with RunProgress(lambda: spent, report_to="none", name="run") as progress:
            progress.update(totals)
        return capsys.readouterr().out

    return show


def test_before_the_first_reply_there_is_no_rate(show):
    line = show(RunTotals(target=2000))
    assert line.startswith("generate  0/2,000 rows, no candidates yet, 0 replies, ")
    assert line.endswith("0 in flight, time left unknown\n")


def test_the_rate_is_of_candidates_and_the_cost_is_projected_to_the_target(show):
    totals = RunTotals(target=100, accepted=25, rejected=Counter(refusal=75), replies=20)
    line = show(totals, spent=0.5)
    assert "25/100 rows, 25% of candidates accepted, 20 replies" in line
    assert "$0.5000 of about $2.00" in line


def test_a_teacher_without_a_price_costs_nothing_to_report(show):
    line = show(RunTotals(target=100, accepted=25))
    assert "cost" not in line and "price" not in line and "$" not in line
