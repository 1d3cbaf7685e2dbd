"""Problems are found by their tests, identifiers and words, in any programming language."""

from __future__ import annotations

import pytest
from support.decontamination import PROBLEM, detector_of, find

from code_alpaca.core.schema import Example

JAVASCRIPT = """\
function mergeShifts(shifts) {
  if (!shifts.length) return [];
  shifts = [...shifts].sort();
  const merged = [[...shifts[0]]];
  for (const [start, end] of shifts.slice(1)) {
    const last = merged.at(-1);
    if (start <= last[1]) last[1] = Math.max(last[1], end);
    else merged.push([start, end]);
  }
  return merged;
}
"""
RUST = """\
fn longest_plateau(heights: &[i32]) -> i32 {
    let (mut best, mut run) = (0, 0);
    let mut before = None;
    for h in heights {
        run = if Some(h) == before { run + 1 } else { 1 };
        best = best.max(run);
        before = Some(h);
    }
    best
}
"""


@pytest.mark.parametrize(("task_id", "code"), [("Own/6", JAVASCRIPT), ("Own/3", RUST)])
def test_a_translation_is_found_by_its_identifiers(detector, task_id, code):
    assert (task_id, "identifiers") in find(detector, "Do this.", "", code)


def test_copied_tests_are_found_in_any_language(detector):
    python = "assert f([41, 27, 13, 38, 16, 14]) == [2]"
    javascript = "assert.deepEqual(f([41, 27, 13, 38, 16, 14]), [2]);"
    assert find(detector, "Write tests.", "", python) == [("Own/4", "tests")]
    assert find(detector, "Write tests.", "", javascript) == [("Own/4", "tests")]
    (match,) = detector.find_matches(Example("Write it.", "", "def f(x): ...", tests=python))
    assert (match.task_id, match.method) == ("Own/4", "tests")


def test_consecutive_words_are_found_but_not_numbers(tmp_path):
    words = "one lone wolf walks over seven long hills before any other wolf wakes up there"
    numbers = " ".join(str(n) for n in range(40))
    prompt = f"def f():\n    # {words}\n    # {numbers}\n"
    record = {**PROBLEM, "prompt": prompt, "entry_point": "f"}
    detector = detector_of(tmp_path / "own.jsonl", [record])
    assert find(detector, "Go.", "", f"so {words}") == [("Own/1", "overlap")]
    assert find(detector, "Go.", numbers, numbers) == []


@pytest.mark.parametrize(
    "common",
    ["[1, 2, 3, 4, 5, 6, 7]", "['a', 'b', 'c', 'd', 'e', 'f']", "[1, 4, 9, 16, 25, 36]",
     "['one', 'two', 'three', 'four', 'five', 'six']", "[10, 20, 30, 40, 2, 2]",
     "[11, 13, 17, 19, 23, 29]", "[13, 21, 34, 55, 89, 144]", "[16, 32, 64, 128, 256, 512]"],
)  # fmt: skip
def test_common_literals_do_not_match(tmp_path, common):
    test = f"def check(candidate):\n    assert candidate({common})\n"
    detector = detector_of(tmp_path / "own.jsonl", [{**PROBLEM, "test": test}])
    assert find(detector, "Write tests.", "", f"print(f({common}))") == []


@pytest.mark.parametrize(
    "instruction",
    [
        "From the highest of the thermometer's readings, subtract the lowest.",
        "Turn a ring of beads clockwise by a number of steps.",
        "Texts of digits and letters, such as '3a2b', have to be expanded to 'aaabb'.",
    ],
)
def test_a_paraphrase_is_found_by_its_rare_words(detector, instruction):
    assert {match.method for match in detector.find_matches(Example(instruction, "", "..."))} == {
        "reworded"
    }
