"""Extract the program from a model's response: without markup, prose and example calls.

A chat model wraps its code in Markdown, repeats the prompt, adds an example call or reads input
at the end. `extract_program` finds the code (`curation.code_regions`) and keeps the entry point
with everything that it needs (`slicing`).
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import NamedTuple

from code_alpaca.core import languages
from code_alpaca.core.reasoning import strip_reasoning
from code_alpaca.curation.code_regions import find_code_regions, normalize_newlines
from code_alpaca.curation.python_parsing import (
    INVISIBLE,
    MAX_PARSED_CHARACTERS,
    QUOTES,
    SPACES,
    parse_prefix,
    parse_python,
)
from code_alpaca.evaluation import slicing
from code_alpaca.problems import Problem

TEXT_TAGS = languages.TEXT_TAGS | {"latex", "math"}  # of code regions without a program
RELIABLE_KINDS = ("fence", "line", "tag")  # of code regions that are certainly code
CODE_LINE = re.compile(
    r"^(?:import [\w., ]+$|from [\w.]+ import |(?:async )?def \w+\(|class \w+.*:|@\w+)",
    re.MULTILINE,
)
FUTURE_IMPORT = re.compile(r"^from __future__ import [\w ,]+$", re.MULTILINE)
PARSER_ERRORS = (RecursionError, MemoryError, ValueError)


def extract_program(problem: Problem, response: str) -> str:
    """Return the program in a response to `problem`, or the response itself if there is none.

    The candidates are, in this order: each code region that defines the entry point, completed
    with definitions of the other regions; all regions together; the whole response; the response
    as the continuation of the prompt. The first that compiles, defines the entry point and uses
    no undefined name is chosen; else the first that compiles and defines it; else the first whose
    prefix does, for truncated responses. The prompt's imports and helpers precede each candidate.
    """
    response = strip_reasoning(normalize_newlines(response)).translate(INVISIBLE)
    if problem.language != "python":
        return _extract_other_language(problem, response)
    candidates = list(dict.fromkeys(_candidates(problem, response[:MAX_PARSED_CHARACTERS])))
    hoisted = list(map(_hoist_future_imports, candidates))
    attempts = [partial(_build, complete=True), partial(_build, complete=False), _build_from_prefix]
    try:
        for build in attempts:
            for candidate in hoisted:
                if (program := build(problem, candidate)) is not None:
                    return program
    except PARSER_ERRORS:
        pass  # the response is then graded unchanged
    return candidates[-1].code


def _extract_other_language(problem: Problem, response: str) -> str:
    """Return the code region that defines the entry point, or the first, after the prompt."""
    blocks = [r.code for r in find_code_regions(response) if r.kind in ("fence", "tag")]
    defines = re.compile(rf"\b{re.escape(problem.entry_point)}\s*(\(|=)")
    body = next((block for block in blocks if defines.search(block)), (*blocks, response)[0])
    return body if defines.search(body.split("{")[0]) else problem.prompt + body


class ProgramCandidate(NamedTuple):
    """A text that may be the program."""

    before: str  # nothing, or the prompt
    text: str  # from the response
    defines: bool  # whether `text` must define the entry point; else it continues `before`

    @property
    def code(self) -> str:
        """The source to compile."""
        return self.before + self.text


def _candidates(problem: Problem, response: str) -> Iterator[ProgramCandidate]:
    blocks = _code_blocks(response)
    name = re.escape(problem.entry_point)
    definition = re.compile(
        rf"^[ \t]*(?:(?:async[ \t]+)?def[ \t]+{name}\b|{name}\s*[=:])", re.MULTILINE
    )
    texts = [_complete(block, blocks) for block in blocks if definition.search(block)]
    texts += ["\n".join(blocks), response]
    for text in texts:
        for variant in _without_leading_prose(text, definition):
            # The first is for a prompt that ends in a signature.
            for before in (f"{problem.prompt}\n    pass\n", f"{problem.prompt}\n", ""):
                yield ProgramCandidate(before, variant, defines=True)
    for body in (blocks[0], response) if blocks else (response,):
        for spelling in _spellings(body):
            for variant in (spelling, _indent_first_line(spelling), _indent(spelling)):
                yield ProgramCandidate(problem.prompt, variant, defines=False)


def _code_blocks(response: str) -> list[str]:
    """Return the code regions, without those in other languages.

    Indentation and `>>>` mark code only at the start of a function; elsewhere they are within one.
    """
    regions = [r for r in find_code_regions(response) if r.kind != "line" or "\n" not in response]
    regions = [r for r in regions if r.kind in RELIABLE_KINDS or CODE_LINE.match(r.code)]
    nested = [inner for r in regions if "```" in r.code for inner in find_code_regions(r.code)]
    regions += [inner for inner in nested if inner.kind == "fence"]
    blocks = [region.code for region in regions if _may_be_python(region.tag)]
    return blocks or [region.code for region in regions]


def _may_be_python(tag: str) -> bool:
    language = languages.find(tag)
    return language.name == "python" if language else tag not in TEXT_TAGS


def _complete(block: str, blocks: list[str]) -> str:
    """Return a block preceded by the definitions that it lacks and other blocks contain."""
    tree = parse_python(block)
    if tree is None or len(blocks) == 1:
        return block
    parts = [block]
    undefined = slicing.undefined_names(tree)
    for other in blocks:
        other_tree = parse_python(other) if other is not block else None
        for node in other_tree.body if other_tree else ():
            if slicing.bound_names(node) & undefined:
                parts.insert(len(parts) - 1, slicing.statement_source(other, node))
                undefined |= slicing.undefined_names(ast.Module([node], []))
    return "\n".join(parts)


def _without_leading_prose(text: str, definition: re.Pattern[str]) -> Iterator[str]:
    """Yield the text unchanged, and from its first line of code, in every spelling."""
    match = definition.search(text)
    if match is None:
        return
    starts = [0, match.start()]
    if (first := CODE_LINE.search(text)) is not None and first.start() < match.start():
        starts.insert(1, first.start())
    for start in dict.fromkeys(starts):
        yield from _spellings(text[start:])


def _spellings(text: str) -> Iterator[str]:
    """Yield the text, and variants with ASCII spaces and quotes that parse."""
    yield text
    if text.isascii():
        return
    for variant in (text.translate(SPACES), text.translate({**SPACES, **QUOTES})):
        if variant != text and parse_python(textwrap.dedent(variant)) is not None:
            yield variant


def _indent_first_line(body: str) -> str:
    """Indent the first line of a function body like the lines after it."""
    lines = body.strip("\n").split("\n")
    indents = [line[: len(line) - len(line.lstrip())] for line in lines[1:] if line.strip()]
    return min(indents, key=len, default="    ") + "\n".join(lines).lstrip()


def _indent(body: str) -> str:
    return textwrap.indent(textwrap.dedent(body), "    ")


def _hoist_future_imports(candidate: ProgramCandidate) -> ProgramCandidate:
    """Move `from __future__` imports to the top, the only place where Python allows them."""
    lines = dict.fromkeys(FUTURE_IMPORT.findall(candidate.text))
    if not lines:
        return candidate
    before = "\n".join([*lines, candidate.before])
    return candidate._replace(before=before, text=FUTURE_IMPORT.sub("", candidate.text))


def _build(problem: Problem, candidate: ProgramCandidate, *, complete: bool) -> str | None:
    """Return the program of a candidate that compiles and defines the entry point, else None.

    With `complete`, every name that it uses must be defined.
    """
    code, name = candidate.code, problem.entry_point
    tree = parse_python(code, compiles=True)
    if tree is None:
        return None
    first_line = candidate.before.count("\n") + 1 if candidate.defines else 1
    if not any(name in slicing.bound_names(n) for n in tree.body if n.lineno >= first_line):
        if (alias := _method_alias(tree, name)) is None:
            return None
        code += "\n" + alias
        tree = ast.parse(code)
    if complete and slicing.undefined_names(tree):
        return None
    return slicing.slice_program(code, tree, name)


def _build_from_prefix(problem: Problem, candidate: ProgramCandidate) -> str | None:
    """Return the program in the longest prefix of lines that compiles and reaches the response."""
    before = "" if candidate.defines else candidate.before
    prefix = _longest_prefix(before + candidate.text)
    if len(prefix) <= len(before) or not prefix[len(before) :].strip():
        return None
    return _build(problem, candidate._replace(text=prefix[len(before) :]), complete=False)


@lru_cache(maxsize=16)
def _longest_prefix(code: str) -> str:
    parsed = parse_prefix(code, compiles=True)
    return parsed[1] if parsed else ""


def _method_alias(tree: ast.Module, name: str) -> str | None:
    """Return an assignment of a method to the entry point's name, for LeetCode's `Solution`."""
    for node in tree.body:
        for item in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and item.name == name:
                return f"{name} = {node.name}().{name}\n"
    return None
