"""Filters of the code in an output: truncated, in another language, or not valid Python."""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from functools import lru_cache

from code_alpaca.core.schema import Example
from code_alpaca.curation.code_regions import find_fenced_code
from code_alpaca.curation.language_detection import (
    HEAD_CHARACTERS,
    PYTHON,
    contains_sentences,
    detect_language,
    detect_text_language,
    extract_programs,
    find_code_blocks,
    is_code,
    is_valid_python,
)

# Strings and comments; an apostrophe inside a word, as in prose, opens no string.
QUOTED = re.compile(
    r"\"(\\.|[^\"\n\\])*\"|(?<!\w)(?:[bLuU]|u8)?'(\\.|[^'\n\\])*'|`[^`]*`|//[^\n]*|"
    r"/\*[\s\S]*?(?:\*/|\Z)"
)
BRACKETS = ("()", "[]", "{}")
# Messages of CPython's parser, and what a text that causes them ends inside.
OPEN_ENDS = {
    "was never closed": "a bracket", "unterminated": "a string", "unexpected EOF": "a statement"
}  # fmt: skip
ONLY_PYTHON = re.compile(r"^\s*(def \w+\([^)]*\)\s*(->.*)?:$|from [\w.]+ import \w)", re.MULTILINE)


def unbalanced_fence(example: Example) -> bool:
    """Drop an output whose last code block is never closed and incomplete: it was truncated."""
    blocks = find_fenced_code(example.output)
    if not blocks or blocks[-1].closed or is_valid_python(example.output):
        return True
    code = blocks[-1].code
    if (blocks[-1].language or detect_text_language(code)) == "python":
        return is_valid_python(code) and bool(code.strip())
    bare = QUOTED.sub("", code)
    is_balanced = all(bare.count(left) == bare.count(right) for left, right in BRACKETS)
    return is_balanced and bool(code.strip())


def cut_off(example: Example) -> bool:
    """Drop an output that ends inside a string or a bracket."""
    return not find_open_end(example)


def find_open_end(example: Example) -> str:
    """Return what the code in an output ends inside: "a bracket", ...; "" if it is complete."""
    language = detect_language(example)
    programs = extract_programs(example.output, language)
    text = programs[0].rstrip() if programs else ""
    if not is_code(text):
        return ""
    if language == "python":
        open_end = _find_python_open_end(text)
        return "" if open_end and contains_sentences(text) else open_end
    bare = QUOTED.sub("", text)
    return "a bracket" if bare.count("{") > bare.count("}") else ""


def wrong_language(example: Example) -> bool:
    """Drop a row whose output is in another language than the row declares or names."""
    return _find_language_fault(example) != "wrong_language"


def syntax_error(example: Example) -> bool:
    """Drop a Python row whose output does not parse."""
    return _find_language_fault(example) != "syntax_error"


def _find_language_fault(example: Example) -> str:
    return _check_language(detect_language(example), example.output, bool(example.language))


@lru_cache(maxsize=16)  # two filters use the result
def _check_language(language: str, output: str, is_declared: bool) -> str:
    """Return "wrong_language", "syntax_error" or "".

    Python is checked with its parser. Other languages are not compared with each other: in a few
    lines their patterns are unreliable, and on real rows they dropped valid Swift, Java and PHP and
    no bad row. Code in fences is checked alone; without a fence, code between sentences is not.
    """
    programs = [program for program in extract_programs(output, language) if is_code(program)]
    if language == "python":
        if not programs:
            other = {block.language for block in find_code_blocks(output)} - {"", "python"}
            return "wrong_language" if is_declared and other else ""
        if any(_parses(program) or contains_sentences(program) for program in programs):
            return ""
        if detect_text_language(output) not in ("", "python"):
            return "wrong_language"
        # Without any sign of Python it is a formula, a result, or something else.
        has_python = any(PYTHON.search(program[:HEAD_CHARACTERS]) for program in programs)
        return "syntax_error" if has_python else ""
    if not language:
        return ""
    programs = programs or [block.code for block in find_code_blocks(output)]
    is_python = any(ONLY_PYTHON.search(code) and is_valid_python(code) for code in programs)
    return "wrong_language" if is_python else ""


def _parses(code: str) -> bool:
    """Return whether a text is Python, perhaps indented or a header without its body."""
    return any(map(is_valid_python, (code, textwrap.dedent(code), code.rstrip() + " pass")))


def _find_python_open_end(text: str) -> str:
    with warnings.catch_warnings(action="ignore"):
        try:
            ast.parse(text)
        except SyntaxError as error:
            kinds = (kind for message, kind in OPEN_ENDS.items() if message in str(error.msg))
            return next(kinds, "")
        except (ValueError, RecursionError, MemoryError):
            pass
    return ""
