"""Find the code in a text that mixes code and prose, and parse Python that anyone may have written.

`regions` reads what marks code as code: fences of backticks or tildes (indented, quoted, on one
line, longer than three, never closed), HTML and bracket tags, LaTeX environments, interactive
sessions and indented blocks. `python_trees` finds every Python function of a text, marked as
code or not. Neither raises for any text.
"""

from __future__ import annotations

import ast
import html
import json
import re
import textwrap
import warnings
from collections.abc import Iterator
from typing import NamedTuple

LONGEST = 200_000  # characters that are parsed; the parser takes 100 times as much memory
LONGEST_FUNCTION = 20_000  # characters that are read of a function in a text that does not parse
RETRIES = 12  # shorter and shorter prefixes of broken code
NOT_PARSED = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)

OPENING = re.compile(
    r"^(?P<lead>(?:[ \t]|>|(?:[-*+]|\d{1,3}[.)])(?=[ \t]))*)(?P<mark>`{3,}|~{3,})"
    r"[ \t]*(?P<info>[^`\n]*)$"
)
LATE_OPENING = re.compile(r"^[^`]*[^`\s][ \t]*(?P<mark>```)(?P<info>[\w+#.-]*)[ \t]*$")
ONE_LINE = re.compile(
    r"```(?:[ \t]*(?P<info>[a-zA-Z][\w+#-]*)(?=[ \t]+[\w@#]))?[ \t]*(?P<code>[^`\n]+)```"
)
STARTS_CODE = re.compile(r"(?:async |def |class |import |from |@|return |for |while |if |#)")
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
DEFINITION = re.compile(r"^(?P<lead>[^\w\n\"']*)(?:async[ \t]+)?def[ \t]+\w+[ \t]*\(", re.MULTILINE)
DEFINES = re.compile(r"def[ \t]+\w+[ \t]*\(|\blambda\b")
IMPORT = re.compile(r"^[ \t]*(?:import|from) [\w., ]+(?: import [\w, ]+)?$", re.MULTILINE)
# A line number, or the sign of a comment, before every line.
LINE_MARK = re.compile(r"^[ \t]{0,8}(?:\d{1,4}[ \t]{0,4}[.:|)]|#+|//)(?:[ \t]|$)", re.MULTILINE)
STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
PRINT_STATEMENT = re.compile(r"^([ \t]*)print[ \t]+[^\s(=].*$", re.MULTILINE)
# What editors and web pages put in the place of ASCII.
SPACES = dict.fromkeys(map(ord, "\u00a0\u2002\u2003\u2007\u2009\u202f\u3000"), " ")
INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u200c\u200d\u2060"))
QUOTES = str.maketrans(
    "\u2018\u2019\u201c\u201d\uff02\uff07\uff08\uff09\uff0c\uff1a", "''\"\"\"'(),:"
)


class Region(NamedTuple):
    """A piece of a text that is marked as code."""

    kind: str  # fence, line, tag, session or indented
    language: str  # as the mark names it, in lower case; "" where it names none
    code: str


def normal_newlines(text: str) -> str:
    """Return the text with line feeds only, and without a byte-order mark."""
    return text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")


def regions(text: str) -> list[Region]:
    """Return the code regions of a text in order of appearance, without common indentation.

    Indented blocks count only outside of the others. A fence that is never closed ends with the
    text. An empty list means that nothing is marked: the text may still be code as it stands.
    """
    found: list[Region] = []
    prose: list[str] = []
    lines = normal_newlines(text).split("\n")
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


def parse_python(code: str, *, compiles: bool = False) -> ast.Module | None:
    """Return the syntax tree, or None where there is none that can be worked on.

    Args:
        code: any text; NUL, lone surrogates, deep nesting and warnings are no exception here.
        compiles: also refuse what only the compiler sees, such as a `return` outside a function.
    """
    if len(code) > LONGEST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes, `is` with a literal
            tree = ast.parse(code)
            if compiles:
                compile(tree, "answer", "exec", dont_inherit=True)
            return tree
    except NOT_PARSED:
        return None


def parse_prefix(code: str, *, compiles: bool = False) -> tuple[ast.Module, str] | None:
    """Return the tree of the longest run of first lines that parses, and these lines.

    Each try ends before the line at which the parser stopped, or one line earlier.
    """
    lines = code[:LONGEST].split("\n")
    for _ in range(RETRIES):
        text = "\n".join(lines)
        if not text.strip():
            return None
        if (tree := parse_python(text, compiles=compiles)) is not None:
            return (tree, text) if tree.body else None
        lines = lines[: _bad_line(text, len(lines)) - 1]
    return None


def python_trees(text: str) -> list[ast.Module]:
    """Return syntax trees that hold every Python function of a text, marked as code or not.

    Read are the text itself, each region, and, of what does not parse, each `def` on its own up
    to the line where its indentation or its syntax ends. Code in string literals, as in JSON, a
    notebook or `code = '''...'''`, is read too, and code in comments or behind line numbers.
    """
    if not DEFINES.search(text):
        return []
    text = normal_newlines(text).translate(INVISIBLE).translate(SPACES)
    if (tree := parse_python(textwrap.dedent(text))) is not None:
        trees = [tree]
    else:
        sources = [text, *(region.code for region in regions(text))]
        sources += _unescaped(text)
        parts = {code: tree for source in sources for tree, code in _parsed_parts(source)}
        trees = list(parts.values())
    written = sum(1 for line in text.split("\n") if line.strip())
    if 2 * len(LINE_MARK.findall(text)) > written:
        trees += [inner for inner, _ in _parsed_parts(LINE_MARK.sub("", text))]
    for tree in list(trees):
        for quoted in _quoted_code(tree):
            trees += [inner for inner, _ in _parsed_parts(quoted)]
    return trees


# -- regions -------------------------------------------------------------------------------------


def _fenced(lines: list[str], at: int, opening: re.Match[str]) -> tuple[Region, int]:
    """The region that opens at line `at`, and the number of the line after it."""
    mark, info = opening["mark"], opening["info"].strip()
    lead = opening.groupdict().get("lead") or ""
    closing = re.compile(rf"^[ \t]*{mark[0]}{{{len(mark)},}}[ \t]*$")
    words = info.replace("{", " ").replace("}", " ").split()
    language = words[0].lstrip(".").lower() if words else ""
    body: list[str] = []
    if STARTS_CODE.match(info):
        language, body = "", [info]
    elif len(words) > 1 and STARTS_CODE.match(rest := info.split(None, 1)[1]):
        body = [rest]
    quoted = ">" in lead
    for number in range(at + 1, len(lines)):
        line = re.sub(r"^[ \t]*>[ \t]?", "", lines[number]) if quoted else lines[number]
        indent = len(line) - len(line.lstrip(" \t"))
        if closing.match(line) and indent < len(lead.expandtabs(4)) + 4:
            return Region("fence", language, _dedented(body)), number + 1
        again = OPENING.match(line)
        if again and again["info"] and again["mark"] == mark and indent <= len(lead):
            return Region("fence", language, _dedented(body)), number  # the last was not closed
        if mark == "```" and line.endswith(mark) and line.count(mark) == 1 and line.strip() != mark:
            body.append(line[: -len(mark)])
            return Region("fence", language, _dedented(body)), number + 1
        body.append(line)
    return Region("fence", language, _dedented(body)), len(lines)


def _outside(lines: list[str]) -> Iterator[Region]:
    """Regions of the lines between two fences."""
    text = "\n".join(lines)
    if not text.strip():
        return
    for match in ONE_LINE.finditer(text):
        yield Region("line", (match["info"] or "").lower(), match["code"].strip())
    for match in TAGS.finditer(text):
        if match["tag"]:
            named = LANGUAGE_CLASS.search(match["attributes"]) or LANGUAGE_CLASS.search(
                match["html"][:80]
            )
            code = html.unescape(INNER_TAG.sub("", match["html"]))
            yield Region("tag", named[1].lower() if named else "", _dedented(code.split("\n")))
        else:
            code = match["text"] or match["tex"] or ""
            yield Region("tag", "", _dedented(code.split("\n")))
    text = TAGS.sub("\n", text)
    if (session := SESSION.search(text)) is not None:
        yield Region("session", "python", text[session.start() :])
    yield from _indented(text.split("\n"))


def _indented(lines: list[str]) -> Iterator[Region]:
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
                yield Region("indented", "", _dedented(block))
            block = []
        before, last = line, last if blank else line


def _dedented(lines: list[str]) -> str:
    return textwrap.dedent("\n".join(lines)).strip("\n") + "\n"


def _without_prompts(region: Region) -> Region:
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
    return Region("session", "python", "\n".join(typed) + "\n")


# -- Python --------------------------------------------------------------------------------------


def _bad_line(text: str, lines: int) -> int:
    """The number of the first line that a shorter try leaves out."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(text, "answer", "exec", dont_inherit=True)
    except SyntaxError as error:
        return max(1, min(lines, error.lineno or lines))
    except NOT_PARSED:
        pass
    return max(1, lines // 2)


def _parsed_parts(source: str) -> Iterator[tuple[ast.Module, str]]:
    """The whole source if it parses, else each of its functions that does."""
    source = textwrap.dedent(source)
    if (tree := parse_python(source)) is not None:
        yield tree, source
        return
    imports = "\n".join(match[0].strip() for match in IMPORT.finditer(source))
    if imports and (tree := parse_python(imports)) is not None:
        yield tree, imports
    end = -1
    for match in DEFINITION.finditer(source):
        if match.start() < end:
            continue  # inside a function that was read
        block = _block(source, match)
        for text in (block, PRINT_STATEMENT.sub(r"\1pass", block.translate(QUOTES))):
            if (found := parse_prefix(text)) is not None and _has_body(found[0]):
                end = match.start() + len(found[1]) if text is block else -1
                yield found
                break


def _block(source: str, match: re.Match[str]) -> str:
    """The lines from a `def` on, without what stands before the `def` on its own line."""
    lead, block = match["lead"], source[match.start() : match.start() + LONGEST_FUNCTION]
    lines = block.split("\n")
    if lead.strip():  # quoted, in a list, or a diff
        lines = [line[len(lead) :] if line[: len(lead)].strip(lead.strip() + " \t") == "" else line
                 for line in lines]  # fmt: skip
        lead = ""
    indent = len(lead)
    kept = [lines[0]]
    depth = 0
    for line in lines[1:]:
        text = line.lstrip(" \t")
        depth += sum(map(kept[-1].count, "([{")) - sum(map(kept[-1].count, ")]}"))
        if text and len(line) - len(text) <= indent:
            closes = text.startswith((")", "]", "}", "#", '"""', "'''"))
            if STARTS_CODE.match(text) or (depth <= 0 and not closes):
                break
        kept.append(line)
    return textwrap.dedent("\n".join(kept))


def _has_body(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in tree.body)


def _unescaped(text: str) -> Iterator[str]:
    """JSON strings of several lines that hold a function."""
    for match in STRING.finditer(text) if "\\n" in text else ():
        if "\\n" in match[0] and DEFINES.search(match[0]):
            try:
                yield json.loads(match[0], strict=False)
            except ValueError:
                continue


def _quoted_code(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(node, ast.List):  # the lines of a notebook's cell
            lines = [line.value for line in node.elts if isinstance(line, ast.Constant)]
            if lines and all(isinstance(line, str) for line in lines):
                value = "\n".join(line.removesuffix("\n") for line in lines)
        if isinstance(value, str) and "\n" in value and DEFINES.search(value):
            yield value
