"""Keep the part of a program that its entry point needs, and leave out its examples.

Needed is what the entry point uses by name, directly or through others, and every statement that
changes what is needed: it fills a table, calls a function that fills it, registers a subclass,
or sets a limit of the standard library. Left out are tests and examples: statements that print,
read input, assert, exit or call the entry point, and a main block.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
from collections.abc import Iterable, Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
EXAMPLE_NAMES = frozenset(
    {"print", "pprint", "input", "exit", "quit", "breakpoint", "unittest", "doctest", "pytest",
     "timeit", "pdb", "argparse", "logging", "logger"}
)  # fmt: skip
EXAMPLE_ATTRIBUTES = frozenset({"exit", "_exit", "stdin", "argv", "sleep", "set_trace"})
DYNAMIC = frozenset({"eval", "exec", "globals", "locals", "vars", "getattr", "__import__"})
GIVEN = frozenset(dir(builtins)) | {"__name__", "__file__", "__doc__", "__annotations__"}


def needed_source(code: str, tree: ast.Module, entry_point: str) -> str:
    """Return the statements of `code` that `entry_point` needs, in their order and own words."""
    program = _Program(tree, entry_point)
    kept = program.needed()
    return "".join(f"{statement_source(code, tree.body[number])}\n" for number in kept)


def statement_source(code: str, node: ast.stmt) -> str:
    """Return the text of a top-level statement, decorators and trailing comment included."""
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(item.lineno for item in decorators)])
    lines = code.split("\n")[first - 1 : node.end_lineno]
    alone = node.col_offset == 0 and ";" not in lines[-1]
    if alone or decorators:
        return "\n".join(lines)
    return ast.get_source_segment(code, node) or ""


def missing_names(tree: ast.Module) -> set[str]:
    """Return the names that nothing in the module gives a value: a helper of elsewhere, say."""
    used, given = set(), set(GIVEN)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else given).add(node.id)
        elif isinstance(node, Function | ast.ClassDef):
            given.add(node.name)
        elif isinstance(node, ast.arg):
            given.add(node.arg)
        elif isinstance(node, ast.alias):
            if node.name == "*":
                return set()
            given.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            given.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            given.add(node.rest)
    return used - given


def bound_names(node: ast.stmt) -> set[str]:
    """Return the names that a top-level statement defines; a main block defines none."""
    if _is_main(node):
        return set()
    return set(_bound(node))


def _bound(node: ast.AST) -> Iterator[str]:
    """Names bound in the module by a statement, through `if`, `try`, loops and `with`."""
    stack = [node]
    while stack:
        node = stack.pop()
        if isinstance(node, Function | ast.ClassDef):
            yield node.name
            continue
        if isinstance(node, ast.Lambda | Comprehension):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                yield (alias.asname or alias.name).split(".")[0]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        stack += ast.iter_child_nodes(node)


def _is_main(node: ast.stmt) -> bool:
    if not isinstance(node, ast.If):
        return False
    return any(isinstance(n, ast.Name) and n.id == "__name__" for n in ast.walk(node.test))


class _Program:
    """The top-level statements of one program: what each binds, uses and changes."""

    def __init__(self, tree: ast.Module, entry_point: str) -> None:
        self._body = tree.body
        self._entry = entry_point
        self._binds = [bound_names(node) for node in self._body]
        self._uses = [_used(node) for node in self._body]
        self._changes = [_changed(node) for node in self._body]
        self._functions: dict[str, list[int]] = {}
        for number, node in enumerate(self._body):
            if isinstance(node, Function | ast.ClassDef):
                self._functions.setdefault(node.name, []).append(number)
        imports = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
        self._imported = {name for node in imports for name in _bound(node)}
        self._modules = {name for node in imports for name in _standard(node)}

    def needed(self) -> list[int]:
        """Numbers of the statements to keep, in order."""
        names = {self._entry}
        kept: set[int] = set()
        grown = True
        while grown:
            grown = False
            for number, node in enumerate(self._body):
                if number not in kept and self._is_needed(number, node, names):
                    kept.add(number)
                    names |= self._uses[number] | self._binds[number]
                    grown = True
            if DYNAMIC & names:
                names |= {name for n, found in enumerate(self._binds) for name in found
                          if not self._is_example(n)}  # fmt: skip
        return sorted(kept)

    def _is_needed(self, number: int, node: ast.stmt, names: set[str]) -> bool:
        if isinstance(node, ast.ImportFrom) and (
            node.module == "__future__" or node.names[0].name == "*"
        ):
            return True
        if isinstance(node, Function | ast.ClassDef | ast.Import | ast.ImportFrom):
            registers = isinstance(node, Function | ast.ClassDef) and self._registers(node, names)
            return registers or bool(self._binds[number] & names)
        if _is_main(node):
            return False
        if self._is_example(number):
            return self._is_loaded(number, names)
        effects = self._effects(number)
        return bool((self._binds[number] | effects) & names or self._sets_a_limit(node))

    def _registers(self, node: ast.stmt, names: set[str]) -> bool:
        """Whether a class derives from, or a decorator is, something of the program's own."""
        hooks = [*getattr(node, "bases", []), *getattr(node, "decorator_list", [])]
        roots = {n.id for hook in hooks for n in ast.walk(hook) if isinstance(n, ast.Name)}
        return bool(roots & names & self._functions.keys())

    def _is_example(self, number: int) -> bool:
        node = self._body[number]
        if isinstance(node, Function | ast.ClassDef | ast.Import | ast.ImportFrom):
            return False
        if self._entry in self._binds[number]:
            return False
        if EXAMPLE_NAMES & self._uses[number] or (
            self._entry in self._called(node) and self._entry in self._functions
        ):
            return True
        return any(
            isinstance(n, ast.Assert | ast.Raise)
            or (isinstance(n, ast.Attribute) and n.attr in EXAMPLE_ATTRIBUTES)
            for n in ast.walk(node)
        )

    def _is_loaded(self, number: int, names: set[str]) -> bool:
        """Whether an example gives a value that is needed: dropping it would be an error too."""
        others = {name for n, found in enumerate(self._binds) if n != number for name in found}
        return bool(self._binds[number] & (names - others))

    def _called(self, node: ast.AST) -> set[str]:
        return {
            n.func.id
            for n in ast.walk(node)
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        }

    def _effects(self, number: int) -> set[str]:
        """Names that a statement changes, also through the functions that it calls."""
        found = set(self._changes[number])
        node = self._body[number]
        todo, seen = self._called(node), set()
        while todo:
            name = todo.pop()
            for inner in self._functions.get(name, ()) if name not in seen else ():
                found |= self._changes[inner]
                todo |= self._called(self._body[inner])
            seen.add(name)
        return found - self._imported  # `math.sqrt(x)` changes nothing

    def _sets_a_limit(self, node: ast.stmt) -> bool:
        """Whether a statement changes the standard library: recursion limit, precision, seed."""
        target = node.value if isinstance(node, ast.Expr) else None
        if isinstance(node, ast.Assign | ast.AugAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if not isinstance(target, ast.Attribute):
                return False
        return target is not None and _root(target, through_calls=True) in self._modules


def _standard(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Names that an import binds to parts of the standard library."""
    for alias in node.names:
        module = node.module if isinstance(node, ast.ImportFrom) else alias.name
        if (module or "").split(".")[0] in sys.stdlib_module_names:
            yield (alias.asname or alias.name).split(".")[0]


def _root(node: ast.AST, *, through_calls: bool = False) -> str:
    """The name that an attribute or item belongs to; "" where it belongs to a call's result."""
    while not isinstance(node, ast.Name):
        if isinstance(node, ast.Attribute | ast.Subscript | ast.Starred | ast.Await):
            node = node.value
        elif isinstance(node, ast.Call) and through_calls:
            node = node.func
        else:
            return ""
    return node.id


def _used(node: ast.AST) -> set[str]:
    """Names of the module that a statement uses, in strings too where it evaluates strings."""
    names = _free([node], None)
    texts = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
    for text in texts:
        if isinstance(text, str) and (text.isidentifier() or {"eval", "exec"} & names):
            names.update(re.findall(r"\w+", text))
    return names


def _free(nodes: Iterable[ast.AST], bound: set[str] | None) -> set[str]:
    """Names that the nodes of one scope take from outside of it.

    Args:
        nodes: the body of the scope.
        bound: its parameters; None for the module and for classes, whose names stay visible.
    """
    loads: set[str] = set()
    stores: set[str] = set(bound or ())
    outer: set[str] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Name):
            (loads if isinstance(node.ctx, ast.Load) else stores).add(node.id)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            loads.add(node.target.id)
        elif isinstance(node, ast.Global):
            outer.update(node.names)
        elif isinstance(node, ast.alias):
            stores.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            stores.add(node.name)
        if isinstance(node, Function | ast.Lambda):
            body = node.body if isinstance(node.body, list) else [node.body]
            arguments = [n for n in ast.walk(node.args) if isinstance(n, ast.arg)]
            loads |= _free(body, {argument.arg for argument in arguments})
            stack += [node.args, *getattr(node, "decorator_list", [])]
            if not isinstance(node, ast.Lambda):
                stores.add(node.name)
                stack += [node.returns] if node.returns else []
        elif isinstance(node, ast.ClassDef):
            stores.add(node.name)
            loads |= _free(node.body, None)
            stack += [*node.bases, *node.keywords, *node.decorator_list]
        elif isinstance(node, Comprehension):
            loads |= _free(ast.iter_child_nodes(node), set())
        else:
            stack += ast.iter_child_nodes(node)
    return loads | outer if bound is None else (loads - stores) | outer


def _changed(node: ast.AST) -> set[str]:
    """Names of the module whose value a statement may change in place, or as a `global`."""
    found: set[str] = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Global):
            found.update(inner.names)
        elif isinstance(inner, ast.Subscript | ast.Attribute):
            if not isinstance(inner.ctx, ast.Load):
                found.add(_root(inner))
        elif isinstance(inner, ast.Call):
            if isinstance(inner.func, ast.Attribute):
                found.add(_root(inner.func))
            found.update(n.id for n in inner.args if isinstance(n, ast.Name))
    return found & _free([node], None) - GIVEN
