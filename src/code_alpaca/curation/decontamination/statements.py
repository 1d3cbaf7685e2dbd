"""Build terms of Python functions: equivalent functions have equal terms.

Left out is what does not change the result for valid input: annotations, docstrings, output,
assertions, `raise` guards and handlers, `async`, imports. Equivalent spellings have one form: `x +=
1`, `else` after a return, a result that is named before it is returned.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable

from code_alpaca.curation.decontamination.python_terms import (
    BLOCK,
    NAME,
    NONE,
    ExpressionTerms,
    Function,
    Scope,
    Term,
    conditional_as_test,
    negate,
)

OUTPUT_FUNCTIONS = {"print", "pprint", "logging", "logger", "log", "warnings"}
JUMPS = {"return", "break", "continue"}


def function_term(function: Function | ast.Lambda, scope: Scope) -> Term:
    """Return the body of a function as a block, without functions defined inside it."""
    if isinstance(function, ast.Lambda):
        return _block([("return", ExpressionTerms(scope).term(function.body))])
    body = StatementTerms(scope).block(function.body)
    while body and body[-1] in (("return", NONE), ("return",)):
        body = body[:-1]
    return _block(body)


def find_imports(tree: ast.AST) -> dict[str, str]:
    """Return the imported names with their original name, or "" for modules."""
    imports = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports.update({(a.asname or a.name).split(".")[0]: "" for a in node.names})
        elif isinstance(node, ast.ImportFrom):
            imports.update({a.asname or a.name: a.name for a in node.names})
    return imports


def find_local_names(function: Function | ast.Lambda) -> set[str]:
    """Return the names that a function assigns, without those of functions inside it."""
    names: set[str] = set()
    stack: list[ast.AST] = list(function.body) if isinstance(function.body, list) else []
    while stack:
        node = stack.pop()
        if isinstance(node, Function | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        stack += ast.iter_child_nodes(node)
    return names


class StatementTerms(ExpressionTerms):
    """Builds terms of blocks; a method `_on_<type>` handles statements that are not just copied."""

    def block(self, nodes: Iterable[ast.stmt]) -> list[Term]:
        """Return the terms of a block."""
        return _simplify_block([term for node in nodes for term in self.statement(node)])

    def statement(self, node: ast.stmt) -> list[Term]:
        """Return the terms of a statement; none if it is ignored."""
        method = getattr(self, f"_on_{type(node).__name__}", None)
        return method(node) if method else [self._copy(type(node).__name__, node)]

    def _ignore(self, node: ast.stmt) -> list[Term]:
        return []

    _on_FunctionDef = _on_AsyncFunctionDef = _on_ClassDef = _ignore
    _on_Import = _on_ImportFrom = _on_Pass = _on_Assert = _on_Raise = _ignore
    _on_Global = _on_Nonlocal = _ignore

    def _on_Return(self, node: ast.Return) -> list[Term]:
        if node.value is None:
            return [("return", NONE)]
        value = self.term(node.value)
        if value[0] == "if":
            return [("if", value[1], _block([("return", value[2])])), ("return", value[3])]
        return [("return", value)]

    def _on_Expr(self, node: ast.Expr) -> list[Term]:
        value = node.value.value if isinstance(node.value, ast.Await) else node.value
        if isinstance(value, ast.Constant):
            return []
        if isinstance(value, ast.Call) and _root_name(value.func) in OUTPUT_FUNCTIONS:
            return []
        return [("expression", self.term(value))]

    def _on_Assign(self, node: ast.Assign) -> list[Term]:
        value, names = node.value, {getattr(target, "id", "") for target in node.targets}
        if isinstance(value, ast.Lambda) and names & self.scope.functions:
            return []
        pairs: list[tuple[ast.expr, ast.expr]] = []
        for target in node.targets:
            if isinstance(target, ast.Tuple) and _is_sequential(node):
                pairs += zip(target.elts, value.elts, strict=True)
            else:
                pairs.append((target, value))
        return [self._assign(self.term(t), self.term(v)) for t, v in pairs]

    def _on_AnnAssign(self, node: ast.AnnAssign) -> list[Term]:
        if node.value is None:
            return []
        return [self._assign(self.term(node.target), self.term(node.value))]

    def _on_AugAssign(self, node: ast.AugAssign) -> list[Term]:
        combined = ast.BinOp(node.target, node.op, node.value)
        return [self._assign(self.term(node.target), self._BinOp(combined))]

    def _assign(self, target: Term, value: Term) -> Term:
        if value[:2] == ("Add", target) and len(value) == 3:
            added = value[2]
            if added[0] == "List" and len(added) == 2:  # x += [y]
                return ("expression", ("call", ("attribute:append", target), added[1]))
        return ("assign", target, value)

    def _on_If(self, node: ast.If) -> list[Term]:
        test, body, other = self.term(node.test), self.block(node.body), self.block(node.orelse)
        if not body and not other:
            return []
        if not body or (test[0] == "Not" and other):
            test, body, other = negate(test), other, body
        if body[-1][0] in JUMPS or not other:
            if len(body) == 1 and body[0][0] == "if" and len(body[0]) == 3 and not other:
                return [("if", ("And", test, body[0][1]), body[0][2])]
            return [("if", test, _block(body)), *other]
        return [("if", test, _block(body), _block(other))]

    def _on_For(self, node: ast.For | ast.AsyncFor) -> list[Term]:
        target, source = self.terms([node.target, node.iter])
        if source[0] == "call" and source[1][0] == "attribute:keys" and len(source) == 2:
            source = source[1][1]
        loop = ("for", target, source, _block(_strip_continue(self.block(node.body))))
        return [loop, *self.block(node.orelse)]

    _on_AsyncFor = _on_For

    def _on_While(self, node: ast.While) -> list[Term]:
        loop = ("while", self.term(node.test), _block(_strip_continue(self.block(node.body))))
        return [loop, *self.block(node.orelse)]

    def _on_Try(self, node: ast.Try) -> list[Term]:
        return self.block([*node.body, *node.orelse, *node.finalbody])

    def _on_With(self, node: ast.With | ast.AsyncWith) -> list[Term]:
        items = [("with", *self.terms([i.context_expr, i.optional_vars])) for i in node.items]
        return [*items, *self.block(node.body)]

    _on_AsyncWith = _on_With


def _block(statements: Iterable[Term]) -> Term:
    return (BLOCK, *statements)


def _simplify_block(block: list[Term]) -> list[Term]:
    """Return a block with its last two statements in their shortest form."""
    if len(block) >= 2:
        first, last = block[-2:]
        if first[0] == "assign" and last == ("return", first[1]) and first[1][0] == NAME:
            return _simplify_block([*block[:-2], ("return", first[2])])
        if first[0] == "if" and len(first) == 3 and last[0] == "return" and len(first[2]) == 2:
            inner = first[2][1]
            if inner[0] == "return":
                test = conditional_as_test(first[1], inner[1], last[1])
                return block if test is None else [*block[:-2], ("return", test)]
    return block


def _strip_continue(block: list[Term]) -> list[Term]:
    """Return the body of a loop without `continue` at its end."""
    return block[:-1] if block and block[-1][0] in ("continue", "Continue") else block


def _is_sequential(node: ast.Assign) -> bool:
    """Return whether a tuple assignment equals one after the other: `a, b = 0, 1`."""
    target, value = node.targets[0], node.value
    if not (isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)):
        return False
    names = {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
    read = {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
    starred = any(isinstance(n, ast.Starred) for n in (*target.elts, *value.elts))
    return len(target.elts) == len(value.elts) and not starred and not names & read


def _root_name(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
