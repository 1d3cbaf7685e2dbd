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

Term = tuple  # (kind, *children): children are terms
Function = ast.FunctionDef | ast.AsyncFunctionDef
NAME, BLOCK = "name", "block"
NONE: Term = ("constant:None",)
UNORDERED = {BLOCK, "Add", "Mult", "BitOr", "BitAnd", "BitXor", "And", "Or", "Eq", "NotEq", "Set",
             "Dict", "keywords"}  # fmt: skip
SWAPPED = {"Gt": "Lt", "GtE": "LtE"}
NEGATED = {"Eq": "NotEq", "NotEq": "Eq", "In": "NotIn", "NotIn": "In", "Is": "IsNot", "IsNot": "Is"}
EMPTY_VALUES = (("List",), ("Dict",), ("Tuple",), ("constant:''",), ("constant:False",))
EMPTY_LITERALS = {"list": "List", "dict": "Dict", "tuple": "Tuple"}
COMPREHENSIONS = {"list": "ListComp", "set": "SetComp"}
# Functions for which a list and a generator are the same argument.
ITERABLE_CONSUMERS = {"sum", "any", "all", "max", "min", "sorted", "set", "tuple", "dict",
                      "frozenset", "Counter", "join", "list", "enumerate", "reduce"}  # fmt: skip


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
                is_node = isinstance(item, ast.AST)
                children.append(self.term(item) if is_node else (f"field:{item}",))
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
        return ("lambda", self._inner(parameters(node)).term(node.body))

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp
    ) -> Term:
        results = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        inner, parts = self, []
        for generator in node.generators:
            source = inner.term(generator.iter)
            names = [n.id for n in ast.walk(generator.target) if isinstance(n, ast.Name)]
            inner = inner._inner(names)
            parts.append(("for", inner.term(generator.target), source, *inner.terms(generator.ifs)))
        return (type(node).__name__, *inner.terms(results), *parts)

    _ListComp = _SetComp = _GeneratorExp = _DictComp = _comprehension

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
        if isinstance(function, ast.Lambda) and len(names := parameters(function)) == 1:
            inner = self._inner(names)
            parameter = inner.term(ast.Name(names[0], ast.Load()))
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


def conditional_as_test(test: Term, body: Term, other: Term) -> Term | None:
    """Return `True if test else False` as the test, or None for other values."""
    if (body, other) == (("constant:True",), ("constant:False",)):
        return test
    if (body, other) == (("constant:False",), ("constant:True",)):
        return negate(test)
    return None


def negate(term: Term) -> Term:
    """Return the negation of a condition."""
    if term[0] == "Not":
        return term[1]
    if term[0] in ("Lt", "LtE"):
        return ("LtE" if term[0] == "Lt" else "Lt", term[2], term[1])
    return (NEGATED[term[0]], *term[1:]) if term[0] in NEGATED else ("Not", term)


def compare(kind: str, left: Term, right: Term) -> Term:
    """Return a comparison with `<` for `>` and a truth test for a test of emptiness."""
    if kind in SWAPPED:
        kind, left, right = SWAPPED[kind], right, left
    if right == NONE and kind in ("Is", "IsNot"):
        kind = "Eq" if kind == "Is" else "NotEq"
    if kind in ("Eq", "NotEq", "Lt", "LtE"):
        for operand, other, is_left in ((left, right, True), (right, left, False)):
            if (is_empty := _tests_empty(kind, operand, other, is_left)) is not None:
                is_length = _is_length(operand) and other[0] in ("constant:0", "constant:1")
                term = operand[2] if is_length else operand
                return negate(term) if is_empty else term
    return (kind, left, right)


def _tests_empty(kind: str, operand: Term, other: Term, is_left: bool) -> bool | None:
    """Return whether a comparison tests that an operand is empty (True) or not (False), or None."""
    if _is_length(operand):
        if other == ("constant:0",):
            if kind in ("Eq", "NotEq"):
                return kind == "Eq"
            return False if kind == "Lt" and not is_left else None
        return True if other == ("constant:1",) and kind == "Lt" and is_left else None
    if kind not in ("Eq", "NotEq"):
        return None
    if other in EMPTY_VALUES:
        return kind == "Eq"
    return kind != "Eq" if other == ("constant:True",) else None


def _is_length(term: Term) -> bool:
    return len(term) == 3 and term[:2] == ("call", ("global:len",))
