"""Make faulty copies of a program, which its tests should detect: stubs and mutants.

A stub has the definitions of the program. In one, each function returns None; in the others, one
function returns what its first call returned, whatever its arguments are. A mutant has one small
change. The operators are those of mutation testing (DeMillo et al. 1978,
https://doi.org/10.1109/C-M.1978.218136; Jia and Harman 2011, https://doi.org/10.1109/TSE.2010.62):

- comparison: `<` becomes `>=`, `==` becomes `!=`, `in` becomes `not in`.
- boundary: `<` becomes `<=`, and a range ends one earlier.
- arithmetic: `+` becomes `-`, `//` becomes `*`; a sum of texts or lists is reversed.
- boolean: `and` becomes `or`, `not x` becomes `x`, and a condition is negated.
- return: one `return` or `yield` returns None.
- slice: a slice loses a bound, and an index is moved by one.
- constant: a number grows by one, True becomes False, and a text becomes empty.

Changes that tests cannot be expected to notice are not made: in documentation, annotations,
decorators, printed text, exceptions that are raised, and a main block.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

OPERATORS = ("comparison", "boundary", "arithmetic", "boolean", "return", "slice", "constant")
NEGATED = {ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.GtE, ast.GtE: ast.Lt,
           ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.In: ast.NotIn, ast.NotIn: ast.In,
           ast.Is: ast.IsNot, ast.IsNot: ast.Is}  # fmt: skip
MOVED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
# None of these changes the type of most results: any test that runs the line would detect that.
EXCHANGED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult,
             ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult,
             ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr,
             ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitAnd}  # fmt: skip
FLIPPED = {ast.And: ast.Or, ast.Or: ast.And}
SKIPPED_FIELDS = frozenset({"annotation", "returns", "decorator_list", "type_params", "format_spec",
                            "msg", "ctx", "op", "ops"})  # fmt: skip
FIRST_VALUE = "__first_value__"  # decorator that the process of a constant stub provides
Function = ast.FunctionDef | ast.AsyncFunctionDef
SEQUENCE = ast.JoinedStr | ast.List | ast.Tuple | ast.ListComp


@dataclass(frozen=True, slots=True)
class Mutation:
    """One change of a syntax tree, made in place: copying a tree takes longer than compiling it."""

    operator: str
    parent: ast.AST
    field: str
    index: int | None  # in a field that is a list
    replacement: Any

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Change the tree, and change it back on exit."""
        original = self._exchange(self.replacement)
        try:
            yield
        finally:
            self._exchange(original)

    def _exchange(self, value: Any) -> Any:
        if self.index is None:
            original = getattr(self.parent, self.field)
            setattr(self.parent, self.field, value)
        else:
            children = getattr(self.parent, self.field)
            original, children[self.index] = children[self.index], value
        return original


def find_mutations(tree: ast.Module, source: str) -> list[Mutation]:
    """Return every mutation of a program, in an order whose beginning is a spread sample.

    The operators take turns, and the places of one operator are spread over the program. The order
    depends on the program's `source` only.
    """
    groups: dict[str, list[Mutation]] = {name: [] for name in OPERATORS}
    for mutation in _find_in(tree, in_slice=False):
        groups[mutation.operator].append(mutation)
    seed = int.from_bytes(hashlib.sha256(source.encode("utf-8", "replace")).digest()[:8])
    spread = (_spread(group, seed) for group in groups.values())
    turns = itertools.zip_longest(*spread)
    return [mutation for turn in turns for mutation in turn if mutation is not None]


def find_constant_stubs(tree: ast.Module) -> list[Mutation]:
    """Return the changes that make one function return the value of its first call.

    These are the functions of the module that take arguments. Methods are not among them: what
    they return depends on their object.
    """
    found = []
    for function in tree.body:
        if isinstance(function, ast.FunctionDef) and not function.decorator_list:
            arguments = function.args
            named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            if (named or arguments.vararg) and not _is_generator(function):
                decorator = ast.copy_location(ast.Name(FIRST_VALUE, ast.Load()), function)
                found.append(Mutation("stub", function, "decorator_list", None, [decorator]))
    return found


def _is_generator(function: ast.FunctionDef) -> bool:
    return any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(function))


def make_stub(tree: ast.Module) -> None:
    """Turn a program into a stub: its functions and methods return None.

    Imports, classes and constants stay. Other statements of the module that use its functions or
    classes are left out, or assign None. So are those that compute anything in a script, which has
    no functions.
    """
    functions = [node for node in ast.walk(tree) if isinstance(node, Function)]
    for function in functions:
        documentation = function.body[:1] if ast.get_docstring(function) is not None else []
        function.body = [*documentation, ast.Return(ast.Constant(None))]
    own = {node.name for node in tree.body if isinstance(node, Function | ast.ClassDef)}
    for node in tree.body:
        match node:
            case ast.Assign([ast.Name(name)], ast.Lambda() as function):
                function.body = ast.Constant(None)
                own.add(name)
    tree.body = [
        stub
        for node in tree.body
        if (stub := _stub_statement(node, own if functions or own else None)) is not None
    ]
    ast.fix_missing_locations(tree)


def _stub_statement(node: ast.stmt, own: set[str] | None) -> ast.stmt | None:
    """Return a statement of the module as it is in a stub; None to leave it out.

    `own` are the functions and classes of the module; None for a script.
    """
    nodes = list(ast.walk(node))
    if isinstance(node, ast.Import | ast.ImportFrom | Function | ast.ClassDef):
        return node
    if own is not None and not any(isinstance(n, ast.Name) and n.id in own for n in nodes):
        return node
    if not isinstance(node, ast.Assign | ast.AnnAssign):
        return None
    if isinstance(node.value, ast.Lambda) or _is_literal(node.value):
        return node
    names = [n for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    return ast.Assign(names, ast.Constant(None)) if names else None


def _is_literal(value: ast.expr | None) -> bool:
    if value is None:
        return True
    try:
        ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _spread(items: list[Mutation], seed: int) -> Iterator[Mutation]:
    """Yield all items in steps of about the golden section, so that any prefix is spread."""
    size = len(items)
    step = max(1, round(size * 0.618))
    while size and math.gcd(step, size) > 1:
        step += 1
    return (items[(seed + step * turn) % size] for turn in range(size))


def _find_in(parent: ast.AST, *, in_slice: bool) -> Iterator[Mutation]:
    """Yield the mutations of everything below a node, in source order."""
    for field, index, child in _children(parent):
        inside = (in_slice and isinstance(parent, ast.UnaryOp | ast.Slice)) or field == "slice"
        yield from _mutate_operators(child)
        yield from _mutate_values(child)
        replacements = _replace(child, in_slice=inside)
        if field in ("test", "ifs") and _is_plain_condition(child):
            negated = ast.copy_location(ast.UnaryOp(ast.Not(), child), child)
            replacements = itertools.chain([("boolean", negated)], replacements)
        for operator, replacement in replacements:
            yield Mutation(operator, parent, field, index, replacement)
        yield from _find_in(child, in_slice=inside)


def _children(parent: ast.AST) -> Iterator[tuple[str, int | None, ast.AST]]:
    """Yield the parts of a node that tests can be expected to check."""
    for field, value in ast.iter_fields(parent):
        if field in SKIPPED_FIELDS:
            continue
        if isinstance(value, ast.AST):
            yield field, None, value
        elif isinstance(value, list):
            # Counted from the end, since statements may be inserted at the beginning.
            for index, child in enumerate(value, -len(value)):
                if isinstance(child, ast.AST) and not _is_unchecked(child):
                    yield field, index, child


def _is_unchecked(node: ast.AST) -> bool:
    match node:
        case ast.Raise() | ast.Expr(ast.Constant()) | ast.Expr(ast.Call(ast.Name("print"))):
            return True
        case ast.If(ast.Compare(ast.Name("__name__"))):
            return True
        case _:
            return False


def _mutate_operators(node: ast.AST) -> Iterator[Mutation]:
    """Yield mutations that exchange the operator of a node."""
    match node:
        case ast.Compare(ops=ops):
            for index, found in enumerate(ops):
                yield Mutation("comparison", node, "ops", index, NEGATED[type(found)]())
                if type(found) in MOVED:
                    yield Mutation("boundary", node, "ops", index, MOVED[type(found)]())
        case ast.BoolOp(op=found):
            yield Mutation("boolean", node, "op", None, FLIPPED[type(found)]())
        case ast.BinOp(left, ast.Add(), right) if _is_sequence(left) or _is_sequence(right):
            return  # reversed by `_replace`
        case ast.BinOp(left, _, right) if _is_sequence(left) or _is_sequence(right):
            return  # formatting and repetition
        case ast.BinOp(op=found) | ast.AugAssign(op=found) if type(found) in EXCHANGED:
            if not _is_sequence(getattr(node, "value", None)):
                yield Mutation("arithmetic", node, "op", None, EXCHANGED[type(found)]())


def _mutate_values(node: ast.AST) -> Iterator[Mutation]:
    """Yield mutations that leave out a part of a node."""
    match node:
        case ast.Return(value) | ast.Yield(value) if value and not _is_none(value):
            none = ast.copy_location(ast.Constant(None), value)
            yield Mutation("return", node, "value", None, none)
        case ast.Slice():
            for bound in ("lower", "upper", "step"):
                if getattr(node, bound) is not None:
                    yield Mutation("slice", node, bound, None, None)
        case ast.Call(ast.Name("range"), arguments) if 1 <= len(arguments) <= 3:
            index = min(1, len(arguments) - 1)
            stop = arguments[index]
            if not isinstance(stop, ast.Starred):
                earlier = ast.BinOp(stop, ast.Sub(), ast.Constant(1))
                ast.fix_missing_locations(ast.copy_location(earlier, stop))
                yield Mutation("boundary", node, "args", index, earlier)


def _replace(node: ast.AST, *, in_slice: bool) -> Iterator[tuple[str, ast.expr]]:
    """Yield what may stand in the place of a node, with the operator of that change."""
    match node:
        case ast.UnaryOp(ast.Not(), operand):
            yield "boolean", operand
        case ast.BinOp(left, ast.Add(), right) if (
            _is_sequence(left) or _is_sequence(right)
        ) and ast.dump(left) != ast.dump(right):
            yield "arithmetic", ast.copy_location(ast.BinOp(right, ast.Add(), left), node)
        case ast.Constant(value) if (changed := _change_constant(value)) is not None:
            is_index = in_slice and isinstance(value, int)
            constant = ast.copy_location(ast.Constant(changed), node)
            yield "slice" if is_index else "constant", constant


def _change_constant(value: Any) -> Any:
    """Return another value of the same type; None if there is none."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return "" if value else "changed"
        case bytes():
            return b"" if value else b"changed"
        case _:
            return None


def _is_plain_condition(node: ast.AST) -> bool:
    """Return whether a condition has no operator that another mutation changes."""
    has_operator = isinstance(node, ast.Compare | ast.BoolOp | ast.Constant)
    return not has_operator and not (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not))


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_sequence(node: ast.AST | None) -> bool:
    """Return whether a value is clearly a text or a list, which `+` joins and `*` repeats."""
    match node:
        case ast.Constant(str() | bytes()):
            return True
        case ast.BinOp(left, _, right):
            return _is_sequence(left) or _is_sequence(right)
        case ast.Call(ast.Name("str")) | ast.Call(ast.Attribute(attr="join")):
            return True
        case _:
            return isinstance(node, SEQUENCE)
