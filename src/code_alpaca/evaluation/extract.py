"""Extract the program from a model's answer: without markup and prose, and without its examples.

A chat model wraps its code in Markdown, repeats the prompt, shows an example call or reads
input at the end. `extract_program` finds the code (`code_alpaca.curation.code_regions`)
and keeps the entry point with all that it needs: `code_alpaca.evaluation.needed`.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

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
from code_alpaca.evaluation.needed import (
    bound_names,
    missing_names,
    needed_source,
    statement_source,
)
from code_alpaca.problems import Problem

OTHER_LANGUAGES = {
    "bash", "sh", "shell", "console", "zsh", "powershell", "json", "yaml", "toml", "text", "txt",
    "plaintext", "output", "html", "css", "xml", "sql", "c", "cpp", "c++", "java", "javascript",
    "js", "typescript", "ts", "go", "rust", "diff", "markdown", "md", "math", "latex",
}  # fmt: skip
CODE_LINE = re.compile(
    r"^(?:import [\w., ]+$|from [\w.]+ import |(?:async )?def \w+\(|class \w+.*:|@\w+)",
    re.MULTILINE,
)
FUTURE = re.compile(r"^from __future__ import [\w ,]+$", re.MULTILINE)
FAILURES = (RecursionError, MemoryError, ValueError)


def extract_program(problem: Problem, answer: str) -> str:
    """Return the program in an answer to `problem`; an answer without one comes back as text.

    The candidates are, in this order: each code region that defines the entry point, completed
    by what the other regions define; all regions together; the answer as it stands; the answer
    as the continuation of the prompt. The first that compiles, defines the entry point and uses
    no undefined name is taken; else the first that compiles and defines it; else the first of
    which a prefix does, as where an answer was truncated. The prompt's imports and helpers
    precede every candidate.
    """
    answer = strip_reasoning(normalize_newlines(answer)).translate(INVISIBLE)
    if problem.language != "python":
        return _other_language(problem, answer)
    candidates = list(dict.fromkeys(_candidates(problem, answer[:MAX_PARSED_CHARACTERS])))
    try:
        for complete in (True, False):
            for candidate in candidates:
                if (found := _program(problem, candidate, complete=complete)) is not None:
                    return found
        for candidate in candidates:
            if (found := _truncated_program(problem, candidate)) is not None:
                return found
    except FAILURES:
        pass  # a failure on one answer is that answer's verdict: it is graded as it stands
    return candidates[-1].code


def _other_language(problem: Problem, answer: str) -> str:
    blocks = [
        region.code for region in find_code_regions(answer) if region.kind in ("fence", "tag")
    ]
    defines = re.compile(rf"\b{re.escape(problem.entry_point)}\s*(\(|=)")
    body = next((block for block in blocks if defines.search(block)), (*blocks, answer)[0])
    return body if defines.search(body.split("{")[0]) else problem.prompt + body


class Candidate(NamedTuple):
    """A text that may be the program.

    Args:
        before: what precedes the answer's text: nothing, or the prompt.
        text: the answer's text.
        defines: whether the text has to define the entry point itself; else it continues `before`.
    """

    before: str
    text: str
    defines: bool

    @property
    def code(self) -> str:
        return self.before + self.text


def _candidates(problem: Problem, answer: str) -> Iterator[Candidate]:
    blocks = _blocks(answer)
    name = re.escape(problem.entry_point)
    defines = re.compile(
        rf"^[ \t]*(?:(?:async[ \t]+)?def[ \t]+{name}\b|{name}\s*[=:])", re.MULTILINE
    )
    texts = [_completed(block, blocks) for block in blocks if defines.search(block)]
    texts += ["\n".join(blocks), answer]
    for text in texts:
        for repaired in _repairs(text, defines):
            # The first is for a prompt that ends in a signature.
            for before in (f"{problem.prompt}\n    pass\n", f"{problem.prompt}\n", ""):
                yield Candidate(before, repaired, defines=True)
    for body in (blocks[0], answer) if blocks else (answer,):
        for repaired in _spellings(body):
            for text in (repaired, _first_line_indented(repaired), _indented(repaired)):
                yield Candidate(problem.prompt, text, defines=False)


def _blocks(answer: str) -> list[str]:
    """The code regions, without those of other languages.

    Indentation and `>>>` mark code only where a function begins: else they stand in one.
    """
    found = [
        region
        for region in find_code_regions(answer)
        if region.kind != "line" or "\n" not in answer
    ]
    sure = ("fence", "line", "tag")
    found = [r for r in found if r.kind in sure or CODE_LINE.match(r.code)]
    nested = [
        inner
        for region in found
        for inner in find_code_regions(region.code)
        if "```" in region.code
    ]
    found += [region for region in nested if region.kind == "fence"]
    wanted = [region.code for region in found if region.tag not in OTHER_LANGUAGES]
    return wanted or [region.code for region in found]


def _completed(block: str, blocks: list[str]) -> str:
    """The block after the definitions that it lacks and that other blocks have."""
    tree = parse_python(block)
    if tree is None or len(blocks) == 1:
        return block
    parts = [block]
    missing = missing_names(tree)
    for other in blocks:
        others = parse_python(other) if other is not block else None
        for node in others.body if others else ():
            if bound_names(node) & missing:
                source = statement_source(other, node)
                parts.insert(len(parts) - 1, source)
                missing |= missing_names(ast.Module([node], []))
    return "\n".join(parts)


def _repairs(text: str, defines: re.Pattern[str]) -> Iterator[str]:
    """The text, and the text without the prose before its code, in every spelling."""
    definition = defines.search(text)
    if definition is None:
        return
    starts = [0, definition.start()]
    if (first := CODE_LINE.search(text)) is not None and first.start() < definition.start():
        starts.insert(1, first.start())
    for start in dict.fromkeys(starts):
        yield from _spellings(text[start:])


def _spellings(text: str) -> Iterator[str]:
    """The text, and, where that lets it parse, with ASCII for typographic spaces and quotes."""
    yield text
    if text.isascii():
        return
    for repaired in (text.translate(SPACES), text.translate({**SPACES, **QUOTES})):
        if repaired != text and parse_python(textwrap.dedent(repaired)) is not None:
            yield repaired


def _first_line_indented(body: str) -> str:
    """A function body whose first line lost its indentation and whose other lines kept it."""
    lines = body.strip("\n").split("\n")
    indents = [line[: len(line) - len(line.lstrip())] for line in lines[1:] if line.strip()]
    return min(indents, key=len, default="    ") + "\n".join(lines).lstrip()


def _indented(body: str) -> str:
    return textwrap.indent(textwrap.dedent(body), "    ")


def _hoisted(candidate: Candidate) -> Candidate:
    """The candidate with `from __future__` lines at the top, where alone they are allowed."""
    lines = dict.fromkeys(FUTURE.findall(candidate.text))
    if not lines:
        return candidate
    before = "\n".join([*lines, candidate.before])
    return candidate._replace(before=before, text=FUTURE.sub("", candidate.text))


def _program(problem: Problem, candidate: Candidate, *, complete: bool) -> str | None:
    candidate = _hoisted(candidate)
    code, name = candidate.code, problem.entry_point
    tree = parse_python(code, compiles=True)
    if tree is None:
        return None
    first = candidate.before.count("\n") + 1 if candidate.defines else 1
    if not any(name in bound_names(n) for n in tree.body if n.lineno >= first):
        if (alias := _method_alias(tree, name)) is None:
            return None
        code += "\n" + alias
        tree = ast.parse(code)
    if complete and missing_names(tree):
        return None
    return needed_source(code, tree, name)


def _truncated_program(problem: Problem, candidate: Candidate) -> str | None:
    """The program in the longest run of first lines that compiles, if it ends in the answer."""
    candidate = _hoisted(candidate)
    before = "" if candidate.defines else candidate.before
    prefix = _longest_prefix(before + candidate.text)
    if len(prefix) <= len(before) or not prefix[len(before) :].strip():
        return None
    return _program(problem, candidate._replace(text=prefix[len(before) :]), complete=False)


@lru_cache(maxsize=16)
def _longest_prefix(code: str) -> str:
    found = parse_prefix(code, compiles=True)
    return found[1] if found else ""


def _method_alias(tree: ast.Module, name: str) -> str | None:
    """An assignment that gives a method the entry point's name, as of LeetCode's `Solution`."""
    for node in tree.body:
        for item in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and item.name == name:
                return f"{name} = {node.name}().{name}\n"
    return None
