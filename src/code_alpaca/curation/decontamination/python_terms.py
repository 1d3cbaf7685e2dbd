"""Build terms of Python expressions: nested tuples in which equivalent code is equal.

A term is `(kind, *children)`; a local name is `(NAME, key)`. Equivalent spellings have one form:
`a > b` and `b < a`, `len(x) == 0` and `not x`, `list(map(f, xs))` and a comprehension. `statements`
does the same for function bodies.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from code_alpaca.curation.decontamination.rewriting import (
    NAME,
    NONE,
    Term,
    compare,
    conditional_as_test,
    negate,
)

Function = ast.FunctionDef | ast.AsyncFunctionDef
BLOCK = "block"
UNORDERED = frozenset(
    {BLOCK, "Add", "Mult", "BitOr", "BitAnd", "BitXor", "And", "Or", "Eq", "NotEq", "Set", "Dict",
     "keywords"}
)  # fmt: skip
EMPTY_LITERALS = {"list": "List", "dict": "Dict", "tuple": "Tuple"}
COMPREHENSIONS = {"list": "ListComp", "set": "SetComp"}
# Functions for which a list and a generator are the same argument.
ITERABLE_CONSUMERS = frozenset(
    {"sum", "any", "all", "max", "min", "sorted", "set", "tuple", "dict", "frozenset", "Counter",
     "join", "list", "enumerate", "reduce"}
)  # fmt: skip


@dataclass
class Scope:
    """What the names in a function refer to."""

    names: dict[str, object]  # of the function: keys of their terms
    modules: Mapping[str, str] = field(default_factory=dict)  # alias: imported name
    functions: frozenset[str] = frozenset()  # defined beside or inside the function
    receiver: str = ""  # `self` of a method
    used: set[str] = field(default_factory=set)  # of `functions`


def parameters(function: Function | ast.Lambda, receiver: str = "") -> list[str]:
    """Return the names of the parameters in order, without the receiver of a method."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs]
    return [a.arg for a in (*named, arguments.kwarg) if a is not None and a.arg != receiver]


class ExpressionTerms:
    """Builds terms of expressions; a method `_<type>` handles nodes that are not just copied."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def term(self, node: ast.AST) -> Term:
        """Return the term of a node."""
        kind = type(node).__name__
        method = getattr(self, f"_{kind}", None)
        return method(node) if method else self._copy(kind, node)

    def terms(self, nodes: Iterable[ast.AST | None]) -> Iterator[Term]:
        """Return the terms of nodes, without None."""
        return (self.term(node) for node in nodes if node is not None)

    def _copy(self, kind: str, node: ast.AST) -> Term:
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
            return negate(operand)
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
        terms = [compare(*item) for item in zip(kinds, operands, operands[1:], strict=False)]
        return terms[0] if len(terms) == 1 else ("And", *terms)

    def _IfExp(self, node: ast.IfExp) -> Term:
        test, body, other = self.terms([node.test, node.body, node.orelse])
        if (condition := conditional_as_test(test, body, other)) is not None:
            return condition
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
        is_builtin = not node.keywords and function[0] == f"global:{name}"
        if is_builtin and (term := self._builtin_call(name, node, arguments)) is not None:
            return term
        if name in ITERABLE_CONSUMERS and arguments and arguments[0][0] == "ListComp":
            arguments[0] = ("GeneratorExp", *arguments[0][1:])
        keywords = [(f"keyword:{k.arg}", self.term(k.value)) for k in node.keywords]
        return ("call", function, *arguments, *([("keywords", *keywords)] if keywords else []))

    def _builtin_call(self, name: str, node: ast.Call, arguments: list[Term]) -> Term | None:
        if name in EMPTY_LITERALS and not arguments:
            return (EMPTY_LITERALS[name],)
        if name in ("map", "filter") and len(arguments) == 2:
            return self._map_or_filter(name, node.args[0], arguments)
        comprehended = arguments and arguments[0][0] in ("GeneratorExp", "ListComp")
        if name in COMPREHENSIONS and len(arguments) == 1 and comprehended:
            return (COMPREHENSIONS[name], *arguments[0][1:])
        if name == "range" and len(arguments) == 2 and arguments[0] == ("constant:0",):
            return ("call", ("global:range",), arguments[1])
        if name == "pow" and len(arguments) == 2:
            return ("Pow", *arguments)
        return None

    def _map_or_filter(self, name: str, function: ast.expr, arguments: list[Term]) -> Term:
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

    def _inner(self, names: Iterable[str]) -> ExpressionTerms:
        """Return a builder for an inner scope, whose names differ from all others."""
        new = {name: object() for name in names}
        return ExpressionTerms(replace(self.scope, names={**self.scope.names, **new}))
