"""Escape untrusted text for Markdown, so that it creates no heading, link or HTML.

Instructions, file names and languages come from a teacher, a user or the Hub. Templates print
them through `inline` by default. The other functions return `Markdown`, which is printed unchanged.
"""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from collections.abc import Iterable
from urllib.parse import quote

LINK = re.compile(r"(?i)(?<=:)//|(?<=\bwww)\.|(?<=\w)@(?=\w)")  # what GitHub turns into links
SPECIAL = re.compile(r"[\\`*\[\]~#$!]|(?<!\w)_|_(?!\w)")
HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}
BIDIRECTIONAL = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Markdown(str):
    """Text that is Markdown already: from a template, or escaped by this module."""

    __slots__ = ()


def finalize(value: object) -> object:
    """Return what Jinja prints for an expression: Markdown unchanged, anything else escaped."""
    return value if isinstance(value, Markdown) else inline(value)


def inline(value: object) -> Markdown:
    """Return text for a line, a heading or a table cell."""
    text = re.sub(r"\s+", " ", visible(str(value)))  # spaces at the ends are kept
    text = SPECIAL.sub(r"\\\g<0>", text)
    text = "".join(HTML.get(letter, letter) for letter in text)
    return Markdown(LINK.sub(lambda found: "".join(f"&#{ord(c)};" for c in found[0]), text))


def code(value: object) -> Markdown:
    """Return a code span, with longer delimiters if the text contains backticks."""
    text = one_line(value)
    if not text:
        return Markdown("(empty)")
    marks = "`" * (_longest_run(text) + 1)
    space = " " if text[0] in "` " or text[-1] in "` " else ""
    return Markdown(f"{marks}{space}{text}{space}{marks}")


def codes(values: Iterable[object]) -> Markdown:
    """Return code spans separated by commas."""
    return Markdown(", ".join(map(code, values)))


def cell(value: object) -> Markdown:
    """Return a code span for a table, or escaped text if a bar would end the cell."""
    return inline(value) if "|" in str(value) else code(value)


def block(text: object, language: str = "text") -> Markdown:
    """Return a fenced code block, its fence longer than any run of backticks in the text."""
    content = visible(str(text))
    fence = "`" * max(3, _longest_run(content) + 1)
    return Markdown(f"{fence}{language}\n{content}\n{fence}")


def shell(value: object) -> Markdown:
    """Return one word of a shell command, quoted if necessary."""
    return Markdown(shlex.quote(one_line(value)))


def url(value: object) -> Markdown:
    """Return an address for the parentheses of a link."""
    return Markdown(quote(one_line(value), safe="/:@=+,~"))


def python(value: object) -> Markdown:
    """Return a Python string literal."""
    return Markdown(json.dumps(visible(str(value)), ensure_ascii=False))


def one_line(value: object) -> str:
    """Return text on one line, without control characters."""
    return " ".join(visible(str(value)).split())


def visible(text: str) -> str:
    """Replace characters that hide or reorder text, except tabs and line ends."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join("\N{REPLACEMENT CHARACTER}" if _hidden(letter) else letter for letter in text)


def _hidden(letter: str) -> bool:
    return letter in BIDIRECTIONAL or (
        unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\t\n"
    )


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
