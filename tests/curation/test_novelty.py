"""The novelty check decides exactly as rouge_score would, however rows are batched."""

from __future__ import annotations

import random
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer
from support.novelty_rows import WORDS, make_similar_tasks, task

from code_alpaca.core.schema import Example
from code_alpaca.curation.novelty import kernels
from code_alpaca.curation.novelty.index import LevelSizes, NoveltyVerdict
from code_alpaca.curation.novelty.measures import MEASURES, code_aware, rouge_l
from code_alpaca.curation.novelty.pool import NoveltyPool, find_neighbours

SCORER = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
TOKEN_SCORER = rouge_scorer.RougeScorer(["rougeL"], tokenizer=SimpleNamespace(tokenize=str.split))
SENTENCES = st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join)


def similarity(measure: str, one: Example, other: Example) -> float:
    """Compute a measure by its definition, with rouge_score."""
    a, b = MEASURES[measure](one), MEASURES[measure](other)
    if a.group != b.group or not a.words or not b.words:
        return 0.0
    parts = zip(a[1:], b[1:], strict=True)
    return min(
        TOKEN_SCORER.score(" ".join(x), " ".join(y))["rougeL"].fmeasure for x, y in parts if x or y
    )


def check_by_loop(measure: str, threshold: float, pool, rows) -> list[NoveltyVerdict]:
    """Apply the rule as a loop over all rows in the pool."""
    pool, verdicts = list(pool), []
    for row in rows:
        scores = [similarity(measure, row, old) for old in pool]
        best = max(scores, default=0.0)
        is_novel = not best > threshold
        nearest_id = pool[scores.index(best)].id if best else ""
        verdicts.append(NoveltyVerdict(nearest_id, best, is_novel))
        if is_novel:
            pool.append(row)
    return verdicts


# -- The search is exact -------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.lists(SENTENCES, min_size=1, max_size=8), SENTENCES, st.sampled_from([0.5, 0.7, 0.8]))
def test_rouge_l_equals_rouge_score(texts, candidate, threshold):
    pool = NoveltyPool("rouge_l", threshold)
    pool.add([task(text, id=str(number)) for number, text in enumerate(texts)])
    expected = [SCORER.score(text, candidate)["rougeL"].fmeasure for text in texts]
    (verdict,) = pool.check([task(candidate)])
    assert verdict.score == max(expected)
    assert verdict.is_novel == (not max(expected) > threshold)
    if verdict.score:
        assert verdict.nearest_id == str(expected.index(max(expected)))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(("count", "longest"), [(300, 14), (60, 200)])
def test_verdicts_equal_a_loop_over_the_pool(measure, count, longest):
    rows = make_similar_tasks(count, seed=count, longest=longest)
    pool = NoveltyPool(measure, 0.7)
    pool.add(rows[:5])
    assert pool.check(rows[5:]) == check_by_loop(measure, 0.7, rows[:5], rows[5:])


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("threshold", [0, 0.4, 0.7, 0.95, 1])
def test_batches_and_prefix_indices_do_not_change_verdicts(measure, threshold):
    sizes = LevelSizes(scanned_rows=8, merge_factor=3)  # few rows pass through all levels
    rows = make_similar_tasks(600, seed=3)
    one_by_one = NoveltyPool(measure, threshold)
    expected = [one_by_one.check([row])[0] for row in rows]
    rng = random.Random(0)
    by_id = {row.id: row for row in rows}
    for nearest in (True, False):
        pool, verdicts = NoveltyPool(measure, threshold, nearest=nearest, sizes=sizes), []
        while len(verdicts) < len(rows):
            verdicts += pool.check(rows[len(verdicts) :][: rng.randint(1, 200)])
        assert [v.is_novel for v in verdicts] == [v.is_novel for v in expected]
        if nearest:
            assert verdicts == expected
            continue
        for row, verdict in zip(rows, verdicts, strict=True):
            if verdict.nearest_id:
                assert verdict.score == similarity(measure, row, by_id[verdict.nearest_id])


def test_a_resumed_pool_decides_like_an_uninterrupted_one():
    rows = make_similar_tasks(400, seed=9)
    uninterrupted, resumed = NoveltyPool(), NoveltyPool()
    expected = uninterrupted.check(rows)
    resumed.add(row for row, v in zip(rows[:200], expected, strict=False) if v.is_novel)
    assert resumed.check(rows[200:]) == expected[200:]


@pytest.mark.parametrize("batch_size", [1, 255, 256, 257, 1000])
def test_a_pool_grows_by_batches_of_any_size(batch_size):
    """Every row is stored intact, also where arrays grow and indices are built."""
    pool = NoveltyPool("rouge_l", nearest=False)
    rows = [task(f"w{number} v{number}", id=str(number)) for number in range(2_500)]
    for start in range(0, len(rows), batch_size):
        assert all(v.is_novel for v in pool.check(rows[start : start + batch_size]))
    assert len(pool) == len(rows)
    assert [v.nearest_id for v in pool.check(rows)] == [row.id for row in rows]


def test_a_similarity_at_the_threshold_is_rounded_as_in_rouge_score():
    """At F1 = 0.7 the order of operations puts some pairs of lengths above the threshold."""
    counts = {True: 0, False: 0}
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
                pool = NoveltyPool("rouge_l", 0.7, nearest=nearest)
                pool.add([task(one)])
                assert pool.check([task(other)])[0].is_novel == (not expected > 0.7)
            counts[expected > 0.7] += 1
    assert min(counts.values()) > 10


@pytest.mark.slow
def test_millions_of_pairs_are_decided_like_the_loop():
    rng = np.random.default_rng(0)
    for _ in range(40):
        seed, longest = int(rng.integers(1 << 30)), int(rng.integers(4, 90))
        rows = make_similar_tasks(600, seed=seed, longest=longest)
        for measure in MEASURES:
            expected = check_by_loop(measure, 0.7, [], rows)
            assert NoveltyPool(measure, 0.7).check(rows) == expected
            decided = NoveltyPool(measure, 0.7, nearest=False).check(rows)
            assert [v.is_novel for v in decided] == [v.is_novel for v in expected]


@pytest.mark.parametrize("measure", MEASURES)
def test_neighbours_equal_a_sorted_loop(measure):
    rows = make_similar_tasks(120, seed=12, longest=90)
    for i, neighbours in enumerate(find_neighbours(rows, measure, count=5, num_threads=3)):
        scores = [similarity(measure, rows[i], old) for old in rows[:i]]
        order = sorted(range(i), key=lambda j: (-scores[j], -j))[:5]
        assert neighbours.most_similar == [(rows[j].id, scores[j]) for j in order if scores[j] > 0]
        assert neighbours.mean == pytest.approx(sum(scores) / i if i else 0.0)
        assert neighbours.id == rows[i].id


def test_kernels_compile_without_a_cache_folder():
    module = ModuleType("kernels_elsewhere")
    # numba finds no place for a cache where the source has no file.
    exec(compile(Path(kernels.__file__).read_text(), "/nowhere/kernels.py", "exec"), vars(module))
    assert module.f1(3, 4, 4) == kernels.f1(3, 4, 4) == 0.75


# -- What the measures compare -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "is_novel"),
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
        (task("Write a shell script to sort."), task("Write a bash script to sort."), False),
        (task("Sort a file.", language="shell"), task("Sort a file.", language="bash"), False),
        (task("Make it in-place and/or fast."), task("Make it in place and or fast"), False),
        (task("写一个排序函数"), task("写一个排序函数。"), False),
    ],
)
def test_code_aware_compares_language_operators_and_input(old, new, is_novel):
    pool = NoveltyPool("code_aware", 0.7)
    pool.add([old])
    assert pool.check([new])[0].is_novel is is_novel


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("Write a bash script", ""), ("Write a shell script", "")),
        (("Count files", "bash"), ("Count files", "Shell")),
        (("Count files", "js"), ("Count files", "javascript")),
        (("Count files in a shell script", ""), ("Count files in a script", "sh")),
    ],
)
def test_names_of_one_language_are_compared(first, second):
    groups = {
        code_aware(Example(instruction, "", "", language=language)).group
        for instruction, language in (first, second)
    }
    assert len(groups) == 1


@pytest.mark.parametrize("measure", MEASURES)
def test_a_task_without_words_is_always_novel(measure):
    verdicts = NoveltyPool(measure).check([task("???", id="a"), task("???"), task("")])
    assert verdicts == [NoveltyVerdict("", 0.0, True)] * 3


def test_tokens_of_both_measures():
    row = task("Fix `x != y` in C++: a+b, in-place and/or 3*4 -> z!", "if a<b: pass")
    assert " ".join(rouge_l(row).words) == "fix x y in c a b in place and or 3 4 z"
    tokenized = code_aware(row)
    assert tokenized.group == "c++"
    assert " ".join(tokenized.words) == "fix x y in a b in place and or 3 4 z"
    assert list(tokenized.operators) == ["!=", "+", "*", "->"]
    assert list(tokenized.input) == ["if", "a", "<", "b", "pass"]


@pytest.mark.parametrize(
    ("measure", "threshold", "message"),
    [("rouge", 0.7, "unknown measure 'rouge'"), ("rouge_l", 1.1, r"1\.1 is outside 0\.\.1")],
)
def test_bad_settings_are_refused(measure, threshold, message):
    with pytest.raises(ValueError, match=message):
        NoveltyPool(measure, threshold)


def test_odd_text_is_compared():
    rows = [task("a\0b \ud800 sort"), task("x " * 70_000), task("x " * 70_001), task("\n\t")]
    verdicts = NoveltyPool("rouge_l").check(rows)
    assert [v.is_novel for v in verdicts] == [True, True, False, True]
