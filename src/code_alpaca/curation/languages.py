"""Which programming language is this, and is it code at all? By signs, for rows that do not say.

Signs are few and strong: a text without any is of no language that we know, and nothing is
dropped for that. Python alone is asked of a parser.
"""

from __future__ import annotations

import ast
import re
import warnings

from code_alpaca.curation.measures import ALIASES, CODE_TOKEN, LANGUAGES
from code_alpaca.schema import Example

M = re.MULTILINE
# In the order in which they are tried: the first with a sign is the answer.
SIGNS = {
    "php": re.compile(r"<\?php|^\s*\$\w+\s*=.*;\s*$.*^\s*echo\b", M | re.S),
    "html": re.compile(
        r"<!doctype html|<(html|head|body|div|table|form|ul|p|h1|a|span)\b[^>]*>", M | re.I
    ),
    "sql": re.compile(
        r"^\s*(SELECT\b.+\bFROM\b|INSERT\s+INTO\b|UPDATE\s+\w+\s+SET\b|DELETE\s+FROM\b|"
        r"(CREATE|ALTER|DROP)\s+(TABLE|DATABASE|INDEX|VIEW|PROCEDURE|TRIGGER)\b)",
        M | re.I | re.S,
    ),
    "c#": re.compile(r"^\s*using System\b|Console\.Write|\bnamespace \w+\s*\{|string\[\] args", M),
    "java": re.compile(
        r"System\.out\.print|\bpublic (static|class|void|interface)\b|^import java", M
    ),
    "c++": re.compile(
        r"#include\s*<(iostream|vector|string|map|algorithm|bits)|\bstd::|\bcout\s*<<", M
    ),
    "c": re.compile(
        r"#include\s*<\w+\.h>|\bprintf\s*\(.*\);|\bscanf\s*\(|"
        r"^\s*(int|void|char|float|double|struct \w+)\s*\*?\s*\w+\s*\([^)]*\)\s*\{",
        M,
    ),
    "go": re.compile(r"^package \w+|\bfunc (\(\w+ \*?\w+\) )?\w+\(|\bfmt\.Print", M),
    "rust": re.compile(r"\bfn \w+(<[^>]*>)?\(|\blet mut \w+|println!\(", M),
    "kotlin": re.compile(r"\bfun \w+\(|\bval \w+\s*[:=]", M),
    "swift": re.compile(
        r"\bfunc \w+\(.*\)\s*(->\s*\w+\s*)?\{|^import (UIKit|SwiftUI|Foundation)", M
    ),
    "ruby": re.compile(r"^\s*(def \w+[^:\n]*$|puts |require ['\"])|\.each do \|", M),
    "javascript": re.compile(
        r"\bconsole\.log\(|\bfunction\s*\w*\s*\([^)]*\)\s*\{|\b(const|let|var) \w+\s*=|=>\s*[{(\w]|"
        r"\bdocument\.|\brequire\(",
        M,
    ),
    "css": re.compile(r"^\s*[.#@]?[\w-]+[^{}\n;]*\{\s*[\w-]+\s*:[^{}]+;?\s*\}", M),
    "bash": re.compile(
        r"^#!/bin/(ba)?sh|^\s*(sudo|apt-get|chmod|mkdir|grep|awk|sed|echo|cd|ls|find|curl|git|"
        r"docker|npm|pip) [^.]*$",
        M,
    ),
    "r": re.compile(r"\b\w+ <- |\blibrary\(\w+\)", M),
}  # fmt: skip
PYTHON = re.compile(
    r"^\s*(def \w+\(.*\).*:|class \w+.*:|import \w+|from [\w.]+ import|for .+ in .+:|while .+:|"
    r"if .+:|elif .+:|else:|try:|with .+:|@\w+|print\s?\(|return\b|\w+ = |\w+\s*\+= )|"
    r"\b(print|len|range|sorted|input)\(|\w\[.*:.*\]|\blambda \w+:",
    M,
)
BROKEN_PYTHON = re.compile(  # what is Python's alone, for text that does not parse
    r"^\s*(def \w+\(.*\)\s*(->.*)?:|import \w+( as \w+)?$|from [\w.]+ import \w|for .+ in .+:$|"
    r"while .+:$|elif .+:$|if .+:$|print\s?\(.*\)$)",
    M,
)
CODE_SIGN = re.compile(r"[{};=<>\[\]]|\w\(|\)\s*$|^\s*(#|//|--|\$ )|\w\.\w+\(|\w_\w|^\s{4}\S", M)
SENTENCE = re.compile(r"(?<![A-Za-z'])[A-Za-z][a-z']+(?:[ ,;:-]+[A-Za-z'()]+){5,}")
SENTENCE_END = re.compile(r"[a-z)][.!?](\s|$)")
SHOWN_CHARACTERS = 4_000  # enough to tell; some signs take quadratic time on endless words
PARSED_CHARACTERS = 200_000  # beyond that ast.parse takes seconds and gigabytes
TALK = re.compile(r"([A-Z][a-z']*[,:]?|`+[^`]+`+)( \S+){4,}")  # how an answer in words begins


def language_of(example: Example) -> str:
    """What a row says of itself, else what its instruction names, else what its answer shows."""
    if example.language:
        return example.language.strip().lower()
    named = {
        ALIASES.get(token, token)
        for token in CODE_TOKEN.findall(example.instruction.lower())
        if token in LANGUAGES or token in ALIASES
    }
    shown = detect(example.output)
    if len(named) == 1 and not is_prose(example.output):
        (name,) = named
        # "c" may be a letter, HTML or SQL what a program in another language works on, and Python
        # what was to be translated.
        other = name in {"c", "html", "sql"} or (name == "python" and not parses(example.output))
        return shown if shown and other else name
    return shown


def detect(text: str) -> str:
    """The language of a piece of code by the signs near its beginning, or ""."""
    if is_prose(text):
        return ""
    head = text[:SHOWN_CHARACTERS]
    if PYTHON.search(head) and parses(text):
        return "python"
    for language, sign in SIGNS.items():
        if sign.search(head):
            return language
    return "python" if BROKEN_PYTHON.search(head) else ""


def is_code(text: str) -> bool:
    """Whether an answer is code from its first line on, not words about code."""
    first = text.strip().split("\n", 1)[0]
    comment = first.startswith(("#", "//", "/*", "--"))
    return bool(CODE_SIGN.search(text)) and (comment or not TALK.match(first))


def parses(text: str) -> bool:
    """Whether it is the text of a Python program, of a size that an answer may have."""
    if len(text) > PARSED_CHARACTERS:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes, which are the row's own business
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def is_prose(text: str) -> bool:
    """Sentences and nothing that looks like code; a few words, or a number, are not prose."""
    return bool(SENTENCE.search(text) and SENTENCE_END.search(text) and not CODE_SIGN.search(text))
