"""Similarity measures: which tokens of two tasks are compared.

`rouge_l` is the measure of Self-Instruct and Code Alpaca: ROUGE-L F1 between instructions over
`rouge_score` tokens. It drops symbols and ignores the input: C++ equals C#, `x != y` equals
`x > y`, and a task with another input is the same task.

`code_aware` compares three parts of a task by the same F1; the similarity of two tasks is that of
their least similar part: the words of the instruction, its operators, and the tokens of the input.
A part that is empty in both tasks is ignored; if it is empty in only one, the similarity is 0.
Tasks in different programming languages are never compared.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from code_alpaca.core import languages
from code_alpaca.core.schema import Example, SeedTask

ROUGE_TOKEN = re.compile(r"[a-z0-9]+")
# Words (in scripts without spaces: characters), C++ and C#, and operators that are not punctuation.
CODE_TOKEN = re.compile(
    r"c\+\+|[cf]#(?!\w)|\.net\b|[\u3040-\u30ff\u3400-\u9fff]|\w+"
    r"|[<>=+*%&|^~]+|!=+|(?<!\S)!|->|--|//|(?<=[\s\w)])[-/](?=[\s(]|\d)"
)


class TokenizedTask(NamedTuple):
    """The tokens of a task by part. Only tasks of the same group are compared."""

    group: str
    words: Sequence[str]
    operators: Sequence[str]
    input: Sequence[str]


def rouge_l(task: Example | SeedTask) -> TokenizedTask:
    """Return the words of the instruction, as `rouge_score` without stemming splits them."""
    return TokenizedTask("", ROUGE_TOKEN.findall(task.instruction.lower()), (), ())


def code_aware(task: Example | SeedTask) -> TokenizedTask:
    """Return the words and operators of the instruction and the tokens of the input.

    The group is the languages that the instruction names, in order ("Java to Python" is not "Python
    to Java"), or else that of the row. Language names are not words.
    """
    words, operators, named = [], [], {}
    tokens = CODE_TOKEN.findall(task.instruction.lower())
    for token, following in zip_longest(tokens, tokens[1:], fillvalue=""):
        if token in languages.PROSE_NAMES:
            named[_named_language(token, following)] = True
        else:
            (words if token[0].isalnum() or token[0] == "_" else operators).append(token)
    group = "+".join(named) or languages.canonical(task.language)
    return TokenizedTask(group, words, operators, CODE_TOKEN.findall(task.input.lower()))


def _named_language(token: str, following: str) -> str:
    """Return the language that a token names: a shell script is Bash, "the shell" any shell."""
    if token == "shell" and not following.startswith("script"):
        return token
    return languages.PROSE_NAMES[token]


MEASURES = {"rouge_l": rouge_l, "code_aware": code_aware}
# 0.7 for rouge_l is the value of 2023. 0.85 for code_aware was chosen on MBPP, whose tests show
# whether two tasks are the same (benchmarks/novelty_threshold.py): of pairs with similarity 0.6 to
# 0.85 one in sixty is, from 0.85 to 0.95 one in thirty, above that three of seven. A row dropped in
# error has been paid for, so 0.7 is too low; 0.85 still drops most "maximum" for "minimum"
# variants, which teachers write often.
DEFAULT_THRESHOLDS = {"rouge_l": 0.7, "code_aware": 0.85}
