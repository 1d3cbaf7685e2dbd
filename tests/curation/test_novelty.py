"""Novelty decides as rouge_score decides, to the last bit."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from code_alpaca.curation.novelty import Novelty

SCORER = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
WORDS = st.sampled_from(
    [
        "sort",
        "list",
        "of",
        "numbers",
        "in",
        "c++",
        "c#",
        "x",
        "!=",
        ">",
        "reverse",
        "string",
        "2",
        "to_do",
        "é",
    ]
)
SENTENCES = st.lists(WORDS, max_size=14).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(st.lists(SENTENCES, min_size=1, max_size=8), SENTENCES, st.sampled_from([0.5, 0.7, 0.8]))
def test_scores_and_decisions_equal_rouge_score(kept, candidate, threshold):
    novelty = Novelty(threshold)
    for number, text in enumerate(kept):
        novelty.add(str(number), text)
    expected = [SCORER.score(text, candidate)["rougeL"].fmeasure for text in kept]
    nearest_id, score = novelty.nearest(candidate)
    assert score == max(expected)
    assert novelty.too_similar(score) == (max(expected) > threshold)
    if score:
        assert nearest_id == str(expected.index(max(expected)))


def test_exactly_at_the_threshold_stays():
    novelty = Novelty(0.7)
    novelty.add("a", "one two three four five six seven x y z")
    _, score = novelty.nearest("one two three four five six seven p q r")
    assert score == SCORER.score("a b c d e f g x y z", "a b c d e f g p q r")["rougeL"].fmeasure
    assert not novelty.too_similar(0.7)


def test_text_without_tokens_is_like_nothing():
    novelty = Novelty(0.7)
    novelty.add("a", "???")
    assert novelty.nearest("???") == ("", 0.0)
    assert novelty.nearest("sort a list") == ("", 0.0)


def test_more_words_than_one_plane_of_characters():
    novelty = Novelty(0.7)
    for number in range(0, 70_000, 2):
        novelty.add(str(number), f"w{number} w{number + 1}")
    assert novelty.nearest("w69998 w69999") == ("69998", 1.0)
