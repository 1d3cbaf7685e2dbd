"""Extract the program from a model's answer: without markup and prose, and without its examples.

A chat model wraps its code in Markdown, repeats the prompt, shows an example call or reads
input at the end. `extract_program` finds the code (`code_alpaca.code_regions` reads the markup)
and keeps the entry point with all that it needs: see `code_alpaca.evaluation.needed`.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator

from code_alpaca.benchmarks import Problem
from code_alpaca.code_regions import (
    INVISIBLE,
    LONGEST,
    QUOTES,
    SPACES,
    normal_newlines,
    parse_prefix,
    parse_python,
    regions,
)
from code_alpaca.evaluation.needed import (
    bound_names,
    missing_names,
    needed_source,
    statement_source,
)
from code_alpaca.reasoning import strip_reasoning

OTHER_LANGUAGES = {
    "bash", "sh", "shell", "console", "zsh", "powershell", "json", "yaml", "toml", "text", "txt",
    "plaintext", "output", "html", "css", "xml", "sql", "c", "cpp", "c++", "java", "javascript",
    "js", "typescript", "ts", "go", "rust", "diff", "markdown", "md", "math", "latex",
}  # fmt: skip
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
    answer = strip_reasoning(normal_newlines(answer)).translate(INVISIBLE)
    if problem.language != "python":
        return _other_language(problem, answer)
    candidates = list(_candidates(problem, answer[:LONGEST]))
    try:
        for complete in (True, False):
            for code in candidates:
                if (found := _program(problem, code, complete=complete)) is not None:
                    return found
        for code in candidates:
            prefix = parse_prefix(_hoisted(code), compiles=True)
            if prefix and (found := _program(problem, prefix[1], complete=False)) is not None:
                return found
    except FAILURES:
        pass  # code that only a patched recursion limit could walk; it is graded as it stands
    return candidates[-1]


def _other_language(problem: Problem, answer: str) -> str:
    blocks = [region.code for region in regions(answer) if region.kind in ("fence", "tag")]
    defines = re.compile(rf"\b{re.escape(problem.entry_point)}\s*(\(|=)")
    body = next((block for block in blocks if defines.search(block)), (*blocks, answer)[0])
    return body if defines.search(body.split("{")[0]) else problem.prompt + body


def _candidates(problem: Problem, answer: str) -> Iterator[str]:
    blocks = _blocks(answer)
    name = re.escape(problem.entry_point)
    defines = re.compile(
        rf"^[ \t]*(?:(?:async[ \t]+)?def[ \t]+{name}\b|{name}\s*[=:])", re.MULTILINE
    )
    whole = [_completed(block, blocks) for block in blocks if defines.search(block)]
    whole += ["\n".join(blocks), answer]
    for text in whole:
        if defines.search(text):
            for repaired in _repairs(text):
                yield f"{problem.prompt}\n    pass\n{repaired}"  # a prompt that ends in a signature
                yield f"{problem.prompt}\n{repaired}"
                yield repaired
    for body in (blocks[0], answer) if blocks else (answer,):
        for repaired in _repairs(body):
            yield problem.prompt + repaired
            yield problem.prompt + _first_line_indented(repaired)
            yield problem.prompt + textwrap.indent(textwrap.dedent(repaired), "    ")


def _blocks(answer: str) -> list[str]:
    """The code regions, without those of other languages.

    Indentation marks code only where a function begins: else it is the body of one.
    """
    found = [region for region in regions(answer) if region.kind != "line" or "\n" not in answer]
    found = [r for r in found if r.kind != "indented" or r.code.startswith(("def ", "import "))]
    wanted = [region.code for region in found if region.language not in OTHER_LANGUAGES]
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


def _repairs(text: str) -> Iterator[str]:
    """The text; and, where it does not parse, with ASCII for typographic spaces and quotes."""
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


def _hoisted(code: str) -> str:
    """The code with its `from __future__` lines at the top, where alone they are allowed."""
    found = re.findall(r"^from __future__ import [\w ,]+$", code, re.MULTILINE)
    if not found:
        return code
    rest = re.sub(r"^from __future__ import [\w ,]+$", "", code, flags=re.MULTILINE)
    return "\n".join([*dict.fromkeys(found), rest])


def _program(problem: Problem, code: str, *, complete: bool) -> str | None:
    code = _hoisted(code)
    tree = parse_python(code, compiles=True)
    if tree is None:
        return None
    if not any(problem.entry_point in bound_names(node) for node in tree.body):
        if (alias := _method_alias(tree, problem.entry_point)) is None:
            return None
        code += "\n" + alias
        tree = ast.parse(code)
    if complete and missing_names(tree):
        return None
    return needed_source(code, tree, problem.entry_point)


def _method_alias(tree: ast.Module, name: str) -> str | None:
    """An assignment that gives a method the entry point's name, as of LeetCode's `Solution`."""
    for node in tree.body:
        for item in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and item.name == name:
                return f"{name} = {node.name}().{name}\n"
    return None
