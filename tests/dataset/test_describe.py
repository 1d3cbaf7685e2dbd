"""Row statistics: correct, small, and independent of the order of rows."""

from __future__ import annotations

import json
import random

import pytest

from code_alpaca.core.row_formats import ALPACA
from code_alpaca.core.schema import Example
from code_alpaca.dataset.describe import MAX_LABELS, RowStatistics


def count(*examples: Example) -> dict:
    statistics = RowStatistics()
    for example in examples:
        statistics.add(example.as_row())
    return statistics.as_dict()


def test_labels_inputs_and_characters():
    statistics = count(
        Example("Write a loop", "", "for x in y: pass", language="python", verification="passed"),
        Example("Write a loop", "x", "loop {}", language="rust"),
        Example("Write a loop", "", "for", language="python"),
        Example("Print hello", "", "hello"),
    )
    assert list(statistics["languages"].items()) == [("python", 2), ("rust", 1), ("unknown", 1)]
    assert list(statistics["verification"].items()) == [("skipped", 3), ("passed", 1)]
    assert statistics["with_input"] == 1
    assert statistics["output_characters"] == len("for x in y: passloop {}forhello")


def test_lengths_count_words_and_punctuation_marks():
    statistics = count(Example("Add a to b, quickly.", "", "x = [1, 2]"))["lengths"]
    bins = {name: statistics["edges"][statistics[name].index(1)] for name in ALPACA}
    assert bins == {"instruction": 6, "input": 0, "output": 6}  # 7, 0 and 7 fall in [6, 8)
    assert all(len(statistics[name]) == len(statistics["edges"]) for name in ALPACA)
    long = count(Example("a " * 10_000, "", "b"))["lengths"]
    assert long["instruction"][-1] == 1


def test_nearest_leaves_out_rows_without_an_earlier_row():
    scores = [0.0, 0.04, 0.05, 0.5, 0.999, 1.0]
    near = [Example("a", "", "b", nearest_id="x", nearest_score=score) for score in scores]
    bins = count(Example("a", "", "b"), *near)["nearest"]
    assert len(bins) == 20 and sum(bins) == len(scores)
    assert (bins[0], bins[1], bins[10], bins[19]) == (2, 1, 1, 2)


def test_test_strength_counts_the_rows_that_were_measured():
    shares = [None, 0.0, 0.09, 0.5, 0.99, 1.0]
    bins = count(*[Example("a", "", "b", test_strength=share) for share in shares])["test_strength"]
    assert bins == [2, 0, 0, 0, 0, 1, 0, 0, 0, 2]
    assert "test_strength" not in count(Example("a", "", "b"))


def test_verbs_are_listed_with_their_most_common_objects():
    nouns = ["function"] * 5 + ["class"] * 3 + ["loop"] * 2 + ["test", "query", "query"]
    statistics = count(
        *[Example(f"Write a {noun}", "", "x") for noun in nouns],
        Example("Sort the array", "", "x"),
        Example("What is a stack?", "", "x"),
    )["verbs"]
    assert statistics["rows"] == len(nouns) + 1
    write, sort = statistics["common"]
    assert write["verb"] == "write" and write["rows"] == len(nouns)
    assert list(write["objects"].items()) == [
        ("function", 5), ("class", 3), ("loop", 2), ("query", 2),
    ]  # fmt: skip
    assert sort == {"verb": "sort", "rows": 1, "objects": {"array": 1}}


@pytest.mark.parametrize("seed", range(3))
def test_the_statistics_are_small_and_do_not_depend_on_the_order(seed):
    rows = [
        Example(
            f"{verb} the noun{'abcdefgh'[number % 8]}",
            "",
            "x",
            language=f"language {number} " + "x" * 500,
        )
        for number, verb in enumerate(("Write", "Sort", "Find", "Build", "Zap") * 200)
    ]
    statistics = count(*rows)
    shuffled = rows.copy()
    random.Random(seed).shuffle(shuffled)
    assert json.dumps(count(*shuffled)) == json.dumps(statistics)
    assert len(statistics["languages"]) == MAX_LABELS and sum(
        statistics["languages"].values()
    ) == len(rows)
    assert len(json.dumps(statistics)) < 8_000


def test_an_empty_dataset_has_statistics():
    statistics = count()
    assert json.loads(json.dumps(statistics)) == statistics
    assert statistics["verbs"] == {"rows": 0, "common": []} and statistics["languages"] == {}
