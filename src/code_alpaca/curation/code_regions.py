"""Find the code in a text that mixes code and prose, and parse Python that anyone may have written.

`regions` reads what marks code as code: fences of backticks or tildes (indented, quoted, on one
line, longer than three, never closed), HTML and bracket tags, LaTeX environments, interactive
sessions and indented blocks. `python_trees` finds every Python function of a text, marked as
code or not. Neither raises for any text.
"""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Iterator
from typing import NamedTuple

OPENING = re.compile(
    r"^(?P<lead>(?:[ \t]|>|(?:[-*+]|\d{1,3}[.)])(?=[ \t]))*)(?P<mark>`{3,}|~{3,})"
    r"[ \t]*(?P<info>[^`\n]*)$"
)
LATE_OPENING = re.compile(r"^[^`]*[^`\s][ \t]*(?P<mark>```)(?P<info>[\w+#.-]*)[ \t]*$")
ONE_LINE = re.compile(
    r"```(?:[ \t]*(?P<info>[a-zA-Z][\w+#-]*)(?=[ \t]+[\w@#]))?[ \t]*(?P<code>[^`\n]+)```"
)
CODE_START = re.compile(r"(?:async |def |class |import |from |@|return |for |while |if |#)")
HEADER = re.compile(
    r"(?:async|def|class|for|while|if|elif|else|try|except|finally|with|match|case)\b.*[:,(]\s*$"
)
SESSION = re.compile(r"^[ \t]*(?:>>>|In \[\d+\]:)", re.MULTILINE)
TAGS = re.compile(
    r"<(?P<tag>pre|code|python|answer)\b(?P<attributes>[^>]*)>(?P<html>.*?)(?:</(?P=tag)>|\Z)"
    r"|\[(?P<bracket>PYTHON|CODE|python|code)(?:=\w+)?\](?P<text>.*?)(?:\[/(?P=bracket)\]|\Z)"
    r"|\\begin\{(?P<env>lstlisting|verbatim|minted|code)\}(?:\[[^]]*\])?(?:\{\w+\})?"
    r"(?P<tex>.*?)(?:\\end\{(?P=env)\}|\Z)",
    re.DOTALL,
)
INNER_TAG = re.compile(r"</?(?:code|span|pre|br)\b[^>]*>")
LANGUAGE_CLASS = re.compile(r"(?:language|lang)-?[=\"']*([\w+#]+)")


class CodeRegion(NamedTuple):
    """A piece of a text that is marked as code."""

    kind: str  # fence, line, tag, session or indented
    language: str  # as the mark names it, in lower case; "" where it names none
    code: str


def normalize_newlines(text: str) -> str:
    """Return the text with line feeds only, and without a byte-order mark."""
    return text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")


def find_code_regions(text: str) -> list[CodeRegion]:
    """Return the code regions of a text in order of appearance, without common indentation.

    Indented blocks count only outside of the others. A fence that is never closed ends with the
    text. An empty list means that nothing is marked: the text may still be code as it stands.
    """
    found: list[CodeRegion] = []
    prose: list[str] = []
    lines = normalize_newlines(text).split("\n")
    at = 0
    while at < len(lines):
        opening = OPENING.match(lines[at]) or LATE_OPENING.match(lines[at])
        if opening is None:
            prose.append(lines[at])
            at += 1
            continue
        found += _outside(prose)
        prose = []
        region, at = _fenced(lines, at, opening)
        found.append(region)
    found += _outside(prose)
    return [_without_prompts(region) for region in found if region.code.strip()]


# -- regions -------------------------------------------------------------------------------------


def _fenced(lines: list[str], at: int, opening: re.Match[str]) -> tuple[CodeRegion, int]:
    """The region that opens at line `at`, and the number of the line after it."""
    mark, info = opening["mark"], opening["info"].strip()
    lead = opening.groupdict().get("lead") or ""
    closing = re.compile(rf"^[ \t]*{mark[0]}{{{len(mark)},}}[ \t]*$")
    words = info.replace("{", " ").replace("}", " ").split()
    language = words[0].lstrip(".").lower() if words else ""
    body: list[str] = []
    if CODE_START.match(info):
        language, body = "", [info]
    elif len(words) > 1 and CODE_START.match(rest := info.split(None, 1)[1]):
        body = [rest]
    quoted = ">" in lead
    for number in range(at + 1, len(lines)):
        line = re.sub(r"^[ \t]*>[ \t]?", "", lines[number]) if quoted else lines[number]
        indent = len(line) - len(line.lstrip(" \t"))
        if closing.match(line) and indent < len(lead.expandtabs(4)) + 4:
            return CodeRegion("fence", language, _dedented(body)), number + 1
        again = OPENING.match(line)
        if again and again["info"] and again["mark"] == mark and indent <= len(lead):
            return CodeRegion("fence", language, _dedented(body)), number  # the last was not closed
        if mark == "```" and line.endswith(mark) and line.count(mark) == 1 and line.strip() != mark:
            body.append(line[: -len(mark)])
            return CodeRegion("fence", language, _dedented(body)), number + 1
        body.append(line)
    return CodeRegion("fence", language, _dedented(body)), len(lines)


def _outside(lines: list[str]) -> Iterator[CodeRegion]:
    """Regions of the lines between two fences."""
    text = "\n".join(lines)
    if not text.strip():
        return
    for match in ONE_LINE.finditer(text):
        yield CodeRegion("line", (match["info"] or "").lower(), match["code"].strip())
    for match in TAGS.finditer(text):
        if match["tag"]:
            named = LANGUAGE_CLASS.search(match["attributes"]) or LANGUAGE_CLASS.search(
                match["html"][:80]
            )
            code = html.unescape(INNER_TAG.sub("", match["html"]))
            yield CodeRegion("tag", named[1].lower() if named else "", _dedented(code.split("\n")))
        else:
            code = match["text"] or match["tex"] or ""
            yield CodeRegion("tag", "", _dedented(code.split("\n")))
    text = TAGS.sub("\n", text)
    if (session := SESSION.search(text)) is not None:
        yield CodeRegion("session", "python", text[session.start() :])
    yield from _indented(text.split("\n"))


def _indented(lines: list[str]) -> Iterator[CodeRegion]:
    """Indented runs of lines after prose, a heading or nothing; the body of a block is none."""
    block: list[str] = []
    before = last = ""
    for line in [*lines, "."]:
        blank = not line.strip()
        starts = not before.strip() or before.rstrip().endswith(":")
        starts = starts and not last.startswith((" ", "\t")) and not HEADER.match(last)
        if (block and blank) or (line.startswith(("    ", "\t")) and (block or starts)):
            block.append(line)
        else:
            if block:
                yield CodeRegion("indented", "", _dedented(block))
            block = []
        before, last = line, last if blank else line


def _dedented(lines: list[str]) -> str:
    return textwrap.dedent("\n".join(lines)).strip("\n") + "\n"


def _without_prompts(region: CodeRegion) -> CodeRegion:
    """An interactive session as the code that was typed; any other region as it is."""
    if not SESSION.search(region.code):
        return region
    first = next((line for line in region.code.split("\n") if line.strip()), "")
    if not SESSION.match(first):
        return region  # examples in a docstring or after the code
    typed = []
    for line in region.code.split("\n"):
        prompt = re.match(r"[ \t]*(?:>>>|\.\.\.|In \[\d+\]:)(?: |$)", line)
        if prompt:
            typed.append(line[prompt.end() :])
    return CodeRegion("session", "python", "\n".join(typed) + "\n")
