"""Which programming language is this, and is it code at all? By signs, for rows that do not say.

Signs are few and strong: a text without any is of no language that we know, and nothing is
dropped for that. Python alone is asked of a parser.
"""

from __future__ import annotations

import ast
import re
import warnings
from functools import lru_cache

from code_alpaca.core import languages
from code_alpaca.core.schema import Example, SeedTask
from code_alpaca.curation.fences import TEXT_TAGS, Block, fenced_blocks
from code_alpaca.curation.novelty.measures import CODE_TOKEN

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
APOSTROPHES = "'\u2019"
# How an answer in words begins: a few words, or a line that introduces what follows.
TALK = re.compile(
    rf"([A-Z][a-z{APOSTROPHES}]*[,:]?|`+[^`]+`+)( \S+){{4,}}|[A-Z][\w{APOSTROPHES}, -]*:\s*$"
)
COMPLEXITY = re.compile(r"[O\u0398\u03a9\u03b8]\([^()\n]*(\([^()\n]*\)[^()\n]*)*\)(?=[.,;:\s]|$)")
LIST_MARK = re.compile(r"^\s*(?:\d{1,3}[.)]|[-*\u2022])\s+")
COMMENT_LINE = re.compile(r"^\s*(#|//|/\*|\*|--|;|%|<)")
LONG_STRING = re.compile(r'"""[\s\S]*?("""|\Z)|\'\'\'[\s\S]*?(\'\'\'|\Z)')
OUTPUT_HEADING = re.compile(r"^\W*(?:(?:sample|expected|example) )?output\b[^\n]{0,20}$", re.I)
PLAIN_WORD = re.compile(rf"[\"(]*[A-Za-z][a-z{APOSTROPHES}-]*[\")]*[,.;:!?]*")
MIN_SENTENCE_WORDS = 6
SESSION = re.compile(r"^[ \t]*(?:>>>|\.\.\.)(?: (.*))?$", M)


def detect_language(example: Example | SeedTask) -> str:
    """What a row says of itself, else what its instruction names, else what its answer shows."""
    if example.language:
        return languages.canonical(example.language)
    named = {
        languages.PROSE_NAMES[token]
        for token in CODE_TOKEN.findall(example.instruction.lower())
        if token in languages.PROSE_NAMES
    }
    shown = detect_text_language(example.output)
    if len(named) == 1 and not is_prose(example.output):
        (name,) = named
        # "c" may be a letter, HTML or SQL what a program in another language works on, and Python
        # what was to be translated.
        parsed = any(map(is_valid_python, extract_programs(example.output, "python")))
        other = name in {"c", "html", "sql"} or (name == "python" and not parsed)
        return shown if shown and other else name
    return shown


def detect_text_language(text: str) -> str:
    """The language of an answer by its fences, or by the signs near its beginning, or ""."""
    if is_prose(text):
        return ""
    if blocks := find_code_blocks(text):
        main = max(blocks, key=lambda block: len(block.code))
        return main.language or detect_text_language(main.code)
    head = text[:SHOWN_CHARACTERS]
    if PYTHON.search(head) and is_valid_python(text):
        return "python"
    for language, sign in SIGNS.items():
        if sign.search(head):
            return language
    return "python" if BROKEN_PYTHON.search(head) else ""


def find_code_blocks(text: str) -> list[Block]:
    """The fenced blocks of an answer that may hold code.

    A fence inside a program (in a docstring, say) is a part of it.
    """
    blocks = fenced_blocks(text)
    if not blocks or is_valid_python(text):
        return []
    return [block for block in blocks if block.tag not in TEXT_TAGS and block.code.strip()]


def extract_programs(text: str, language: str) -> list[str]:
    """The programs of a language that an answer holds: what it is judged by, the best first.

    Without fences that is the answer itself, or what was typed in an interactive session.
    With fences it is all blocks of the language one after the other, then the longest of them;
    a block counts where its fence names the language, or names none and it looks like it.
    """
    blocks = find_code_blocks(text)
    if blocks or (fenced_blocks(text) and not is_valid_python(text)):
        codes = [
            block.code
            for block in blocks
            if not language or (block.language or detect_text_language(block.code)) == language
        ]
    else:
        codes = [text]
    if language == "python":
        codes = [_typed(code) for code in codes]
    return list(dict.fromkeys(["\n\n".join(codes), max(codes, key=len)])) if codes else []


def _typed(code: str) -> str:
    """What was typed in a `>>>` session; any other code as it is."""
    if ">>>" not in code or is_valid_python(code):
        return code
    return "\n".join(line or "" for line in SESSION.findall(code)) or code


def is_code(text: str) -> bool:
    """Whether an answer is code from its first line on, not words about code."""
    first = text.strip().split("\n", 1)[0]
    comment = first.startswith(("#", "//", "/*", "--"))
    talk = TALK.match(first) or COMPLEXITY.match(first)
    return bool(CODE_SIGN.search(text)) and (comment or not talk)


def contains_sentences(text: str) -> bool:
    """Whether a text that is no Python program has sentences in it: code within words.

    Not those in comments and docstrings, nor output shown under a heading that says so.
    """
    shown = False
    for line in LONG_STRING.sub("", text).split("\n"):
        shown = shown or bool(OUTPUT_HEADING.match(line))
        if not shown and not COMMENT_LINE.match(line) and _is_sentence(line):
            return True
    return False


def _is_sentence(line: str) -> bool:
    """Whether a line is a sentence, an item of a list in words, or introduces what follows."""
    words = LIST_MARK.sub("", line).split()
    if len(words) < 3 or not words[0].strip("\"'`(*_")[:1].isupper():
        return False
    plain = sum(bool(PLAIN_WORD.fullmatch(word)) for word in words) / len(words)
    if LIST_MARK.match(line) or (words[-1].endswith(":") and plain == 1):
        return plain >= 0.6
    return len(words) >= MIN_SENTENCE_WORDS and plain >= 0.6 and words[-1][-1] in ".:!?)"


@lru_cache(maxsize=64)
def is_valid_python(text: str) -> bool:
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
    return bool(
        SENTENCE.search(text)
        and SENTENCE_END.search(text)
        and not CODE_SIGN.search(text)
        and not any(block.code.strip() for block in fenced_blocks(text))
    )
