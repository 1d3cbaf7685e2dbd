"""The facts of a dataset: right, small, and the same for the same rows in any order."""

from __future__ import annotations

import json
import random

import pytest

from code_alpaca.core.schema import Example
from code_alpaca.dataset.describe import FIELDS, MAX_LABELS, RowStatistics


def facts_of(*examples: Example) -> dict:
    description = RowStatistics()
    for example in examples:
        description.add(example.as_row())
    return description.as_dict()


def test_labels_inputs_and_characters():
    facts = facts_of(
        Example("Write a loop", "", "for x in y: pass", language="python", verification="passed"),
        Example("Write a loop", "x", "loop {}", language="rust"),
        Example("Write a loop", "", "for", language="python"),
        Example("Say hello", "", "hello"),
    )
    assert list(facts["languages"].items()) == [("python", 2), ("rust", 1), ("unknown", 1)]
    assert list(facts["verification"].items()) == [("skipped", 3), ("passed", 1)]
    assert facts["with_input"] == 1
    assert facts["output_characters"] == len("for x in y: passloop {}forhello")


def test_lengths_are_in_words_and_marks():
    facts = facts_of(Example("Add a to b, quickly.", "", "x = [1, 2]"))["lengths"]
    bins = {name: facts["edges"][facts[name].index(1)] for name in FIELDS}
    assert bins == {"instruction": 6, "input": 0, "output": 6}  # 7, 0 and 7 fall in [6, 8)
    assert all(len(facts[name]) == len(facts["edges"]) for name in FIELDS)
    long = facts_of(Example("a " * 10_000, "", "b"))["lengths"]
    assert long["instruction"][-1] == 1


def test_nearest_leaves_out_rows_without_a_neighbour():
    scores = [0.0, 0.04, 0.05, 0.5, 0.999, 1.0]
    near = [Example("a", "", "b", nearest_id="x", nearest_score=score) for score in scores]
    bins = facts_of(Example("a", "", "b"), *near)["nearest"]
    assert len(bins) == 20 and sum(bins) == len(scores)
    assert (bins[0], bins[1], bins[10], bins[19]) == (2, 1, 1, 2)


def test_verbs_are_the_most_common_with_their_objects():
    asked = ["function"] * 5 + ["class"] * 3 + ["loop"] * 2 + ["test", "query", "query"]
    facts = facts_of(
        *[Example(f"Write a {noun}", "", "x") for noun in asked],
        Example("Sort the array", "", "x"),
        Example("What is a stack?", "", "x"),
    )["verbs"]
    assert facts["rows"] == len(asked) + 1
    write, sort = facts["common"]
    assert write["verb"] == "write" and write["rows"] == len(asked)
    assert list(write["objects"].items()) == [
        ("function", 5), ("class", 3), ("loop", 2), ("query", 2),
    ]  # fmt: skip
    assert sort == {"verb": "sort", "rows": 1, "objects": {"array": 1}}


@pytest.mark.parametrize("seed", range(3))
def test_small_and_without_order(seed):
    rows = [
        Example(
            f"{verb} the noun{'abcdefgh'[number % 8]}",
            "",
            "x",
            language=f"language {number} " + "x" * 500,
        )
        for number, verb in enumerate(("Write", "Sort", "Find", "Build", "Zap") * 200)
    ]
    facts = facts_of(*rows)
    shuffled = rows.copy()
    random.Random(seed).shuffle(shuffled)
    assert json.dumps(facts_of(*shuffled)) == json.dumps(facts)
    assert len(facts["languages"]) == MAX_LABELS and sum(facts["languages"].values()) == len(rows)
    assert len(json.dumps(facts)) < 8_000


def test_no_rows():
    facts = facts_of()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["verbs"] == {"rows": 0, "common": []} and facts["languages"] == {}
