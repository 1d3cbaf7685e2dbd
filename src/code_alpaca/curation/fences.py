"""Code blocks in Markdown: ``` or ~~~ fences, indented, within prose, or never closed."""

from __future__ import annotations

import re
import textwrap
from typing import NamedTuple

from code_alpaca.core.languages import fence_language

# A line that is a fence with its info string, in a list or a quotation too; or, as models write
# it, one behind a colon.
LEAD = r"(?P<lead>(?:[ \t]|>|(?:[-+]|\d{1,3}[.)])(?=[ \t]))*)"
OPENING = re.compile(
    rf"^{LEAD}(?P<fence>`{{3,}}|~{{3,}})[ \t]*(?P<info>[^`\n]*)$|"
    r"^.*:[ \t]*(?P<behind>`{3,})(?P<tag>[\w+#.-]*)[ \t]*$"
)
ONE_LINE = re.compile(r"^[ \t]*```(?:(?P<tag>[\w+#]+)[ \t]+)?(?P<code>[^`\n]+)```[ \t]*$")
QUOTE = re.compile(r"^[ \t]*>[ \t]?")
TAG = re.compile(r"[\w+#.-]+")
TEXT_TAGS = {"text", "txt", "plaintext", "plain", "output", "console", "markdown", "md", "diff",
             "csv", "log"}  # fmt: skip


class Block(NamedTuple):
    """One fenced block: its language ("" where the fence names none that is known) and text."""

    language: str
    tag: str
    code: str
    closed: bool


def fenced_blocks(text: str) -> list[Block]:
    """The fenced blocks of a Markdown text, in order.

    As https://spec.commonmark.org/0.31.2/#fenced-code-blocks has them, at any indentation.
    """
    blocks: list[Block] = []
    if "```" not in text and "~~~" not in text:
        return blocks
    fence, tag, quoted, lines = "", "", False, []
    for line in text.replace("\r\n", "\n").split("\n"):
        if not fence:
            if opening := OPENING.match(line):
                fence = opening["fence"] or opening["behind"]
                tag, lines = _tag(opening["info"] or opening["tag"] or ""), []
                quoted = ">" in (opening["lead"] or "")
            elif single := ONE_LINE.match(line):
                blocks.append(_on_one_line(single["tag"] or "", single["code"]))
            continue
        line = QUOTE.sub("", line) if quoted else line
        if (bare := line.strip()).startswith(fence) and not bare.strip(fence[0]):
            blocks.append(_block(tag, lines, closed=True))
            fence = ""
        else:
            lines.append(line)
    if fence:
        blocks.append(_block(tag, lines, closed=False))
    return blocks


def _tag(info: str) -> str:
    """The language word of an info string: `python`, `python title=x` and `{.python}` alike."""
    word = TAG.search(info.strip().lstrip("{").lstrip("."))
    return word[0].lower() if word else ""


def _on_one_line(first: str, rest: str) -> Block:
    """The block in ```python print(1)``` or ```print(1)```: its first word may be code."""
    block = _block(first.lower(), [rest], closed=True)
    return block if block.language or not first else _block("", [f"{first} {rest}"], closed=True)


def _block(tag: str, lines: list[str], *, closed: bool) -> Block:
    return Block(fence_language(tag), tag, textwrap.dedent("\n".join(lines)), closed)
