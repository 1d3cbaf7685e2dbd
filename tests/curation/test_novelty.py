"""Novelty decides as rouge_score decides, to the last bit, however rows are fed to it."""

from __future__ import annotations

import random
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer
from support.novelty_rows import WORDS, task, variants

from code_alpaca.core.schema import Example
from code_alpaca.curation.novelty import index as rooms
from code_alpaca.curation.novelty import kernels
from code_alpaca.curation.novelty.measures import MEASURES, code_aware, rouge_l
from code_alpaca.curation.novelty.pool import NoveltyPool, Verdict, find_neighbours

SCORER = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
SENTENCES = st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join)


def f1(a, b) -> float:
    """rouge_score's own number for two token lists."""
    return rouge_scorer._score_lcs(list(a), list(b)).fmeasure


def alike(measure: str, one: Example, other: Example) -> float:
    """The definition of the measures, with nothing clever."""
    a, b = MEASURES[measure](one), MEASURES[measure](other)
    if a.group != b.group or not a.words or not b.words:
        return 0.0
    return min(f1(x, y) for x, y in zip(a[1:], b[1:], strict=True) if x or y)


def directly(measure: str, threshold: float, seeds, rows) -> list[Verdict]:
    """The rule as a loop over all kept rows."""
    kept, verdicts = list(seeds), []
    for row in rows:
        scores = [alike(measure, row, old) for old in kept]
        best = max(scores, default=0.0)
        fresh = not best > threshold
        verdicts.append(Verdict(kept[scores.index(best)].id if best else "", best, fresh))
        if fresh:
            kept.append(row)
    return verdicts


# -- exact ---------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.lists(SENTENCES, min_size=1, max_size=8), SENTENCES, st.sampled_from([0.5, 0.7, 0.8]))
def test_rouge_l_equals_rouge_score(kept, candidate, threshold):
    novelty = NoveltyPool("rouge_l", threshold)
    novelty.add([task(text, id=str(number)) for number, text in enumerate(kept)])
    expected = [SCORER.score(text, candidate)["rougeL"].fmeasure for text in kept]
    (verdict,) = novelty.check([task(candidate)])
    assert verdict.score == max(expected)
    assert verdict.is_novel == (not max(expected) > threshold)
    if verdict.score:
        assert verdict.nearest_id == str(expected.index(max(expected)))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(("count", "longest"), [(500, 14), (120, 200)])
def test_verdicts_equal_a_loop_over_all_kept_rows(measure, count, longest):
    rows = variants(count, seed=count, longest=longest)
    novelty = NoveltyPool(measure, 0.7)
    novelty.add(rows[:5])
    assert novelty.check(rows[5:]) == directly(measure, 0.7, rows[:5], rows[5:])


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("threshold", [0.0, 0.4, 0.7, 0.95, 1.0])
def test_batches_and_indices_decide_as_one_by_one(measure, threshold, monkeypatch):
    """Small levels, so that few rows pass through all of them."""
    monkeypatch.setattr(rooms, "NEWEST", 8)
    monkeypatch.setattr(rooms, "FAN", 3)
    rows = variants(900, seed=3)
    one_by_one = NoveltyPool(measure, threshold)
    expected = [one_by_one.check([row])[0] for row in rows]
    rng = random.Random(0)
    by_id = {row.id: row for row in rows}
    for nearest in (True, False):
        novelty, verdicts = NoveltyPool(measure, threshold, nearest=nearest), []
        while len(verdicts) < len(rows):
            verdicts += novelty.check(rows[len(verdicts) :][: rng.randint(1, 200)])
        assert [v.is_novel for v in verdicts] == [v.is_novel for v in expected]
        if nearest:
            assert verdicts == expected
        for row, verdict in zip(rows, verdicts, strict=True):
            if verdict.nearest_id:
                assert verdict.score == alike(measure, row, by_id[verdict.nearest_id])


def test_a_restart_goes_on_as_if_there_was_none():
    rows = variants(400, seed=9)
    whole = NoveltyPool()
    expected = whole.check(rows)
    resumed = NoveltyPool()
    resumed.add(row for row, v in zip(rows[:200], expected, strict=False) if v.is_novel)
    assert resumed.check(rows[200:]) == expected[200:]


@pytest.mark.parametrize("size", [1, 7, 255, 256, 257, 1000])
def test_a_pool_grows_by_batches_of_any_size(size):
    """Every array has room for what is written, whatever the sizes at which it grew."""
    novelty = NoveltyPool("rouge_l", nearest=False)
    rows = [task(f"w{number} v{number}", id=str(number)) for number in range(6_000)]
    for start in range(0, len(rows), size):
        assert all(v.is_novel for v in novelty.check(rows[start : start + size]))
    assert len(novelty) == len(rows)
    index = novelty._indices[""]
    assert all(len(array) >= len(rows) for array in index._rows)
    assert len(index._rows.start) > len(rows)


def test_exactly_at_the_threshold_is_decided_as_its_floats_say():
    """At F1 = 0.7 the order of operations puts some pairs of lengths above, others not."""
    seen = {True: 0, False: 0}
    for m in range(1, 60):
        for n in range(1, 60):
            if 7 * (m + n) % 20:
                continue
            common = 7 * (m + n) // 20
            if common > min(m, n):
                continue
            shared = [f"s{i}" for i in range(common)]
            one = " ".join(shared + [f"a{i}" for i in range(m - common)])
            other = " ".join(shared + [f"b{i}" for i in range(n - common)])
            expected = SCORER.score(one, other)["rougeL"].fmeasure
            for nearest in (True, False):
                novelty = NoveltyPool("rouge_l", 0.7, nearest=nearest)
                novelty.add([task(one)])
                assert novelty.check([task(other)])[0].is_novel == (not expected > 0.7)
            seen[expected > 0.7] += 1
    assert min(seen.values()) > 10


@pytest.mark.slow
def test_millions_of_pairs_have_no_difference():
    rng = np.random.default_rng(0)
    for _ in range(40):
        rows = variants(600, seed=int(rng.integers(1 << 30)), longest=int(rng.integers(4, 90)))
        for measure in MEASURES:
            expected = directly(measure, 0.7, [], rows)
            assert NoveltyPool(measure, 0.7).check(rows) == expected
            decided = NoveltyPool(measure, 0.7, nearest=False).check(rows)
            assert [v.is_novel for v in decided] == [v.is_novel for v in expected]


@pytest.mark.parametrize("measure", MEASURES)
def test_neighbours_equal_a_sorted_loop(measure):
    rows = variants(200, seed=12, longest=90)
    for i, found in enumerate(find_neighbours(rows, measure, most=5, threads=3)):
        scores = [alike(measure, rows[i], old) for old in rows[:i]]
        order = sorted(range(i), key=lambda j: (-scores[j], -j))[:5]
        assert found.most_similar == [(rows[j].id, scores[j]) for j in order if scores[j] > 0]
        assert found.mean == pytest.approx(sum(scores) / i if i else 0.0)
        assert found.id == rows[i].id


# -- what the measures see -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kept", "offered", "fresh"),
    [
        (task("Write a sorting function in C++."), task("Write a sorting function in C#."), True),
        (task("Write a sort in Java."), task("Write a sort in Python."), True),
        (task("Convert it from Java to Python."), task("Convert it from Python to Java."), True),
        (task("What does x != y mean?"), task("What does x > y mean?"), True),
        (task("Reverse the list.", "[1, 2, 3]"), task("Reverse the list.", "[7, 8, 9]"), True),
        (task("Reverse the list."), task("Reverse the list.", "[7, 8, 9]"), True),
        (task("Sort a list.", language="rust"), task("Sort a list.", language="go"), True),
        (task("Sort a list."), task("Please sort a list!"), False),
        (task("Sort it.", "x = [1,2]"), task("Sort it.", "x  =  [ 1, 2 ]"), False),
        (task("Sort a list.", language="python"), task("Sort a list in Python 3."), False),
        (task("Make it in-place and/or fast."), task("Make it in place and or fast"), False),
        (task("写一个排序函数"), task("写一个排序函数。"), False),
    ],
)
def test_code_aware_keeps_what_differs_in_what_matters(kept, offered, fresh):
    novelty = NoveltyPool("code_aware", 0.7)
    novelty.add([kept])
    assert novelty.check([offered])[0].is_novel is fresh


def test_text_without_tokens_is_like_nothing():
    for measure in MEASURES:
        verdicts = NoveltyPool(measure).check([task("???", id="a"), task("???"), task("")])
        assert verdicts == [Verdict("", 0.0, True)] * 3


def test_the_tokens_of_both_measures():
    row = task("Fix `x != y` in C++: a+b, in-place and/or 3*4 -> z!", "if a<b: pass")
    assert " ".join(rouge_l(row).words) == "fix x y in c a b in place and or 3 4 z"
    parts = code_aware(row)
    assert parts.group == "c++"
    assert " ".join(parts.words) == "fix x y in a b in place and or 3 4 z"
    assert list(parts.marks) == ["!=", "+", "*", "->"]
    assert list(parts.input) == ["if", "a", "<", "b", "pass"]


@pytest.mark.parametrize(("measure", "threshold"), [("rouge", 0.7), ("rouge_l", 1.1)])
def test_bad_settings(measure, threshold):
    with pytest.raises(ValueError, match=r"no measure 'rouge'|outside 0\.\.1"):
        NoveltyPool(measure, threshold)


def test_odd_text_is_survived():
    rows = [task("a\0b \ud800 sort"), task("x " * 70_000), task("x " * 70_001), task("\n\t")]
    verdicts = NoveltyPool("rouge_l").check(rows)
    assert [v.is_novel for v in verdicts] == [True, True, False, True]


def test_without_a_folder_to_keep_what_is_compiled_it_is_compiled_at_each_start():
    module = ModuleType("kernels_elsewhere")
    # numba has nowhere to keep what stands in no file.
    exec(compile(Path(kernels.__file__).read_text(), "/nowhere/kernels.py", "exec"), vars(module))
    assert module.f1(3, 4, 4) == kernels.f1(3, 4, 4) == 0.75
