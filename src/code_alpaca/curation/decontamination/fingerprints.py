"""Fingerprint Python functions: equal after renaming and reordering of independent statements.

The statements of a block are hashed as a bag, and a name by its uses: two rounds of the
Weisfeiler-Lehman test color it by its place among the parameters and by the statements with it.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from code_alpaca.curation.decontamination.python_terms import (
    BLOCK,
    NAME,
    UNORDERED,
    Function,
    Scope,
    Term,
    parameters,
)
from code_alpaca.curation.decontamination.statements import (
    find_imports,
    find_local_names,
    function_term,
)

ROUNDS = 2
MASK = (1 << 62) - 1
STATEMENT_PARENTS = ast.stmt | ast.ExceptHandler | ast.match_case


class Fingerprint(NamedTuple):
    """The fingerprint of a function, alone and with the functions that it calls."""

    name: str
    with_helpers: int
    without_helpers: int
    nodes: int  # size of the term, with helpers and without annotations
    nodes_without_helpers: int
    parts: Counter[int]  # hashes of its expressions and statements without names
    verbatim: int  # with the function's own names
    typed: int  # with its own names and annotations


class Definition(NamedTuple):
    """A function in a syntax tree."""

    name: str
    node: Function | ast.Lambda
    receiver: str  # `self` of a method
    outer: frozenset[str]  # names of the functions around it


class HashedFunction(NamedTuple):
    """The hashes of one function, without its helpers."""

    key: int
    nodes: int
    parts: Counter[int]
    verbatim: int
    typed: int
    calls: set[str]


def fingerprint_functions(trees: Iterable[ast.Module]) -> list[Fingerprint]:
    """Return the fingerprints of all functions in the trees of one text."""
    imports: dict[str, str] = {}
    definitions: list[Definition] = []
    for tree in trees:
        imports.update(find_imports(tree))
        definitions += _find_definitions(tree)
    names = frozenset(definition.name for definition in definitions)
    functions: list[tuple[str, HashedFunction]] = []
    for definition in definitions:
        with contextlib.suppress(RecursionError):
            functions.append((definition.name, _hash_function(definition, imports, names)))
    by_name = dict(functions)
    return [
        _add_helpers(name, function, by_name)
        for name, function in functions
        if not (name.startswith("__") and name.endswith("__"))
    ]


def _add_helpers(
    name: str, function: HashedFunction, by_name: dict[str, HashedFunction]
) -> Fingerprint:
    """Return the fingerprint of a function, with all functions that it calls."""
    helpers: dict[str, HashedFunction] = {}
    stack = list(function.calls)
    while stack:
        helper = stack.pop()
        if helper != name and helper in by_name and helper not in helpers:
            helpers[helper] = by_name[helper]
            stack += by_name[helper].calls
    return Fingerprint(
        name,
        with_helpers=_combine([function.key, *sorted(h.key for h in helpers.values())]),
        without_helpers=_combine([function.key]),
        nodes=function.nodes + sum(h.nodes for h in helpers.values()),
        nodes_without_helpers=function.nodes,
        parts=sum((h.parts for h in helpers.values()), Counter(function.parts)),
        verbatim=function.verbatim,
        typed=function.typed,
    )


def _find_definitions(tree: ast.Module) -> Iterator[Definition]:
    """Yield every function of a tree, outer ones first."""
    stack: list[tuple[ast.AST, bool, frozenset[str]]] = [(tree, False, frozenset())]
    while stack:
        node, in_class, outer = stack.pop()
        if isinstance(node, Function):
            receiver = _find_receiver(node, in_class)
            yield Definition(node.name, node, receiver, outer)
            outer |= {*parameters(node, receiver), *find_local_names(node)}
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield Definition(target.id, node.value, "", outer)
        is_class = isinstance(node, ast.ClassDef)
        children = [n for n in ast.iter_child_nodes(node) if isinstance(n, STATEMENT_PARENTS)]
        stack += [(child, is_class, outer) for child in reversed(children)]


def _find_receiver(function: Function, in_class: bool) -> str:
    arguments = [*function.args.posonlyargs, *function.args.args]
    if not arguments or not (in_class or arguments[0].arg in ("self", "cls")):
        return ""
    static = any(getattr(d, "id", "") == "staticmethod" for d in function.decorator_list)
    return "" if static else arguments[0].arg


def _hash_function(
    definition: Definition, imports: dict[str, str], names: frozenset[str]
) -> HashedFunction:
    name, node, receiver, outer = definition
    arguments = parameters(node, receiver)
    local_names = [*arguments, *sorted((find_local_names(node) | outer) - names)]
    scope = Scope({n: n for n in local_names}, imports, names - set(arguments), receiver)
    term = function_term(node, scope)
    body = TermHasher({n: _hash_text(n) for n in scope.names}).hash(term)
    verbatim = _combine([_hash_text(name), *map(_hash_text, arguments), body])
    typed = _combine([verbatim, _hash_text(_dump_annotations(node, receiver))])
    nameless = hasher = TermHasher({})
    hasher.hash(term)
    colors = {n: _hash_text(f"parameter {place}") for place, n in enumerate(arguments)}
    for _ in range(ROUNDS):
        colors = {n: _combine([colors.get(n, 0), *sorted(u)]) for n, u in hasher.uses.items()}
        hasher = TermHasher(colors)
        key = hasher.hash(term)
    return HashedFunction(key, _count_nodes(term), nameless.parts, verbatim, typed, scope.used)


def _dump_annotations(node: Function | ast.Lambda, receiver: str) -> str:
    if isinstance(node, ast.Lambda):
        return ""
    arguments = [n for n in ast.walk(node.args) if isinstance(n, ast.arg)]
    annotations = [a.annotation for a in arguments if a.arg != receiver]
    return " ".join("-" if a is None else ast.dump(a) for a in [*annotations, node.returns])


class TermHasher:
    """Hashes terms under hashes of their names, and collects what was hashed."""

    def __init__(self, colors: Mapping[object, int]) -> None:
        self._colors = colors
        self.parts: Counter[int] = Counter()  # hashes of all parts, see `_is_part`
        self.uses: dict[object, list[int]] = {}  # by name: hashes of statements and places with it
        self._names: list[tuple[object, int]] = []  # in the current statement, with their places

    def hash(self, term: Term) -> int:
        kind = term[0]
        if kind == NAME:
            return self._colors.get(term[1], 0)
        hash_child = self._hash_statement if kind == BLOCK else self.hash
        children = [hash_child(child) for child in term[1:]]
        unordered = kind in UNORDERED
        result = _combine([_hash_text(kind), *(sorted(children) if unordered else children)])
        for place, child in enumerate(term[1:]):
            if child[0] == NAME:
                self._names.append((child[1], _combine([result, 0 if unordered else place])))
        if kind != BLOCK and _is_part(term):
            self.parts[result] += 1
        return result

    def _hash_statement(self, term: Term) -> int:
        outer_names, self._names = self._names, []
        result = self.hash(term)
        for name, place in self._names:
            self.uses.setdefault(name, []).append(_combine([result, place]))
        self._names = outer_names
        return result


def _is_part(term: Term) -> bool:
    """Return whether a term is more than an operation on one name or constant."""
    return len(term) > 2 or any(len(child) > 1 and child[0] != NAME for child in term[1:])


def _count_nodes(term: Term) -> int:
    return 1 if term[0] == NAME else 1 + sum(_count_nodes(child) for child in term[1:])


@lru_cache(maxsize=100_000)
def _hash_text(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) & MASK


def _combine(values: list[int]) -> int:
    """Return one hash of a sequence; Python's hash of integers is the same in every process."""
    return hash(tuple(values)) & MASK
