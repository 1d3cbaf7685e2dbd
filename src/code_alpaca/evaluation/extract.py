"""The program in a model's answer: out of fences and prose, and no more than is needed.

A chat model wraps its code in Markdown, repeats the prompt, shows an example call or reads
input at the end. What is kept is what the function asked for can reach: itself, and the
definitions, imports and assignments that it uses, directly or through each other.
"""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
import warnings
from collections.abc import Iterator

from code_alpaca.benchmarks import Problem

THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
FENCED = re.compile(r"```[^\n`]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
LONGEST = 200_000  # characters; no answer to these problems is longer, and parsing takes memory
CUTS = 200  # lines that are taken from the end of a broken text to find one that parses


def extract_program(problem: Problem, answer: str) -> str:
    """The program in an answer to `problem`; what is no program comes back as it is.

    Tried in this order, the first that compiles, defines the entry point and uses no name that
    it does not define (or, if none is, the first but for that): each fenced block that defines
    it, all blocks together, the whole answer, the answer as the rest of the prompt (as it is,
    then indented); then each of these without its last lines, as where an answer was cut. The
    prompt's imports and helpers stand before all of them.
    """
    answer = THINKING.sub("", answer.replace("\r\n", "\n"))
    blocks = [textwrap.dedent(block) for block in FENCED.findall(answer)]
    if problem.language != "python":
        body = blocks[0] if blocks else answer
        whole = re.search(rf"\b{re.escape(problem.entry_point)}\s*(\(|=)", body.split("{")[0])
        return body if whole else problem.prompt + body
    readings = list(_readings(problem, blocks, answer[:LONGEST]))
    for cut, whole in ((False, True), (False, False), (True, False)):
        for text in readings:
            tree = _parse(text, cut)
            if tree and _defines(tree, problem.entry_point) and not (whole and _lacks(tree)):
                return _reachable(tree, problem.entry_point)
    return readings[-1]


def _readings(problem: Problem, blocks: list[str], answer: str) -> Iterator[str]:
    name = re.escape(problem.entry_point)
    defines = re.compile(rf"^[ \t]*(?:(?:async )?def {name}\b|{name}\s*=)", re.MULTILINE)
    for text in (*blocks, "\n".join(blocks), answer):
        if defines.search(text):
            yield f"{problem.prompt}\n    pass\n{text}"  # a prompt that ends in a signature
            yield f"{problem.prompt}\n{text}"
            yield text
    body = blocks[0] if blocks else answer
    yield problem.prompt + body
    yield problem.prompt + textwrap.indent(textwrap.dedent(body), "    ")


def _parse(text: str, cut: bool) -> ast.Module | None:
    """The syntax tree, of the longest run of first lines that has one if `cut`."""
    lines = text.split("\n")
    for end in range(len(lines), max(0, len(lines) - CUTS) if cut else len(lines) - 1, -1):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a "\d" of somebody else's
                tree = ast.parse("\n".join(lines[:end]))
                compile(tree, "answer", "exec")  # also sees a return outside of a function
                return tree
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
            continue
    return None


def _lacks(tree: ast.Module) -> bool:
    """Whether it uses names that nothing in it gives a value: a helper of another block, say."""
    used, given = set(), set(dir(builtins)) | {"__name__", "__file__"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else given).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            given.add(node.name)
        elif isinstance(node, ast.arg):
            given.add(node.arg)
        elif isinstance(node, ast.alias):
            if node.name == "*":
                return False
            given.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            given.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            given.add(node.rest)
    return bool(used - given)


def _defines(tree: ast.Module, name: str) -> bool:
    return any(name in _bound(node) for node in tree.body)


def _reachable(tree: ast.Module, entry_point: str) -> str:
    """Source of what the entry point needs; of two definitions of a name, both, in order."""
    wanted, seen = [entry_point], set()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        for node in tree.body:
            if name in _bound(node):
                wanted += _used(node)
    kept = [node for node in tree.body if _needed(node, seen)]
    return ast.unparse(ast.Module(kept, [])) + "\n"


def _needed(node: ast.stmt, names: set[str]) -> bool:
    if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
        return True
    return bool(_bound(node) & names)


def _bound(node: ast.stmt) -> set[str]:
    """The names that a top-level statement gives a value; a main block and calls give none."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
    if isinstance(node, ast.Try):
        return {name for inner in [*node.body, *node.handlers] for name in _inner(inner)}
    if isinstance(node, ast.If) and "__name__" not in ast.dump(node.test):
        return {name for inner in [*node.body, *node.orelse] for name in _bound(inner)}
    if _is_example(node):
        return set()
    return _changed(node)


def _inner(node: ast.AST) -> set[str]:
    if isinstance(node, ast.ExceptHandler):
        return {name for inner in node.body for name in _bound(inner)}
    return _bound(node) if isinstance(node, ast.stmt) else set()


def _is_example(node: ast.stmt) -> bool:
    """Whether a loop or a call shows, reads or checks something: use, not a part."""
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return bool(names & {"print", "input", "exit", "quit"}) or any(
        isinstance(n, ast.Assert | ast.Raise) for n in ast.walk(node)
    )


def _changed(node: ast.stmt) -> set[str]:
    """What a loop, a with or a method call at top level fills: a table, a recursion limit."""
    found = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            found.add(inner.id)
        stored = isinstance(inner, ast.Subscript | ast.Attribute) and isinstance(
            inner.ctx, ast.Store
        )
        called = isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Call)
        if stored or called:
            root = inner.value.func if called else inner
            attributes = []
            while isinstance(root, ast.Attribute | ast.Subscript):
                attributes.append(getattr(root, "attr", ""))
                root = root.value
            if isinstance(root, ast.Name) and attributes and "exit" not in attributes:
                found.add(root.id)
    return found


def _used(node: ast.stmt) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
