"""Detect the programming language of a row, and distinguish code from prose.

Detection relies on a few strong patterns; no row is dropped because none matches. Only Python is
checked with a parser.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import takewhile

from code_alpaca.core import languages
from code_alpaca.core.schema import Example, SeedTask
from code_alpaca.curation.code_regions import CodeRegion, find_fenced_code
from code_alpaca.curation.novelty.measures import CODE_TOKEN
from code_alpaca.curation.python_parsing import parse_python

M = re.MULTILINE
# In the order in which they are tried: the first that matches decides.
LANGUAGE_PATTERNS = {
    "php": r"(?s)<\?php|^\s*\$\w+\s*=.*;\s*$.*^\s*echo\b",
    "html": r"(?i)<!doctype html|<(html|head|body|div|table|form|ul|p|h1|a|span)\b[^>]*>",
    "sql": r"(?is)^\s*(SELECT\b.+\bFROM\b|INSERT\s+INTO\b|UPDATE\s+\w+\s+SET\b|DELETE\s+FROM\b|"
    r"(CREATE|ALTER|DROP)\s+(TABLE|DATABASE|INDEX|VIEW|PROCEDURE|TRIGGER)\b)",
    "c#": r"^\s*using System\b|Console\.Write|\bnamespace \w+\s*\{|string\[\] args",
    "java": r"System\.out\.print|\bpublic (static|class|void|interface)\b|^import java",
    "c++": r"#include\s*<(iostream|vector|string|map|algorithm|bits)|\bstd::|\bcout\s*<<",
    "c": r"#include\s*<\w+\.h>|\bprintf\s*\(.*\);|\bscanf\s*\(|"
    r"^\s*(int|void|char|float|double|struct \w+)\s*\*?\s*\w+\s*\([^)]*\)\s*\{",
    "go": r"^package \w+|\bfunc (\(\w+ \*?\w+\) )?\w+\(|\bfmt\.Print",
    "rust": r"\bfn \w+(<[^>]*>)?\(|\blet mut \w+|println!\(",
    "kotlin": r"\bfun \w+\(|\bval \w+\s*[:=]",
    "swift": r"\bfunc \w+\(.*\)\s*(->\s*\w+\s*)?\{|^import (UIKit|SwiftUI|Foundation)",
    "ruby": r"^\s*(def \w+[^:\n]*$|puts |require ['\"])|\.each do \|",
    "javascript": r"\bconsole\.log\(|\bfunction\s*\w*\s*\([^)]*\)\s*\{|"
    r"\b(const|let|var) \w+\s*=|=>\s*[{(\w]|\bdocument\.|\brequire\(",
    "css": r"^\s*[.#@]?[\w-]+[^{}\n;]*\{\s*[\w-]+\s*:[^{}]+;?\s*\}",
    "bash": r"^#!/bin/(ba)?sh|^\s*(sudo|apt-get|chmod|mkdir|grep|awk|sed|echo|cd|ls|find|curl|git|"
    r"docker|npm|pip) [^.]*$",
    "r": r"\b\w+ <- |\blibrary\(\w+\)",
}
COMPILED_PATTERNS = {name: re.compile(text, M) for name, text in LANGUAGE_PATTERNS.items()}
PYTHON = re.compile(
    r"(?m)^\s*(def \w+\(.*\).*:|class \w+.*:|import \w+|from [\w.]+ import|for .+ in .+:|while .+:|"
    r"if .+:|elif .+:|else:|try:|with .+:|@\w+|print\s?\(|return\b|\w+ = |\w+\s*\+= )|"
    r"\b(print|len|range|sorted|input)\(|\w\[.*:.*\]|\blambda \w+:"
)
BROKEN_PYTHON = re.compile(  # what is only Python, for text that does not parse
    r"(?m)^\s*(def \w+\(.*\)\s*(->.*)?:|import \w+( as \w+)?$|from [\w.]+ import \w|"
    r"for .+ in .+:$|while .+:$|elif .+:$|if .+:$|print\s?\(.*\)$)"
)
CODE_SIGN = re.compile(r"[{};=<>\[\]]|\w\(|\)\s*$|^\s*(#|//|--|\$ )|\w\.\w+\(|\w_\w|^\s{4}\S", M)
SENTENCE = re.compile(r"(?<![A-Za-z'])[A-Za-z][a-z']+(?:[ ,;:-]+[A-Za-z'()]+){5,}")
SENTENCE_END = re.compile(r"[a-z)][.!?](\s|$)")
HEAD_CHARACTERS = 4_000  # enough to detect; some patterns take quadratic time on endless words
APOSTROPHES = "'\u2019"
# The first line of an answer in prose: a few words, or a line that introduces what follows.
INTRODUCTION = re.compile(
    rf"([A-Z][a-z{APOSTROPHES}]*[,:]?|`+[^`]+`+)( \S+){{4,}}|[A-Z][\w{APOSTROPHES}, -]*:\s*$"
)
COMPLEXITY = re.compile(r"[O\u0398\u03a9\u03b8]\([^()\n]*(\([^()\n]*\)[^()\n]*)*\)(?=[.,;:\s]|$)")
LIST_MARK = re.compile(r"^\s*(?:\d{1,3}[.)]|[-*\u2022])\s+")
COMMENT_LINE = re.compile(r"^\s*(#|//|/\*|\*|--|;|%|<)")
LONG_STRING = re.compile(r'"""[\s\S]*?("""|\Z)|\'\'\'[\s\S]*?(\'\'\'|\Z)')
OUTPUT_HEADING = re.compile(r"^\W*(?:(?:sample|expected|example) )?output\b[^\n]{0,20}$", re.I)
PLAIN_WORD = re.compile(rf"[\"(]*[A-Za-z][a-z{APOSTROPHES}-]*[\")]*[,.;:!?]*")
MIN_SENTENCE_WORDS = 6
SESSION_LINE = re.compile(r"^[ \t]*(?:>>>|\.\.\.)(?: (.*))?$", M)


def detect_language(row: Example | SeedTask) -> str:
    """Return the language of a row by its name in `core.languages`, or "" if none is detected."""
    return languages.canonical(label_language(row))


def label_language(row: Example | SeedTask) -> str:
    """Return the language to record for a row, in lower case, or "" if none is detected.

    That is the value of its column `language`, or the one language that its instruction names, as
    it is written there ("shell", not "bash"), or the detected language of its output.
    """
    if row.language:
        return row.language.strip().lower()
    named = {
        token if token in languages.NAMES else languages.PROSE_NAMES[token]
        for token in CODE_TOKEN.findall(row.instruction.lower())
        if token in languages.PROSE_NAMES
    }
    detected = detect_text_language(row.output)
    if len(named) == 1 and not is_prose(row.output):
        (name,) = named
        # "c" may be a letter; HTML and SQL may be data for a program in another language; Python
        # may be the source of a translation.
        parsed = any(map(is_valid_python, extract_programs(row.output, "python")))
        uncertain = name in {"c", "html", "sql"} or (name == "python" and not parsed)
        return detected if detected and uncertain else name
    return detected


def detect_text_language(text: str) -> str:
    """Return the language of an answer by its fences or by patterns in its first lines, or ""."""
    if is_prose(text):
        return ""
    if blocks := find_code_blocks(text):
        main = max(blocks, key=lambda block: len(block.code))
        return main.language or detect_text_language(main.code)
    head = text[:HEAD_CHARACTERS]
    if PYTHON.search(head) and is_valid_python(text):
        return "python"
    for language, pattern in COMPILED_PATTERNS.items():
        if pattern.search(head):
            return language
    return "python" if BROKEN_PYTHON.search(head) else ""


def find_code_blocks(text: str) -> list[CodeRegion]:
    """Return the fenced blocks of an answer that may contain code; none if all of it is Python."""
    blocks = find_fenced_code(text)
    if not blocks or is_valid_python(text):
        return []
    return [b for b in blocks if b.tag not in languages.TEXT_TAGS and b.code.strip()]


def extract_programs(text: str, language: str) -> list[str]:
    """Return the programs in a language that an answer contains, the best candidate first.

    Without fences that is the answer, or what was typed in an interactive session. With fences it
    is all blocks of the language joined, then the longest of them.
    """
    blocks = find_code_blocks(text)
    if blocks or (find_fenced_code(text) and not is_valid_python(text)):
        codes = [
            block.code.rstrip("\n")
            for block in blocks
            if not language or (block.language or detect_text_language(block.code)) == language
        ]
    else:
        codes = [text]
    if language == "python":
        codes = [_strip_session_prompts(code) for code in codes]
    return list(dict.fromkeys(["\n\n".join(codes), max(codes, key=len)])) if codes else []


def is_code(text: str) -> bool:
    """Return whether an answer is code from its first line on, not prose about code."""
    first = text.strip().split("\n", 1)[0]
    is_comment = first.startswith(("#", "//", "/*", "--"))
    is_text = INTRODUCTION.match(first) or COMPLEXITY.match(first)
    return bool(CODE_SIGN.search(text)) and (is_comment or not is_text)


def is_prose(text: str) -> bool:
    """Return whether a text is sentences without code; a few words or a number are not prose."""
    return bool(
        SENTENCE.search(text)
        and SENTENCE_END.search(text)
        and not CODE_SIGN.search(text)
        and not any(block.code.strip() for block in find_fenced_code(text))
    )


def contains_sentences(text: str) -> bool:
    """Return whether code that does not parse contains prose, outside of comments and output."""
    lines = LONG_STRING.sub("", text).split("\n")
    before_output = takewhile(lambda line: not OUTPUT_HEADING.match(line), lines)
    return any(_is_sentence(line) and not COMMENT_LINE.match(line) for line in before_output)


@lru_cache(maxsize=64)
def is_valid_python(text: str) -> bool:
    """Return whether a text is a Python program, of a size that an answer may have."""
    return parse_python(text) is not None


def _strip_session_prompts(code: str) -> str:
    """Return what was typed in a `>>>` session; other code unchanged."""
    if ">>>" not in code or is_valid_python(code):
        return code
    return "\n".join(line or "" for line in SESSION_LINE.findall(code)) or code


def _is_sentence(line: str) -> bool:
    """Return whether a line is a sentence, a list item in words, or introduces what follows."""
    words = LIST_MARK.sub("", line).split()
    if len(words) < 3 or not words[0].strip("\"'`(*_")[:1].isupper():
        return False
    plain = sum(bool(PLAIN_WORD.fullmatch(word)) for word in words) / len(words)
    if LIST_MARK.match(line) or (words[-1].endswith(":") and plain == 1):
        return plain >= 0.6
    return len(words) >= MIN_SENTENCE_WORDS and plain >= 0.6 and words[-1][-1] in ".:!?)"
