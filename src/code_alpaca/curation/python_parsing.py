"""Parse Python code of unknown quality: broken, truncated, quoted, or mixed with prose."""

from __future__ import annotations

import ast
import contextlib
import json
import re
import textwrap
import warnings
from collections.abc import Iterator

from code_alpaca.curation.code_regions import CODE_START, find_code_regions, normalize_newlines

MAX_PARSED_CHARACTERS = 200_000  # the parser needs seconds and gigabytes for much more
MAX_FUNCTION_CHARACTERS = 20_000  # of a function in a text that does not parse
MAX_PREFIX_TRIES = 12
PARSE_ERRORS = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)

DEFINITION = re.compile(r"^(?P<lead>[^\w\n\"']*)(?:async[ \t]+)?def[ \t]+\w+[ \t]*\(", re.MULTILINE)
DEFINES = re.compile(r"def[ \t]+\w+[ \t]*\(|\blambda\b")
IMPORT = re.compile(r"^[ \t]*(?:import|from) [\w., ]+(?: import [\w, ]+)?$", re.MULTILINE)
# A line number or a comment sign at the start of a line.
LINE_MARK = re.compile(r"^[ \t]{0,8}(?:\d{1,4}[ \t]{0,4}[.:|)]|#+|//)(?:[ \t]|$)", re.MULTILINE)
STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
PRINT_STATEMENT = re.compile(r"^([ \t]*)print[ \t]+[^\s(=].*$", re.MULTILINE)
# Typographic characters that editors and web pages put in place of ASCII ones.
SPACES = dict.fromkeys(map(ord, "\u00a0\u2002\u2003\u2007\u2009\u202f\u3000"), " ")
INVISIBLE = dict.fromkeys(map(ord, "\ufeff\u200b\u200c\u200d\u2060"))
QUOTES = str.maketrans(
    "\u2018\u2019\u201c\u201d\uff02\uff07\uff08\uff09\uff0c\uff1a", "''\"\"\"'(),:"
)


def find_python_trees(text: str) -> list[ast.Module]:
    """Return syntax trees that contain every Python function in a text.

    The text itself and each code region are parsed; from what does not parse, each `def` alone.
    Code in string literals (JSON, a notebook, `code = '''...'''`), in comments and after line
    numbers is parsed too.
    """
    if not DEFINES.search(text):
        return []
    text = normalize_newlines(text).translate(INVISIBLE).translate(SPACES)
    if (tree := parse_python(textwrap.dedent(text))) is not None:
        trees = [tree]
    else:
        sources = [text, *(region.code for region in find_code_regions(text)), *_unescape(text)]
        unique = {code: tree for source in sources for tree, code in _parse_functions(source)}
        trees = list(unique.values())
    num_lines = sum(1 for line in text.split("\n") if line.strip())
    if 2 * len(LINE_MARK.findall(text)) > num_lines:
        trees += [tree for tree, _ in _parse_functions(LINE_MARK.sub("", text))]
    for tree in list(trees):
        for source in _quoted_code(tree):
            trees += [inner for inner, _ in _parse_functions(source)]
    return trees


def parse_python(code: str, *, compiles: bool = False) -> ast.Module | None:
    """Return the syntax tree of a program, or None if it cannot be parsed.

    Args:
        compiles: also reject what only the compiler rejects, such as `return` outside a function.
    """
    if len(code) > MAX_PARSED_CHARACTERS:
        return None
    with warnings.catch_warnings(action="ignore"):  # invalid escapes, `is` with a literal
        try:
            tree = ast.parse(code)
            if compiles:
                compile(tree, "answer", "exec", dont_inherit=True)
            return tree
        except PARSE_ERRORS:
            return None


def parse_prefix(code: str, *, compiles: bool = False) -> tuple[ast.Module, str] | None:
    """Return the tree and the text of the longest run of first lines that parses."""
    lines = code[:MAX_PARSED_CHARACTERS].split("\n")
    for _ in range(MAX_PREFIX_TRIES):
        text = "\n".join(lines)
        if not text.strip():
            return None
        if (tree := parse_python(text, compiles=compiles)) is not None:
            return (tree, text) if tree.body else None
        lines = lines[: _error_line(text, len(lines)) - 1]
    return None


def _error_line(text: str, num_lines: int) -> int:
    """Return the number of the line at which the compiler stops, or of the middle line."""
    with warnings.catch_warnings(action="ignore"):
        try:
            compile(text, "answer", "exec", dont_inherit=True)
        except SyntaxError as error:
            return max(1, min(num_lines, error.lineno or num_lines))
        except PARSE_ERRORS:
            pass
    return max(1, num_lines // 2)


def _parse_functions(source: str) -> Iterator[tuple[ast.Module, str]]:
    """Yield the tree and text of a source that parses, or of each function in it that does."""
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
            continue  # inside a function that was parsed
        block = _function_lines(source, match)
        for text in (block, PRINT_STATEMENT.sub(r"\1pass", block.translate(QUOTES))):
            if (parsed := parse_prefix(text)) is not None and _defines_function(parsed[0]):
                end = match.start() + len(parsed[1]) if text is block else -1
                yield parsed
                break


def _function_lines(source: str, match: re.Match[str]) -> str:
    """Return the lines from a `def` on, without what precedes the `def` on its own line."""
    lead = match["lead"]
    lines = source[match.start() : match.start() + MAX_FUNCTION_CHARACTERS].split("\n")
    if lead.strip():  # quoted, in a list, or a diff
        lines = [line[len(lead) :] if line[: len(lead)].strip(lead.strip() + " \t") == "" else line
                 for line in lines]  # fmt: skip
        lead = ""
    body = [lines[0]]
    depth = 0  # of open brackets
    for line in lines[1:]:
        text = line.lstrip(" \t")
        depth += sum(map(body[-1].count, "([{")) - sum(map(body[-1].count, ")]}"))
        if text and len(line) - len(text) <= len(lead):
            closes = text.startswith((")", "]", "}", "#", '"""', "'''"))
            if CODE_START.match(text) or (depth <= 0 and not closes):
                break
        body.append(line)
    return textwrap.dedent("\n".join(body))


def _defines_function(tree: ast.Module) -> bool:
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in tree.body)


def _unescape(text: str) -> Iterator[str]:
    """Yield the values of JSON strings of several lines that contain a function."""
    for match in STRING.finditer(text) if "\\n" in text else ():
        if "\\n" in match[0] and DEFINES.search(match[0]):
            with contextlib.suppress(ValueError):
                yield json.loads(match[0], strict=False)


def _quoted_code(tree: ast.Module) -> Iterator[str]:
    """Yield the string literals of a program that contain a function."""
    for node in ast.walk(tree):
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(node, ast.List):  # the lines of a notebook cell
            lines = [line.value for line in node.elts if isinstance(line, ast.Constant)]
            if lines and all(isinstance(line, str) for line in lines):
                value = "\n".join(line.removesuffix("\n") for line in lines)
        if isinstance(value, str) and "\n" in value and DEFINES.search(value):
            yield value
