"""Does an example give away a benchmark problem?

Two signs, both cheap and both without false alarms on boilerplate: the instruction or input
contains a problem's statement, or a function of the answer is a reference solution up to the
names that it uses (same syntax tree after renaming, of at least `MIN_NODES` nodes, since
`return a + b` belongs to everyone).
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Sequence

from code_alpaca import benchmarks
from code_alpaca.schema import Example

MIN_NODES = 14
MIN_STATEMENT_CHARACTERS = 30


class Contamination:
    """An index over benchmarks, by names or HumanEval-form files.

    Raises:
        InputError: a benchmark does not exist or is of another shape.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._statements: list[tuple[str, str]] = []
        self._functions: dict[str, set[str]] = {}
        for name in names:
            for problem in benchmarks.load(name):
                for text in (problem.instruction, _docstring(problem.prompt)):
                    statement = _normal(text)
                    if len(statement) >= MIN_STATEMENT_CHARACTERS:
                        self._statements.append((statement, problem.task_id))
                for shape in _function_shapes(problem.prompt + problem.canonical_solution):
                    self._functions.setdefault(shape, set()).add(problem.task_id)

    def matches(self, example: Example) -> list[str]:
        """The task ids of the problems that this example gives away, sorted."""
        asked = _normal(f"{example.instruction}\n{example.input}")
        found = {task_id for statement, task_id in self._statements if statement in asked}
        if self._functions:
            for text in (example.output, example.input):
                for shape in _function_shapes(text):
                    found |= self._functions.get(shape, set())
        return sorted(found)


def _normal(text: str) -> str:
    return " ".join(text.lower().split())


def _docstring(prompt: str) -> str:
    """The statement of a HumanEval prompt: the docstring of its last function, examples cut."""
    functions = _functions(prompt + "\n    pass\n") or _functions(prompt)
    doc = ast.get_docstring(functions[-1]) if functions else None
    return (doc or "").split(">>>")[0]


def _functions(code: str) -> list[ast.FunctionDef]:
    try:
        tree = ast.parse(textwrap.dedent(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def _function_shapes(code: str) -> list[str]:
    """Each function of the code as its syntax tree with names numbered by first appearance."""
    shapes = []
    if "def " not in code:
        return shapes
    for function in _functions(code):
        if ast.get_docstring(function) is not None:
            function.body = function.body[1:]
        if sum(1 for _ in ast.walk(function)) < MIN_NODES:
            continue
        shapes.append(ast.dump(_Renamer(_bound_names(function)).visit(function)))
    return shapes


def _bound_names(function: ast.FunctionDef) -> set[str]:
    """Names that the function itself gives out; all others (`sum`, `len`) mean something."""
    bound = {function.name}
    for node in ast.walk(function):
        if isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, ast.FunctionDef):
            bound.add(node.name)
    return bound


class _Renamer(ast.NodeTransformer):
    """Numbers the bound names in order of appearance and forgets annotations."""

    def __init__(self, bound: set[str]) -> None:
        self._bound = bound
        self._names: dict[str, str] = {}

    def _rename(self, name: str) -> str:
        return self._names.setdefault(name, f"n{len(self._names)}") if name in self._bound else name

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.name = self._rename(node.name)
        node.returns = None
        self.generic_visit(node)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.arg = self._rename(node.arg)
        node.annotation = None
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._rename(node.id)
        return node
