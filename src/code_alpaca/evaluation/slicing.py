"""Slice a program: keep the statements that its entry point needs, drop its examples.

Needed are all names that the entry point uses, directly or through others, and every statement
that changes a needed object: one that fills a table, calls a function that fills it, registers a
subclass, or sets a limit of the standard library. Dropped are tests and examples: statements that
print, read input, assert, exit or call the entry point, and a main block.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
from collections.abc import Iterable

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
EXAMPLE_NAMES = frozenset(
    {"print", "pprint", "input", "exit", "quit", "breakpoint", "unittest", "doctest", "pytest",
     "timeit", "pdb", "argparse", "logging", "logger"}
)  # fmt: skip
EXAMPLE_ATTRIBUTES = frozenset({"exit", "_exit", "stdin", "argv", "sleep", "set_trace"})
DYNAMIC = frozenset({"eval", "exec", "globals", "locals", "vars", "getattr", "__import__"})
PREDEFINED = frozenset(dir(builtins)) | {"__name__", "__file__", "__doc__", "__annotations__"}


def slice_program(code: str, tree: ast.Module, entry_point: str) -> str:
    """Return the statements of `code`, parsed as `tree`, that `entry_point` needs, unchanged."""
    needed = _Program(tree, entry_point).needed_statements()
    return "".join(f"{statement_source(code, tree.body[index])}\n" for index in needed)


def statement_source(code: str, node: ast.stmt) -> str:
    """Return the text of a top-level statement, with decorators and trailing comment."""
    decorators = getattr(node, "decorator_list", [])
    first = min(part.lineno for part in (node, *decorators))
    lines = code.split("\n")[first - 1 : node.end_lineno]
    if decorators or (node.col_offset == 0 and ";" not in lines[-1]):
        return "\n".join(lines)
    return ast.get_source_segment(code, node) or ""


def undefined_names(tree: ast.Module) -> set[str]:
    """Return the names that a module uses and does not define, such as another file's helper."""
    used, defined = set(), set(PREDEFINED)
    for node in ast.walk(tree):
        if isinstance(node, ast.alias) and node.name == "*":
            return set()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            used.add(node.id)
        defined.add(node.arg if isinstance(node, ast.arg) else _stored_name(node))
    return used - defined


def bound_names(node: ast.stmt) -> set[str]:
    """Return the module's names that a statement binds, also within `if`, `try` and loops.

    A main block binds none.
    """
    names: set[str] = set()
    stack: list[ast.AST] = [] if _is_main(node) else [node]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Lambda | Comprehension):
            continue
        if isinstance(node, ast.Name | ast.alias | Definition):
            names.add(_stored_name(node))
        if not isinstance(node, Definition):
            stack += ast.iter_child_nodes(node)
    return names - {""}


def _stored_name(node: ast.AST) -> str:
    """Return the name that a node binds in its scope, without those of its children; else ""."""
    match node:
        case ast.Name(name, ast.Store()):
            return name
        case ast.alias():
            return (node.asname or node.name).split(".")[0]
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return node.name
        case ast.ExceptHandler() | ast.MatchAs() | ast.MatchStar():
            return node.name or ""
        case ast.MatchMapping():
            return node.rest or ""
        case _:
            return ""


def _is_main(node: ast.stmt) -> bool:
    if not isinstance(node, ast.If):
        return False
    return any(isinstance(n, ast.Name) and n.id == "__name__" for n in ast.walk(node.test))


class _Program:
    """The top-level statements of one program: what each binds, uses and changes."""

    def __init__(self, tree: ast.Module, entry_point: str) -> None:
        self._body = tree.body
        self._entry_point = entry_point
        self._binds = [bound_names(node) for node in self._body]
        self._uses = [_used_names(node) for node in self._body]
        self._changes = [_changed_names(node) for node in self._body]
        self._functions: dict[str, list[int]] = {}
        for index, node in enumerate(self._body):
            if isinstance(node, Definition):
                self._functions.setdefault(node.name, []).append(index)
        imports = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
        self._imported = {_stored_name(alias) for node in imports for alias in node.names}
        self._standard_library = {
            _stored_name(alias)
            for node in imports
            for alias in node.names
            if (getattr(node, "module", alias.name) or "").split(".")[0] in sys.stdlib_module_names
        }

    def needed_statements(self) -> list[int]:
        """Return the indices of the statements that the entry point needs, in order."""
        names = {self._entry_point}
        needed: set[int] = set()
        changed = True
        while changed:
            changed = False
            for index, node in enumerate(self._body):
                if index not in needed and self._is_needed(index, node, names):
                    needed.add(index)
                    names |= self._uses[index] | self._binds[index]
                    changed = True
            if DYNAMIC & names:  # any name may then be used
                used = [n for n in range(len(self._body)) if not self._is_example(n)]
                names = names.union(*(self._binds[n] for n in used))
        return sorted(needed)

    def _is_needed(self, index: int, node: ast.stmt, names: set[str]) -> bool:
        match node:
            case ast.ImportFrom("__future__") | ast.ImportFrom(names=[ast.alias("*"), *_]):
                return True
        binds = self._binds[index]
        if isinstance(node, Definition | ast.Import | ast.ImportFrom):
            return bool(binds & names) or self._registers(node, names)
        if _is_main(node):
            return False
        if self._is_example(index):  # without it, the program may lack a name
            others = {name for n, bound in enumerate(self._binds) if n != index for name in bound}
            return bool(binds & (names - others))
        return bool((binds | self._effects(index)) & names) or self._sets_a_limit(node)

    def _registers(self, node: ast.stmt, names: set[str]) -> bool:
        """Return whether a needed base class or decorator may register this definition."""
        hooks = [*getattr(node, "bases", []), *getattr(node, "decorator_list", [])]
        roots = {n.id for hook in hooks for n in ast.walk(hook) if isinstance(n, ast.Name)}
        return bool(roots & names & self._functions.keys())

    def _is_example(self, index: int) -> bool:
        node, entry_point = self._body[index], self._entry_point
        is_definition = isinstance(node, Definition | ast.Import | ast.ImportFrom)
        if is_definition or entry_point in self._binds[index]:
            return False
        calls_entry_point = entry_point in self._functions and entry_point in _called_names(node)
        if calls_entry_point or EXAMPLE_NAMES & self._uses[index]:
            return True
        nodes = list(ast.walk(node))
        attributes = {n.attr for n in nodes if isinstance(n, ast.Attribute)}
        asserts = any(isinstance(n, ast.Assert | ast.Raise) for n in nodes)
        return asserts or bool(attributes & EXAMPLE_ATTRIBUTES)

    def _effects(self, index: int) -> set[str]:
        """Return the names that a statement changes, also through functions that it calls."""
        changed, visited = set(self._changes[index]), set()
        pending = _called_names(self._body[index])
        while pending:
            visited.add(name := pending.pop())
            for inner in self._functions.get(name, ()):
                changed |= self._changes[inner]
                pending |= _called_names(self._body[inner]) - visited
        return changed - self._imported  # `math.sqrt(x)` changes nothing

    def _sets_a_limit(self, node: ast.stmt) -> bool:
        """Return whether a statement sets a recursion limit, decimal precision or RNG seed."""
        match node:
            case (
                ast.Expr(target)
                | ast.Assign([ast.Attribute() as target, *_])
                | ast.AugAssign(ast.Attribute() as target)
            ):
                return _root_name(target, through_calls=True) in self._standard_library
            case _:
                return False


def _called_names(node: ast.AST) -> set[str]:
    calls = [n.func for n in ast.walk(node) if isinstance(n, ast.Call)]
    return {function.id for function in calls if isinstance(function, ast.Name)}


def _root_name(node: ast.AST, *, through_calls: bool = False) -> str:
    """Return the name that an attribute or item is accessed on; "" for a call's result."""
    while not isinstance(node, ast.Name):
        if isinstance(node, ast.Attribute | ast.Subscript | ast.Starred | ast.Await):
            node = node.value
        elif isinstance(node, ast.Call) and through_calls:
            node = node.func
        else:
            return ""
    return node.id


def _used_names(node: ast.AST) -> set[str]:
    """Return the module's names that a statement uses, also in strings that it may evaluate."""
    names = _free_names([node], None)
    constants = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
    for text in constants:
        if isinstance(text, str) and (text.isidentifier() or {"eval", "exec"} & names):
            names.update(re.findall(r"\w+", text))
    return names


def _free_names(nodes: Iterable[ast.AST], bound: set[str] | None) -> set[str]:
    """Return the names that the body of a scope takes from an outer scope.

    `bound` are its parameters; None for the module and for classes, whose names stay visible.
    """
    loads, stores, outer = set(), set(bound or ()), set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        stores.add(_stored_name(node))
        match node:
            case ast.Name(name, ast.Load()) | ast.AugAssign(ast.Name(name)):
                loads.add(name)
            case ast.Global(names):
                outer.update(names)
        if isinstance(node, Function | ast.Lambda):
            body = node.body if isinstance(node.body, list) else [node.body]
            arguments = [n for n in ast.walk(node.args) if isinstance(n, ast.arg)]
            loads |= _free_names(body, {argument.arg for argument in arguments})
            stack += [node.args, *getattr(node, "decorator_list", [])]
            stack += [node.returns] if getattr(node, "returns", None) else []
        elif isinstance(node, ast.ClassDef):
            loads |= _free_names(node.body, None)
            stack += [*node.bases, *node.keywords, *node.decorator_list]
        elif isinstance(node, Comprehension):
            loads |= _free_names(ast.iter_child_nodes(node), set())
        else:
            stack += ast.iter_child_nodes(node)
    return loads | outer if bound is None else (loads - stores) | outer


def _changed_names(node: ast.AST) -> set[str]:
    """Return the module's names whose value a statement may change in place, or as a `global`."""
    changed: set[str] = set()
    for inner in ast.walk(node):
        match inner:
            case ast.Global(names):
                changed.update(names)
            case ast.Subscript(ctx=context) | ast.Attribute(ctx=context):
                if not isinstance(context, ast.Load):
                    changed.add(_root_name(inner))
            case ast.Call(function, arguments):
                if isinstance(function, ast.Attribute):
                    changed.add(_root_name(function))
                changed.update(n.id for n in arguments if isinstance(n, ast.Name))
    return changed & _free_names([node], None) - PREDEFINED
