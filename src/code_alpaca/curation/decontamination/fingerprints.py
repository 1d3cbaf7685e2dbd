"""Fingerprints of Python functions: equal for equal code under other names, in another order.

The statements of a block count as a bag, and a name counts by its uses: it is colored twice by the
statements that it appears in, as in the Weisfeiler-Lehman test, and by its place among the
parameters. The fingerprint is a hash of the colored terms.
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from code_alpaca.curation.decontamination.python_terms import (
    BLOCK,
    NAME,
    UNORDERED,
    Function,
    Scope,
    Term,
    function_term,
    imported,
    local_names,
    parameters,
)

ROUNDS = 2
MASK = (1 << 62) - 1
HOLDERS = ast.ExceptHandler | ast.match_case  # of statements


class Fingerprint(NamedTuple):
    """One function of a text, alone and with the functions that it calls.

    Args:
        name: the function's name.
        with_helpers: the key of the function and its helpers.
        without_helpers: the key of the function alone.
        nodes: the size with helpers, annotations not counted.
        nodes_without_helpers: the size of the function alone.
        parts: the hashes of its expressions and statements, names left out, with their counts.
        verbatim: the key with its own names.
        typed: the key with its own names and annotations.
    """

    name: str
    with_helpers: int
    without_helpers: int
    nodes: int
    nodes_without_helpers: int
    parts: Counter[int]
    verbatim: int
    typed: int


class _Definition(NamedTuple):
    name: str
    node: Function | ast.Lambda
    receiver: str  # `self` of a method
    outer: frozenset[str]  # names of the functions around it


@dataclass
class _Part:
    key: int
    nodes: int
    parts: Counter[int]
    verbatim: int
    typed: int
    calls: set[str]


def fingerprints(trees: Iterable[ast.Module]) -> list[Fingerprint]:
    """Return the fingerprints of all functions of a text, whichever code region holds them."""
    modules: dict[str, str] = {}
    found: list[_Definition] = []
    for tree in trees:
        modules.update(imported(tree))
        found += _functions(tree)
    names = frozenset(definition.name for definition in found)
    parts: dict[str, _Part] = {}
    order: list[tuple[str, _Part]] = []
    for definition in found:
        try:
            part = _part(definition, modules, names)
        except RecursionError:
            continue
        parts[definition.name] = part
        order.append((definition.name, part))
    return [_fingerprint(name, part, parts) for name, part in order if not _special(name)]


def _special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _fingerprint(name: str, part: _Part, parts: dict[str, _Part]) -> Fingerprint:
    helpers: dict[str, _Part] = {}
    todo = sorted(part.calls)
    while todo:
        helper = todo.pop()
        if helper != name and helper in parts and helper not in helpers:
            helpers[helper] = parts[helper]
            todo += sorted(parts[helper].calls)
    together = Counter(part.parts)
    for helper in helpers.values():
        together.update(helper.parts)
    keys = sorted(helper.key for helper in helpers.values())
    return Fingerprint(
        name,
        _mixed([part.key, *keys]),
        _mixed([part.key]),
        part.nodes + sum(helper.nodes for helper in helpers.values()),
        part.nodes,
        together,
        part.verbatim,
        part.typed,
    )


def _functions(tree: ast.Module) -> Iterator[_Definition]:
    """Every function of a tree, outer ones first."""
    stack: list[tuple[ast.AST, bool, frozenset[str]]] = [(tree, False, frozenset())]
    while stack:
        node, in_class, outer = stack.pop()
        if isinstance(node, Function):
            receiver = _receiver(node, in_class)
            yield _Definition(node.name, node, receiver, outer)
            outer |= {*parameters(node, receiver), *local_names(node)}
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield _Definition(target.id, node.value, "", outer)
        inside = isinstance(node, ast.ClassDef)
        children = [n for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt | HOLDERS)]
        stack += [(child, inside, outer) for child in reversed(children)]


def _receiver(function: Function, in_class: bool) -> str:
    arguments = [*function.args.posonlyargs, *function.args.args]
    if not arguments or not (in_class or arguments[0].arg in ("self", "cls")):
        return ""
    static = any(getattr(d, "id", "") == "staticmethod" for d in function.decorator_list)
    return "" if static else arguments[0].arg


def _part(definition: _Definition, modules: dict[str, str], names: frozenset[str]) -> _Part:
    name, node, receiver, outer = definition
    given = parameters(node, receiver)
    own = {n: n for n in [*given, *sorted((local_names(node) | outer) - names)]}
    scope = Scope(own, modules, names - set(given), receiver)
    term = function_term(node, scope)
    roles = {n: _code(f"parameter {place}") for place, n in enumerate(given)}
    colors: dict[object, int] = {}
    counted: Counter[int] = Counter()
    for number in range(ROUNDS):
        uses: dict[object, list[int]] = {}
        _Hash(colors, counted if number == 0 else None, uses).of(term)
        before = colors or roles
        colors = {n: _mixed([before.get(n, 0), *sorted(found)]) for n, found in uses.items()}
    spelled = {n: _code(n) for n in own}
    plain = _mixed([_code(name), *map(_code, given), _Hash(spelled, None, None).of(term)])
    typed = _mixed([plain, _code(_annotations(node, receiver))])
    key = _Hash(colors, None, None).of(term)
    return _Part(key, _size(term), counted, plain, typed, scope.used)


def _annotations(node: Function | ast.Lambda, receiver: str) -> str:
    if isinstance(node, ast.Lambda):
        return ""
    arguments = [n for n in ast.walk(node.args) if isinstance(n, ast.arg)]
    found = [a.annotation for a in arguments if a.arg != receiver]
    return " ".join("-" if a is None else ast.dump(a) for a in [*found, node.returns])


class _Hash:
    """Hashes terms, and records on the way what else is asked for.

    Args:
        colors: the hash of each name.
        parts: counts the hashes of all parts, see `_is_part`.
        uses: gets, for each name, the statements with the places in them that it appears in.
    """

    def __init__(
        self,
        colors: dict[object, int],
        parts: Counter[int] | None,
        uses: dict[object, list[int]] | None,
    ) -> None:
        self._colors, self._parts, self._uses = colors, parts, uses
        self._open: list[tuple[object, int]] = []  # names of the statement that is being hashed

    def of(self, term: Term) -> int:
        kind = term[0]
        if kind == NAME:
            return self._colors.get(term[1], 0)
        children = [self._statement(c) if kind == BLOCK else self.of(c) for c in term[1:]]
        unordered = kind in UNORDERED
        found = _mixed([_code(kind), *(sorted(children) if unordered else children)])
        if self._uses is not None:
            for place, child in enumerate(term[1:]):
                if child[0] == NAME:
                    self._open.append((child[1], _mixed([found, 0 if unordered else place])))
        if self._parts is not None and kind != BLOCK and _is_part(term):
            self._parts[found] += 1
        return found

    def _statement(self, term: Term) -> int:
        before, self._open = self._open, []
        found = self.of(term)
        if self._uses is not None:
            for name, place in self._open:
                self._uses.setdefault(name, []).append(_mixed([found, place]))
        self._open = before
        return found


def _is_part(term: Term) -> bool:
    """Whether a term says more than an operation on one name or constant."""
    return len(term) > 2 or any(len(child) > 1 and child[0] != NAME for child in term[1:])


def _size(term: Term) -> int:
    return 1 if term[0] == NAME else 1 + sum(_size(child) for child in term[1:])


@lru_cache(maxsize=100_000)
def _code(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) & MASK


def _mixed(values: list[int]) -> int:
    """One number for a sequence; Python's hash of integers is the same in every process."""
    return hash(tuple(values)) & MASK
