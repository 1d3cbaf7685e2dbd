"""Highlight code with Pygments, as run lengths that a page can apply to plain text.

A model wrote the text, so it is never turned into HTML. `highlight` returns a string like "4k1-5f":
four characters of a keyword, one plain character, five of a function name.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from code_alpaca.core import languages

if TYPE_CHECKING:
    from pygments.lexer import Lexer

PLAIN = "-"
FENCE = re.compile(
    r"^(```+|~~~+)[ \t]*([\w+#.-]*)[^\n]*\n(.*?)^\1[ \t]*$", re.DOTALL | re.MULTILINE
)
CODE = re.compile(r"[{}()\[\];=<>#]|^[ \t]+\S", re.MULTILINE)


def highlight(text: str, language: str) -> str:
    """Return the runs of token kinds in a text, or "" if nothing is highlighted.

    If the text has fenced code blocks, only those are highlighted; a text without any is read as
    `language` unless it looks like prose. Lengths are in UTF-16 code units, as JavaScript counts.
    """
    runs: list[list[Any]] = []
    for segment, lexer in _segments(text, language):
        tokens = lexer.get_tokens_unprocessed(segment) if lexer else [(0, None, segment)]
        for _, token, value in tokens:
            kind = _kind(token)
            length = len(value.encode("utf-16-le", "surrogatepass")) // 2
            if runs and (runs[-1][1] == kind or value.isspace()):
                runs[-1][0] += length
            else:
                runs.append([length, kind])
    if all(kind == PLAIN for _, kind in runs):
        return ""
    return "".join(f"{length}{kind}" for length, kind in runs)


def _segments(text: str, language: str) -> Iterator[tuple[str, Lexer | None]]:
    end = 0
    for fence in FENCE.finditer(text):
        yield text[end : fence.start(3)], None
        yield fence[3], _find_lexer(fence[2] or language)
        end = fence.end(3)
    is_prose = text[:1].isupper() and text.rstrip().endswith((".", "?", "!", ":"))
    is_code = not end and not is_prose and CODE.search(text)
    yield text[end:], _find_lexer(language) if is_code else None


def _find_lexer(name: str) -> Lexer | None:
    """Return the lexer of a language; None if the table has none that is fast on any text."""
    language = languages.find(name)
    return _lexer(language.lexer) if language and language.lexer else None


@functools.cache
def _lexer(name: str) -> Lexer:
    from pygments.lexers import get_lexer_by_name

    return get_lexer_by_name(name)


@functools.cache
def _kinds() -> dict[Any, str]:
    """Return the token types that have a color, with the letter of each (see page.css)."""
    from pygments.token import Comment, Keyword, Name, Number, Operator, String

    return {
        Comment: "c",
        Keyword: "k",
        Operator.Word: "k",
        Name.Tag: "k",
        Name.Function: "f",
        Name.Class: "f",
        Name.Attribute: "f",
        Name.Decorator: "f",
        Name.Builtin: "b",
        Name.Exception: "b",
        Name.Variable: "b",
        Number: "n",
        String: "s",
    }


@functools.cache
def _kind(token: Any) -> str:
    """Return the letter of a token type or of its nearest ancestor that has one."""
    while token is not None:
        if token in _kinds():
            return _kinds()[token]
        token = token.parent
    return PLAIN
