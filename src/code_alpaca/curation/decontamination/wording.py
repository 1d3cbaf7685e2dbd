"""Compare the words of task descriptions, ignoring their order, inflection and synonyms.

The rarer a word is in coding tasks, the more weight it has (see `word_lists`).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache

from code_alpaca.core import languages
from code_alpaca.curation.decontamination import word_lists
from code_alpaca.curation.python_parsing import parse_python
from code_alpaca.problems import Problem

NGRAM_LENGTH = 13
WORD = re.compile(r"\w+")
EXAMPLES = re.compile(r">>>|\n\s*assert |\n\s*(For example|Examples?|Note)\b|\bFor example\b")
VERY_FREQUENT_BITS, FREQUENT_BITS, RARE_BITS = 3, 6, 10  # weights of words


def normalize(text: str) -> str:
    """Return the text in lower case with single spaces."""
    return " ".join(text.lower().split())


def inner_words(text: str) -> list[str]:
    """Return all words but the first and last.

    Those may be fragments of longer words in a text that contains this one as a substring.
    """
    return WORD.findall(text)[1:-1]


def extract_statement(problem: Problem) -> str:
    """Return a problem in prose: the docstring of its prompt without the examples."""
    tree = parse_python(problem.prompt) or parse_python(problem.prompt + "\n    pass\n")
    if tree is None:
        return EXAMPLES.split(problem.instruction)[0]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    named = [node for node in functions if node.name == problem.entry_point] or functions[-1:]
    docs = [ast.get_docstring(node) for node in (tree, *named)]
    return EXAMPLES.split(next((doc for doc in docs if doc), ""))[0]


def bag_of_words(text: str) -> list[str]:
    """Return the words that distinguish tasks, without a plural's s."""
    words = WORD.findall(text.lower())
    return [
        word[:-1] if len(word) > 3 and word.endswith("s") and word[-2] != "s" else word
        for word in words
        if word not in word_lists.STOPWORDS and word not in languages.NAMES
    ]


def stem_words(text: str) -> dict[str, str]:
    """Return the words of a task by their stems; synonyms share a stem."""
    stems: dict[str, str] = {}
    for word in re.findall(r"[a-z0-9]+", text.lower()):
        if stem := _stem(word):
            stems.setdefault(stem, word)
    return stems


def weight(stem: str) -> int:
    """Return the weight of a stem in bits."""
    return BITS.get(stem, RARE_BITS)


def find_ngrams(text: str) -> Iterator[str]:
    """Yield all runs of NGRAM_LENGTH words that are not mostly numbers and single letters."""
    words = WORD.findall(text.lower())
    plain = [len(word) == 1 or word.isdigit() for word in words]
    for start in range(len(words) - NGRAM_LENGTH + 1):
        if 2 * sum(plain[start : start + NGRAM_LENGTH]) < NGRAM_LENGTH:
            yield " ".join(words[start : start + NGRAM_LENGTH])


@lru_cache(maxsize=50_000)
def _stem(word: str) -> str:
    """Return a word without inflection, or "" for a word without meaning."""
    ignored = word_lists.STOPWORDS | word_lists.MORE_STOPWORDS
    if word in ignored or word in languages.NAMES:
        return ""
    stem = _uninflected(word)
    stem = GROUPS.get(word) or GROUPS.get(stem, stem)
    return "" if stem in ignored else stem


def _uninflected(word: str) -> str:
    if word[:-1].isdigit():
        return word.rstrip("s")  # 1s and 0s
    for ending in ("ing", "ies", "es", "ed", "s"):
        base = word.removesuffix(ending)
        if base == word or len(base) < 3 or (ending == "s" and base.endswith("s")):
            continue
        if ending == "ies":
            return base + "y"
        if ending in ("ing", "ed") and base[-1] == base[-2] and base[-1] not in "sl":
            return base[:-1]
        return base.removesuffix("e")
    return word.removesuffix("e") if len(word) > 3 else word


GROUPS = {
    member: _uninflected(group.split()[0])
    for group in word_lists.SYNONYMS
    for word in group.split()
    for member in (word, _uninflected(word))
}
BITS = {
    GROUPS.get(_uninflected(word), _uninflected(word)): bits
    for words, bits in (
        (word_lists.FREQUENT, FREQUENT_BITS),
        (word_lists.VERY_FREQUENT, VERY_FREQUENT_BITS),
    )
    for word in words
}
