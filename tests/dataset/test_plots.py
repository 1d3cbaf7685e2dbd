"""Dataset plots: a plot is drawn if there are numbers, with the same bytes for the same numbers."""

from __future__ import annotations

import pytest

from code_alpaca.core.records import RunSummary
from code_alpaca.core.schema import Example
from code_alpaca.dataset import plots
from code_alpaca.dataset.describe import RowStatistics

VERBS = ("Write", "Sort", "Explain")
ALL = ["funnel.png", "verbs.png", "languages.png", "lengths.png", "nearest.png",
       "test_strength.png", "pace.png"]  # fmt: skip


@pytest.fixture(scope="module")
def summary() -> dict:
    """The summary of a run with odd labels, as JSON."""
    num_rows = 200
    statistics = RowStatistics()
    for number in range(num_rows):
        example = Example(
            f"{VERBS[number % 3]} the noun{'abcdefgh'[number % 8]} in $x_{{2}}$",
            "",
            "word " * (1 + number % 50),
            language=f"{number % 30} $x_$ 日本\n\x00\ud800" + "x" * 30,
            nearest_id="x",
            nearest_score=number / num_rows,
            test_strength=number / num_rows,
        )
        statistics.add(example.as_row())
    return {
        "counts": {"default": num_rows, "derisk": num_rows, "verified": 100, "rejected": 465},
        "candidates": num_rows + 465,
        "rejected_by_reason": {f"reason_{number}": 1 + number for number in range(30)},
        "statistics": statistics.as_dict(),
        "pace": [[10, number % 10] for number in range(50)],
        "config": {"novelty_threshold": 0.85, "min_test_strength": 0.5},
    }


def test_all_plots_are_drawn_identically_and_without_the_users_style(tmp_path, summary):
    import matplotlib

    before = dict(matplotlib.rcParams)
    assert plots.draw_plots(RunSummary(**summary), tmp_path / "one") == ALL
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        assert plots.draw_plots(RunSummary(**summary), tmp_path / "two") == ALL
    for name in ALL:
        data = (tmp_path / "one" / name).read_bytes()
        assert data == (tmp_path / "two" / name).read_bytes()
        assert b"Software" not in data and b"matplotlib" not in data.lower()
        assert 1_500 < int.from_bytes(data[16:20]) < 1_700  # width in pixels
        assert plots.caption(name)
    assert dict(matplotlib.rcParams) == before


def test_a_plot_without_numbers_is_left_out_and_its_old_file_deleted(
    tmp_path, summary, monkeypatch
):
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: None)  # takes most of the time
    empty = {"edges": [0, 1], "instruction": [1, 0], "input": [9, 0], "output": [2, 0]}
    changes = {
        "funnel.png": {"candidates": 0},
        "verbs.png": {"statistics": {"verbs": {"rows": 0, "common": []}}},
        "languages.png": {"statistics": {"languages": {}}},
        "lengths.png": {"statistics": {"lengths": empty}},
        "nearest.png": {"statistics": {"nearest": [0] * 20}},
        "test_strength.png": {"statistics": {"test_strength": [0] * 10}},
        "pace.png": {"pace": None},
    }
    for missing in (ALL[::2], ALL[1::2]):
        statistics, changed = summary["statistics"], summary
        for name in missing:
            (tmp_path / name).write_bytes(b"from an earlier run")
            statistics = statistics | changes[name].get("statistics", {})
            changed = changed | changes[name] | {"statistics": statistics}
        shown = [name for name in ALL if name not in missing]
        assert plots.draw_plots(RunSummary(**changed), tmp_path) == shown
        assert not any((tmp_path / name).exists() for name in missing)
    assert plots.draw_plots(RunSummary(), tmp_path) == []


def test_one_accepted_row_is_enough_for_four_plots(tmp_path):
    statistics = RowStatistics()
    statistics.add(Example("Write a loop", "", "for", language="c").as_row())
    summary = RunSummary(
        counts={"default": 1}, candidates=1, statistics=statistics.as_dict(), pace=[[5, 5]]
    )
    assert plots.draw_plots(summary, tmp_path) == ALL[:4]
