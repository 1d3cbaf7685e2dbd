"""Compare the words of task descriptions, ignoring their order, inflection and synonyms.

A word has the more weight, the rarer it is in coding tasks. The lists of frequent and common words
were counted in 3,155 instructions and problem statements (Code Alpaca, HumanEval, MBPP).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache

from code_alpaca.core import languages
from code_alpaca.curation.python_parsing import parse_python
from code_alpaca.problems import Problem

NGRAM_LENGTH = 13
WORD = re.compile(r"\w+")
EXAMPLES = re.compile(r">>>|\n\s*assert |\n\s*(For example|Examples?|Note)\b|\bFor example\b")
GLUE = frozenset(
    {
        "a", "an", "the", "of", "to", "in", "on", "for", "with", "by", "and", "or", "is", "are",
        "that", "which", "this", "it", "its", "from", "as", "be", "your", "you", "please", "using",
        "use", "if", "whether", "given", "write", "create", "make", "build", "design", "develop",
        "construct", "generate", "implement", "define", "find", "output", "take", "following",
        "function", "method", "program", "code", "script", "algorithm", "snippet",
    }
)  # fmt: skip
# Also ignored where words are weighted: they are in every other task, or mean nothing.
FILLERS = frozenset(
    {
        "about", "all", "also", "another", "any", "at", "been", "being", "but", "can", "certain",
        "check", "class", "compose", "composed", "consist", "consisting", "consists", "contain",
        "dd", "do", "does", "done", "each", "eg", "every", "exist", "false", "get", "had", "has",
        "have", "help", "here", "how", "i", "ie", "input", "into", "just", "let", "me", "mm",
        "my", "need", "no", "not", "only", "other", "our", "own", "particular", "per", "perform",
        "print", "program", "provided", "result", "return", "same", "should", "so", "solve",
        "some", "specific", "specified", "such", "supplied", "task", "than", "their", "them",
        "then", "there", "these", "they", "those", "too", "tool", "true", "us", "want", "was",
        "we", "were", "what", "when", "where", "who", "whose", "will", "without", "would", "yyyy",
    }
)  # fmt: skip
SYNONYMS = [
    "list array tuple sequence collection vector arrays", "number integer int float value numeral",
    "return give outcome answer obtain compute calculate determine decide detect identify "
    "tell",  # a word of tasks, not an old name
    "contain include present", "string str text", "near close similar",
    "biggest large maximum max great high large greatest largest highest",
    "smallest minimum min low least lowest", "duplicate repeat twice", "difference distance gap",
    "remove delete drop strip eliminate", "element item entry member", "begin start initial",
    "last end final", "two pair both", "1 one once", "0 zero", "sum total add",
    "count amount occurrence occur", "index position", "reverse backward invert",
    "unique different distinct", "convert transform change turn", "combine concatenate join merge",
    "separate split", "sort order arrange", "limit threshold", "character letter char",
    "longest long", "shortest short", "small little",
]  # fmt: skip
COMMON = frozenset(
    {
        "biggest", "between", "character", "convert", "count", "element", "first", "length",
        "list", "n", "number", "one", "query", "remove", "1", "smallest", "sort", "string",
        "sum", "table", "two", "word",
    }
)  # fmt: skip
FREQUENT = frozenset(
    {
        "0", "2", "3", "4", "5", "10", "address", "age", "area", "argument", "ascend",
        "average", "b", "binary", "bit", "button", "case", "column", "combine", "common",
        "compose", "correspond", "current", "customer", "data", "date", "dictionary",
        "difference", "digit", "divisor", "duplicate", "edit", "email", "employee", "empty",
        "equal", "even", "explain", "expression", "extract", "factorial", "fibonacci",
        "field", "follow", "form", "format", "frequency", "hello", "id", "index", "k",
        "key", "lambda", "large", "last", "line", "link", "longest", "loop", "match",
        "modify", "most", "multiple", "mysql", "name", "natural", "negative", "nest", "new",
        "non", "nth", "object", "odd", "otherwise", "out", "page", "palindrome",
        "parameter", "point", "positive", "possible", "power", "prime", "product", "random",
        "range", "record", "regex", "regular", "replace", "represent", "reverse", "rewrite",
        "row", "s", "salary", "search", "second", "select", "sentence", "separate", "set",
        "size", "small", "space", "square", "statement", "store", "structure", "suggest",
        "three", "time", "tree", "triangle", "type", "unique", "up", "user", "valid",
        "variable", "vowel", "web", "within", "x", "y",
    }
)  # fmt: skip
RARE_BITS, FREQUENT_BITS, COMMON_BITS = 10, 6, 3  # weights of words


def normalize(text: str) -> str:
    """Return the text in lower case with single spaces."""
    return " ".join(text.lower().split())


def inner_words(text: str) -> list[str]:
    """Return all words but the first and last: every text that contains this one has them too."""
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
        if word not in GLUE and word not in languages.NAMES
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
    if word in GLUE or word in FILLERS or word in languages.NAMES:
        return ""
    stem = _uninflected(word)
    stem = GROUPS.get(word) or GROUPS.get(stem, stem)
    return "" if stem in GLUE or stem in FILLERS else stem


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
    for group in SYNONYMS
    for word in group.split()
    for member in (word, _uninflected(word))
}
BITS = {
    **{GROUPS.get(_uninflected(word), _uninflected(word)): FREQUENT_BITS for word in FREQUENT},
    **{GROUPS.get(_uninflected(word), _uninflected(word)): COMMON_BITS for word in COMMON},
}
