"""Python functions as terms: nested tuples in which equal programs look equal.

A term is `(kind, *children)`, a name given out by the function is `(NAME, key)`. Left out is what
does not change what a function computes for valid input: annotations, docstrings, `print`,
logging, assertions, `raise` guards and handlers, `async`, imports. Equivalent spellings get one
form: `a > b` and `b < a`, `x += 1`, `len(x) == 0` and `not x`, `list(map(f, xs))` and a
comprehension, `else` after a return, a result that is named before it is returned.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from code_alpaca.curation.decontamination.spellings import (
    NAME,
    NONE,
    Term,
    comparison,
    loop_body,
    negation,
    simplified_block,
    truth,
)

Function = ast.FunctionDef | ast.AsyncFunctionDef
BLOCK = "block"
UNORDERED = frozenset(
    {BLOCK, "Add", "Mult", "BitOr", "BitAnd", "BitXor", "And", "Or", "Eq", "NotEq", "Set", "Dict",
     "keywords"}
)  # fmt: skip
EMPTY = {"list": "List", "dict": "Dict", "tuple": "Tuple"}
COMPREHENSIONS = {"list": "ListComp", "set": "SetComp"}
CONSUMERS = frozenset(
    {"sum", "any", "all", "max", "min", "sorted", "set", "tuple", "dict", "frozenset", "Counter",
     "join", "list", "enumerate", "reduce"}
)  # fmt: skip
SHOWN = frozenset({"print", "pprint", "logging", "logger", "log", "warnings"})
LEAVES = frozenset({"return", "break", "continue"})


@dataclass
class Scope:
    """What the names of a function mean: its own, those of modules, and other functions."""

    names: dict[str, object]
    modules: Mapping[str, str] = field(default_factory=dict)  # alias: imported name
    functions: frozenset[str] = frozenset()  # defined beside or inside of it
    receiver: str = ""  # `self` of a method
    used: set[str] = field(default_factory=set)  # of the functions


def parameters(function: Function | ast.Lambda, receiver: str = "") -> list[str]:
    """Return the names of the parameters in order, without the receiver of a method."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs]
    return [a.arg for a in (*named, arguments.kwarg) if a is not None and a.arg != receiver]


def imported(tree: ast.AST) -> dict[str, str]:
    """Return what each imported name stands for, without the module: `sqrt` for `math.sqrt`."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update({(a.asname or a.name).split(".")[0]: "" for a in node.names})
        elif isinstance(node, ast.ImportFrom):
            found.update({a.asname or a.name: a.name for a in node.names})
    return found


def function_term(function: Function | ast.Lambda, scope: Scope) -> Term:
    """Return the body of a function as a block; functions defined inside of it are left out."""
    if isinstance(function, ast.Lambda):
        return _block([("return", _Expressions(scope).term(function.body))])
    builder = _Statements(scope)
    body = builder.block(function.body)
    while body and body[-1] in (("return", NONE), ("return",)):
        body = body[:-1]
    return (BLOCK, *body)


def local_names(function: Function | ast.Lambda) -> set[str]:
    """Return the names that a function assigns, without those of functions inside of it."""
    found: set[str] = set()
    stack: list[ast.AST] = list(function.body) if isinstance(function.body, list) else []
    while stack:
        node = stack.pop()
        if isinstance(node, Function | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        stack += ast.iter_child_nodes(node)
    return found


def _block(statements: Iterable[Term]) -> Term:
    return (BLOCK, *statements)


class _Expressions:
    """Builds terms of expressions; `_<type>` methods exist where a node needs more than a copy."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def term(self, node: ast.AST) -> Term:
        kind = type(node).__name__
        method = getattr(self, f"_{kind}", None)
        return method(node) if method else self._copied(kind, node)

    def terms(self, nodes: Iterable[ast.AST | None]) -> Iterator[Term]:
        return (self.term(node) for node in nodes if node is not None)

    def _copied(self, kind: str, node: ast.AST) -> Term:
        children: list[Term] = []
        for name, value in ast.iter_fields(node):
            if name == "ctx" or value is None:
                continue
            for item in value if isinstance(value, list) else [value]:
                children.append(
                    self.term(item) if isinstance(item, ast.AST) else (f"field:{item}",)
                )
        return (kind, *children)

    def _Name(self, node: ast.Name) -> Term:
        if node.id in self.scope.names:
            return (NAME, self.scope.names[node.id])
        if node.id in self.scope.functions:
            self.scope.used.add(node.id)
            return ("function",)
        return (f"global:{self.scope.modules.get(node.id) or node.id}",)

    def _Constant(self, node: ast.Constant) -> Term:
        return (f"constant:{node.value!r}",)

    def _Attribute(self, node: ast.Attribute) -> Term:
        value = node.value
        if isinstance(value, ast.Name) and value.id not in self.scope.names:
            if value.id == self.scope.receiver and node.attr in self.scope.functions:
                self.scope.used.add(node.attr)
                return ("function",)
            module = self.scope.modules.get(value.id)
            if module == "" or (module is None and value.id in sys.stdlib_module_names):
                return (f"global:{node.attr}",)
        return (f"attribute:{node.attr}", self.term(value))

    def _Await(self, node: ast.Await) -> Term:
        return self.term(node.value)

    def _UnaryOp(self, node: ast.UnaryOp) -> Term:
        operand = self.term(node.operand)
        if isinstance(node.op, ast.Not):
            return negation(operand)
        if isinstance(node.op, ast.USub) and operand[0].startswith("constant:"):
            return (f"constant:-{operand[0][9:]}",)
        return (type(node.op).__name__, operand)

    def _BinOp(self, node: ast.BinOp) -> Term:
        kind = type(node.op).__name__
        children: list[Term] = []
        for child in (self.term(node.left), self.term(node.right)):
            children += child[1:] if child[0] == kind and kind in UNORDERED else [child]
        return (kind, *children)

    def _BoolOp(self, node: ast.BoolOp) -> Term:
        return (type(node.op).__name__, *self.terms(node.values))

    def _Compare(self, node: ast.Compare) -> Term:
        operands = list(self.terms([node.left, *node.comparators]))
        kinds = [type(op).__name__ for op in node.ops]
        found = [comparison(*item) for item in zip(kinds, operands, operands[1:], strict=False)]
        return found[0] if len(found) == 1 else ("And", *found)

    def _IfExp(self, node: ast.IfExp) -> Term:
        test, body, other = self.terms([node.test, node.body, node.orelse])
        if (found := truth(test, body, other)) is not None:
            return found
        return ("if", test[1], other, body) if test[0] == "Not" else ("if", test, body, other)

    def _Slice(self, node: ast.Slice) -> Term:
        parts = [NONE if n is None else self.term(n) for n in (node.lower, node.upper, node.step)]
        if parts[0] == ("constant:0",):
            parts[0] = NONE
        return ("slice", *parts)

    def _Dict(self, node: ast.Dict) -> Term:
        pairs = zip(node.keys, node.values, strict=True)
        return ("Dict", *(("pair", *self.terms([key, value])) for key, value in pairs))

    def _Lambda(self, node: ast.Lambda) -> Term:
        inner = self._inner(parameters(node))
        return ("lambda", inner.term(node.body))

    def _ListComp(self, node: ast.ListComp) -> Term:
        return self._comprehension("ListComp", node.generators, [node.elt])

    def _SetComp(self, node: ast.SetComp) -> Term:
        return self._comprehension("SetComp", node.generators, [node.elt])

    def _GeneratorExp(self, node: ast.GeneratorExp) -> Term:
        return self._comprehension("GeneratorExp", node.generators, [node.elt])

    def _DictComp(self, node: ast.DictComp) -> Term:
        return self._comprehension("DictComp", node.generators, [node.key, node.value])

    def _comprehension(
        self, kind: str, generators: list[ast.comprehension], results: list[ast.expr]
    ) -> Term:
        inner, parts = self, []
        for generator in generators:
            source = inner.term(generator.iter)
            names = [n.id for n in ast.walk(generator.target) if isinstance(n, ast.Name)]
            inner = inner._inner(names)
            parts.append(("for", inner.term(generator.target), source, *inner.terms(generator.ifs)))
        return (kind, *inner.terms(results), *parts)

    def _Call(self, node: ast.Call) -> Term:
        function = self.term(node.func)
        arguments = list(self.terms(node.args))
        name = function[0].partition(":")[2]
        known = not node.keywords and function[0] == f"global:{name}"
        if known and (found := self._known_call(name, node, arguments)) is not None:
            return found
        if name in CONSUMERS and arguments and arguments[0][0] == "ListComp":
            arguments[0] = ("GeneratorExp", *arguments[0][1:])
        keywords = [(f"keyword:{k.arg}", self.term(k.value)) for k in node.keywords]
        return ("call", function, *arguments, *([("keywords", *keywords)] if keywords else []))

    def _known_call(self, name: str, node: ast.Call, arguments: list[Term]) -> Term | None:
        if name in EMPTY and not arguments:
            return (EMPTY[name],)
        if name in ("map", "filter") and len(arguments) == 2:
            return self._mapped(name, node.args[0], arguments)
        made = [a for a in arguments if a[0] in ("GeneratorExp", "ListComp")]
        if name in COMPREHENSIONS and len(arguments) == len(made) == 1:
            return (COMPREHENSIONS[name], *arguments[0][1:])
        if name == "range" and len(arguments) == 2 and arguments[0] == ("constant:0",):
            return ("call", ("global:range",), arguments[1])
        if name == "pow" and len(arguments) == 2:
            return ("Pow", *arguments)
        return None

    def _mapped(self, name: str, function: ast.expr, arguments: list[Term]) -> Term:
        if isinstance(function, ast.Lambda) and len(parameters(function)) == 1:
            inner = self._inner(parameters(function))
            (parameter,) = inner.terms([ast.Name(parameters(function)[0], ast.Load())])
            result = inner.term(function.body)
        else:
            parameter = (NAME, object())
            result = ("call", arguments[0], parameter)
            if name == "filter" and arguments[0] == NONE:
                result = parameter
        if name == "map":
            return ("GeneratorExp", result, ("for", parameter, arguments[1]))
        return ("GeneratorExp", parameter, ("for", parameter, arguments[1], result))

    def _inner(self, names: Iterable[str]) -> _Expressions:
        """The same with names of an inner scope, each another one than all before."""
        scope = self.scope
        fresh = {name: object() for name in names}
        return _Expressions(
            Scope({**scope.names, **fresh}, scope.modules, scope.functions, scope.receiver,
                  scope.used)
        )  # fmt: skip


class _Statements(_Expressions):
    """Builds the terms of blocks."""

    def block(self, nodes: Iterable[ast.stmt]) -> list[Term]:
        found: list[Term] = []
        for node in nodes:
            found += self.statement(node)
        return simplified_block(found)

    def statement(self, node: ast.stmt) -> list[Term]:
        method = getattr(self, f"_on_{type(node).__name__}", None)
        return method(node) if method else [self._copied(type(node).__name__, node)]

    def _nothing(self, node: ast.stmt) -> list[Term]:
        return []

    _on_FunctionDef = _on_AsyncFunctionDef = _on_ClassDef = _nothing
    _on_Import = _on_ImportFrom = _on_Pass = _on_Assert = _on_Raise = _nothing
    _on_Global = _on_Nonlocal = _nothing

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
        if isinstance(value, ast.Call) and _root(value.func) in SHOWN:
            return []
        return [("expression", self.term(value))]

    def _on_Assign(self, node: ast.Assign) -> list[Term]:
        value, names = node.value, {getattr(target, "id", "") for target in node.targets}
        if isinstance(value, ast.Lambda) and names & self.scope.functions:
            return []
        pairs: list[tuple[ast.expr, ast.expr]] = []
        for target in node.targets:
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and _apart(node):
                pairs += zip(target.elts, value.elts, strict=True)
            else:
                pairs.append((target, value))
        return [self._assigned(self.term(t), self.term(v)) for t, v in pairs]

    def _on_AnnAssign(self, node: ast.AnnAssign) -> list[Term]:
        if node.value is None:
            return []
        return [self._assigned(self.term(node.target), self.term(node.value))]

    def _on_AugAssign(self, node: ast.AugAssign) -> list[Term]:
        combined = ast.BinOp(node.target, node.op, node.value)
        return [self._assigned(self.term(node.target), self._BinOp(combined))]

    def _assigned(self, target: Term, value: Term) -> Term:
        if value[:2] == ("Add", target) and len(value) == 3 and value[2][0] == "List":  # x += [y]
            added = value[2][1:]
            if len(added) == 1:
                return ("expression", ("call", ("attribute:append", target), *added))
        return ("assign", target, value)

    def _on_If(self, node: ast.If) -> list[Term]:
        test, body, other = self.term(node.test), self.block(node.body), self.block(node.orelse)
        if not body and not other:
            return []
        if not body or (test[0] == "Not" and other):
            test, body, other = negation(test), other, body
        if body[-1][0] in LEAVES or not other:
            if len(body) == 1 and body[0][0] == "if" and len(body[0]) == 3 and not other:
                return [("if", ("And", test, body[0][1]), body[0][2])]
            return [("if", test, _block(body)), *other]
        return [("if", test, _block(body), _block(other))]

    def _on_For(self, node: ast.For | ast.AsyncFor) -> list[Term]:
        target, source = self.terms([node.target, node.iter])
        if source[0] == "call" and source[1][0] == "attribute:keys" and len(source) == 2:
            source = source[1][1]
        loop = ("for", target, source, _block(loop_body(self.block(node.body))))
        return [loop, *self.block(node.orelse)]

    _on_AsyncFor = _on_For

    def _on_While(self, node: ast.While) -> list[Term]:
        loop = ("while", self.term(node.test), _block(loop_body(self.block(node.body))))
        return [loop, *self.block(node.orelse)]

    def _on_Try(self, node: ast.Try) -> list[Term]:
        return self.block([*node.body, *node.orelse, *node.finalbody])

    def _on_With(self, node: ast.With | ast.AsyncWith) -> list[Term]:
        opened = [("with", *self.terms([i.context_expr, i.optional_vars])) for i in node.items]
        return [*opened, *self.block(node.body)]

    _on_AsyncWith = _on_With


def _apart(node: ast.Assign) -> bool:
    """Whether a tuple assignment is the same as one after the other: `a, b = 0, 1`."""
    target, value = node.targets[0], node.value
    if not (isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)):
        return False
    names = {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
    read = {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
    starred = any(isinstance(n, ast.Starred) for n in (*target.elts, *value.elts))
    return len(target.elts) == len(value.elts) and not starred and not names & read


def _root(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
