"""Find the code in a text that mixes code and prose. Never raises.

`find_code_regions` returns everything that is marked as code: fences of backticks or tildes
(indented, quoted, in a list, on one line, never closed), HTML and bracket tags, LaTeX environments,
interactive sessions and indented blocks. `find_fenced_code` returns the fences alone.
"""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Iterator
from typing import NamedTuple

from code_alpaca.core import languages

# https://spec.commonmark.org/0.31.2/#fenced-code-blocks, at any indentation.
OPENING = re.compile(
    r"^(?P<lead>(?:[ \t]|>|(?:[-*+]|\d{1,3}[.)])(?=[ \t]))*)(?P<fence>`{3,}|~{3,})"
    r"[ \t]*(?P<info>[^`\n]*)$"
)
# A fence after a sentence on the same line.
LATE_OPENING = re.compile(r"^[^`]*[^`\s][ \t]*(?P<fence>```)(?P<info>[\w+#.-]*)[ \t]*$")
ONE_LINE = re.compile(r"```[ \t]*(?P<code>[^`\n]+)```")
# `python print(1)`, but not `c = 1`.
FIRST_WORD = re.compile(r"(?P<word>[a-zA-Z][\w+#-]*)[ \t]+(?P<rest>(?:[\w@#$\"'(\[{]|<[\w!/?]).*)")
QUOTE = re.compile(r"^[ \t]*>[ \t]?")
CODE_START = re.compile(r"(?:async |def |class |import |from |@|return |for |while |if |#)")
BLOCK_HEADER = re.compile(
    r"(?:async|def|class|for|while|if|elif|else|try|except|finally|with|match|case)\b.*[:,(]\s*$"
)
SESSION = re.compile(r"^[ \t]*(?:>>>|In \[\d+\]:)", re.MULTILINE)
PROMPT = re.compile(r"[ \t]*(?:>>>|\.\.\.|In \[\d+\]:)(?: |$)")
MARKUP = re.compile(
    r"<(?P<element>pre|code|python|answer)\b(?P<attributes>[^>]*)>(?P<html>.*?)"
    r"(?:</(?P=element)>|\Z)"
    r"|\[(?P<bracket>PYTHON|CODE|python|code)(?:=\w+)?\](?P<text>.*?)(?:\[/(?P=bracket)\]|\Z)"
    r"|\\begin\{(?P<env>lstlisting|verbatim|minted|code)\}(?:\[[^]]*\])?(?:\{\w+\})?"
    r"(?P<tex>.*?)(?:\\end\{(?P=env)\}|\Z)",
    re.DOTALL,
)
INNER_ELEMENT = re.compile(r"</?(?:code|span|pre|br)\b[^>]*>")
LANGUAGE_CLASS = re.compile(r"(?:language|lang)-?[=\"']*([\w+#]+)")


class CodeRegion(NamedTuple):
    """A piece of code in a text."""

    kind: str  # fence, line (a fence on one line), tag, session or indented
    tag: str  # the word after the fence or the HTML class, in lower case; may be empty
    code: str
    closed: bool = True  # False for a fence that ends with the text or at the next opening fence

    @property
    def language(self) -> str:
        """The programming language that the tag names, or ""."""
        return languages.fence_language(self.tag)


def find_code_regions(text: str) -> list[CodeRegion]:
    """Return the code regions of a text in order, without the prompts of interactive sessions.

    Indented blocks count only outside of other regions.
    """
    regions: list[CodeRegion] = []
    for prose, fence in _split_at_fences(text):
        regions += [*_find_unfenced(prose), *([fence] if fence else [])]
    return [_strip_prompts(region) for region in regions if region.code.strip()]


def find_fenced_code(text: str) -> list[CodeRegion]:
    """Return the fences of a text in order, with empty ones and those that are a single line."""
    if "```" not in text and "~~~" not in text:
        return []
    regions: list[CodeRegion] = []
    for prose, fence in _split_at_fences(text):
        matches = (ONE_LINE.fullmatch(line.strip()) for line in prose)
        regions += [_one_line_region(match["code"]) for match in matches if match]
        regions += [fence] if fence else []
    return regions


def normalize_newlines(text: str) -> str:
    """Return the text with line feeds only, and without a byte-order mark."""
    return text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")


def _split_at_fences(text: str) -> Iterator[tuple[list[str], CodeRegion | None]]:
    """Yield the lines before each fence with the fence; at the end the remaining lines and None."""
    prose: list[str] = []
    lines = normalize_newlines(text).split("\n")
    index = 0
    while index < len(lines):
        opening = OPENING.match(lines[index]) or LATE_OPENING.match(lines[index])
        if opening is None:
            prose.append(lines[index])
            index += 1
            continue
        fence, index = _read_fence(lines, index, opening)
        yield prose, fence
        prose = []
    yield prose, None


def _read_fence(lines: list[str], index: int, opening: re.Match[str]) -> tuple[CodeRegion, int]:
    """Return the fence that opens at line `index`, and the index of the line after it."""
    fence, info = opening["fence"], opening["info"].strip()
    lead = opening.groupdict().get("lead") or ""
    closing = re.compile(rf"^[ \t]*{fence[0]}{{{len(fence)},}}[ \t]*$")
    words = info.replace("{", " ").replace("}", " ").split()
    tag = words[0].lstrip(".").lower() if words else ""
    body: list[str] = []
    if CODE_START.match(info):
        tag, body = "", [info]
    elif len(words) > 1 and CODE_START.match(rest := info.split(None, 1)[1]):
        body = [rest]
    for number in range(index + 1, len(lines)):
        line = QUOTE.sub("", lines[number]) if ">" in lead else lines[number]
        indent = len(line) - len(line.lstrip(" \t"))
        if closing.match(line) and indent < len(lead.expandtabs(4)) + 4:
            return CodeRegion("fence", tag, _dedent(body)), number + 1
        reopening = OPENING.match(line)
        is_next = reopening and reopening["info"] and reopening["fence"] == fence
        if is_next and indent <= len(lead):
            return CodeRegion("fence", tag, _dedent(body), closed=False), number
        ends = fence == "```" and line.endswith(fence) and line.count(fence) == 1
        if ends and line.strip() != fence:  # code and the closing fence on one line
            body.append(line[: -len(fence)])
            return CodeRegion("fence", tag, _dedent(body)), number + 1
        body.append(line)
    while body and not body[-1].strip():
        body.pop()
    closed = bool(body and closing.match(body[-1]))  # indented too far, but the end of the text
    return CodeRegion("fence", tag, _dedent(body[:-1] if closed else body), closed), len(lines)


def _find_unfenced(lines: list[str]) -> Iterator[CodeRegion]:
    """Yield the regions in lines between two fences."""
    text = "\n".join(lines)
    if not text.strip():
        return
    for match in ONE_LINE.finditer(text):
        yield _one_line_region(match["code"])
    for match in MARKUP.finditer(text):
        named, code = None, match["text"] or match["tex"] or ""
        if match["element"]:
            search = LANGUAGE_CLASS.search
            named = search(match["attributes"]) or search(match["html"][:80])
            code = html.unescape(INNER_ELEMENT.sub("", match["html"]))
        yield CodeRegion("tag", named[1].lower() if named else "", _dedent(code.split("\n")))
    text = MARKUP.sub("\n", text)
    if (session := SESSION.search(text)) is not None:
        yield CodeRegion("session", "python", text[session.start() :])
    yield from _find_indented(text.split("\n"))


def _one_line_region(content: str) -> CodeRegion:
    """Return the region of ```python print(1)``` or ```print(1)```: the first word may be code."""
    match = FIRST_WORD.match(content)
    if match and (languages.find(match["word"]) or match["word"].lower() in languages.TEXT_TAGS):
        return CodeRegion("line", match["word"].lower(), match["rest"].strip())
    return CodeRegion("line", "", content.strip())


def _find_indented(lines: list[str]) -> Iterator[CodeRegion]:
    """Yield indented blocks that follow prose or an empty line, not those inside a code block."""
    block: list[str] = []
    before = last = ""
    for line in [*lines, "."]:
        blank = not line.strip()
        starts = not before.strip() or before.rstrip().endswith(":")
        starts = starts and not last.startswith((" ", "\t")) and not BLOCK_HEADER.match(last)
        if (block and blank) or (line.startswith(("    ", "\t")) and (block or starts)):
            block.append(line)
        else:
            if block:
                yield CodeRegion("indented", "", _dedent(block))
            block = []
        before, last = line, last if blank else line


def _dedent(lines: list[str]) -> str:
    return textwrap.dedent("\n".join(lines)).strip("\n") + "\n"


def _strip_prompts(region: CodeRegion) -> CodeRegion:
    """Return an interactive session as the code that was typed, any other region unchanged."""
    lines = region.code.split("\n")
    first = next((line for line in lines if line.strip()), "")
    if not SESSION.match(first):
        return region  # no session, or examples in a docstring or after the code
    prompts = [(line, PROMPT.match(line)) for line in lines]
    typed = [line[prompt.end() :] for line, prompt in prompts if prompt]
    return CodeRegion("session", "python", "\n".join(typed) + "\n")
