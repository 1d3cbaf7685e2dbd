"""Pictures: drawn when there is something to draw, and the same for the same numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from code_alpaca.core import plots
from code_alpaca.core.schema import Example
from code_alpaca.dataset.describe import Description

VERBS = ("Write", "Sort", "Explain")
ALL = ["funnel.png", "verbs.png", "languages.png", "lengths.png", "nearest.png", "pace.png"]


def a_manifest(rows: int = 200) -> dict:
    description = Description()
    for number in range(rows):
        example = Example(
            f"{VERBS[number % 3]} the noun{'abcdefgh'[number % 8]} in $x_{{2}}$",
            "",
            "word " * (1 + number % 50),
            language=f"{number % 30} $x_$ 日本\n\x00\ud800" + "x" * 30,
            nearest_id="x",
            nearest_score=number / rows,
        )
        description.add(example.as_row())
    reasons = {f"reason_{number}": 1 + number for number in range(30)}
    return {
        "counts": {"default": rows, "derisk": rows, "verified": rows // 2, "rejected": 465},
        "candidates": rows + 465,
        "rejected_by_reason": reasons,
        "statistics": description.facts(),
        "pace": [[10, number % 10] for number in range(50)],
    }


def test_all_are_drawn_and_are_the_same_again(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    manifest = json.loads(json.dumps(a_manifest()))
    assert plots.draw(manifest, tmp_path / "one") == ALL
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):  # a user's own style
        assert plots.draw(manifest, tmp_path / "two") == ALL
    for name in ALL:
        data = (tmp_path / "one" / name).read_bytes()
        assert data == (tmp_path / "two" / name).read_bytes()
        assert b"Software" not in data and b"matplotlib" not in data.lower()
        assert 1_500 < int.from_bytes(data[16:20]) < 1_700  # pixels wide
        assert plots.caption(name)
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("funnel.png", {"candidates": 0}),
        ("pace.png", {"pace": None}),
        ("pace.png", {"pace": [[5, 5]]}),
        ("nearest.png", {"statistics": {"nearest": [0] * 20}}),
        ("verbs.png", {"statistics": {"verbs": {"rows": 0, "common": []}}}),
        ("languages.png", {"statistics": {"languages": {}}}),
        ("lengths.png", {"statistics": {"lengths": {"edges": [0, 1], "input": [9, 0]}}}),
    ],
)
def test_what_has_no_numbers_is_not_drawn(tmp_path, name, without):
    manifest = a_manifest()
    (tmp_path / name).write_bytes(b"of an earlier run")
    if "statistics" in without:
        without = {"statistics": manifest["statistics"] | without["statistics"]}
    assert plots.draw(manifest | without, tmp_path) == [each for each in ALL if each != name]
    assert not Path(tmp_path, name).exists()


def test_an_empty_manifest_draws_nothing(tmp_path):
    assert plots.draw({}, tmp_path) == []
    nothing = {"counts": {"default": 0}, "candidates": 0, "statistics": Description().facts()}
    assert plots.draw(nothing, tmp_path) == []


def test_one_row_is_enough(tmp_path):
    description = Description()
    description.add(Example("Write a loop", "", "for", language="c").as_row())
    manifest = {"counts": {"default": 1}, "candidates": 1, "statistics": description.facts()}
    assert plots.draw(manifest, tmp_path) == ALL[:4]
