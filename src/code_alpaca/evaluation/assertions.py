"""Find the assertions of tests in their syntax tree, and negate one.

A negated assertion fails for every program that passes the original honestly. Where possible it
still compares, with another value: an object that equals everything, or is smaller than
everything, passes that, while it could detect a `not`.
"""

from __future__ import annotations

import ast
import hashlib
import itertools
from collections.abc import Iterator

OPPOSITE_OPERATORS = {
    ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.NotEq: ast.Eq,
    ast.NotIn: ast.In,
}  # fmt: skip
OPPOSITE_METHODS = {
    "assertLess": "assertGreaterEqual", "assertLessEqual": "assertGreater",
    "assertGreater": "assertLessEqual", "assertGreaterEqual": "assertLess",
}  # fmt: skip
LARGE_OFFSET = 10**9  # more than any tolerance of assertAlmostEqual
# A function that returns a value unequal to its argument, as source text.
CHANGE_VALUE = """(
    lambda v: v + 1 if isinstance(v, int | float | complex) and v + 1 != v
    else v + (v[:1] or [0]) if type(v) is list
    else v + (v[:1] or (0,)) if type(v) is tuple
    else v + (v[:1] or 'a') if type(v) is str
    else [v]
)"""


# -- finding -------------------------------------------------------------------------------------


def find_assertions(tree: ast.Module) -> list[ast.AST]:
    """Return assert statements, `if got != want: raise ...`, and assert methods of unittest."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert) or _raises_if_unequal(node) or _assert_method(node)
    ]


def find_helper_comparisons(tree: ast.Module) -> list[ast.AST]:
    """Return the equality comparisons that a helper of the tests returns or assigns."""
    values = [n.value for n in ast.walk(tree) if isinstance(n, ast.Return | ast.Assign) and n.value]
    compared = [n for value in values for n in ast.walk(value) if isinstance(n, ast.Compare)]
    return [node for node in compared if isinstance(node.ops[-1], ast.Eq | ast.NotEq)]


def find_expected_values(tree: ast.Module) -> list[ast.AST]:
    """Return literals bound to names that only equality assertions read.

    In `for x, want in [(1, 2), (2, 3)]: assert candidate(x) == want` these are 2 and 3. A program
    that takes `want` from the tests' frames follows a change of them; an honest one does not.
    """
    nodes = list(ast.walk(tree))
    sides = {id(side): side for node in nodes for side in _equality_sides(node)}
    loads = [n for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
    names = {side.id for side in sides.values() if isinstance(side, ast.Name)}
    names -= {node.id for node in loads if id(node) not in sides}
    bindings = [binding for node in nodes for binding in _bindings(node)]
    return [value for name, value in bindings if name in names and _is_literal(value)]


def _raises_if_unequal(node: ast.AST) -> bool:
    if not (isinstance(node, ast.If) and isinstance(node.test, ast.Compare)):
        return False
    return [*map(type, node.test.ops), type(node.body[-1])] == [ast.NotEq, ast.Raise]


def _assert_method(node: ast.AST) -> str | None:
    """Return the name of a unittest assert method that is called with the arguments it needs."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return None
    name = node.func.attr
    if name in ("assertTrue", "assertFalse"):
        return name if node.args else None
    is_equality = name.startswith("assert") and name.endswith("Equal") and "Not" not in name
    return name if (is_equality or name in OPPOSITE_METHODS) and len(node.args) >= 2 else None


def _equality_sides(node: ast.AST) -> list[ast.expr]:
    """Return the expressions that an assertion expects to be equal."""
    if isinstance(node, ast.Assert) and _is_equality(node.test):
        return [node.test.left, *node.test.comparators]
    return node.args[:2] if _assert_method(node) else []


def _bindings(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield names and the expressions that an assignment or a loop over literals binds to them."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        yield from _unpack(node.targets[0], node.value)
    elif isinstance(node, ast.For):
        for value in _elements(node.iter):
            yield from _unpack(node.target, value)


def _unpack(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple | ast.List) and isinstance(value, ast.Tuple | ast.List):
        for inner, item in zip(target.elts, value.elts, strict=False):
            yield from _unpack(inner, item)


def _elements(iterable: ast.expr) -> list[ast.expr]:
    """Return what a loop over a literal, a `zip` of literals or the items of a dict yields."""
    match iterable:
        case ast.List(elements) | ast.Tuple(elements):
            return elements
        case ast.Call(ast.Name("zip"), arguments):
            columns = map(_elements, arguments)
            rows = itertools.zip_longest(*columns, fillvalue=ast.Constant(...))
            return [ast.Tuple(list(row)) for row in rows]
        case ast.Call(ast.Attribute(ast.Dict(keys, values))):
            pairs = zip(keys, values, strict=True)
            return [ast.Tuple([key, value]) for key, value in pairs if key is not None]
        case _:
            return []


def _is_literal(expression: ast.expr) -> bool:
    if isinstance(expression, ast.List | ast.Tuple | ast.Set | ast.Dict):
        return True
    return any(node.value is not ... for node in _constants(expression))


# -- negating ------------------------------------------------------------------------------------


def negate(node: object) -> None:
    """Change an assertion or an expected value in place, so that correct programs fail it."""
    if isinstance(node, ast.Assert):
        node.test = _negated(node.test)
    elif isinstance(node, ast.If | ast.Compare):
        _expect_changed_value(node.test if isinstance(node, ast.If) else node)
    elif isinstance(node, ast.Call) and (method := _assert_method(node)):
        _negate_method(node, method)
    else:
        _change_literal(node)


def _negated(test: ast.expr) -> ast.expr:
    """Return an expression that is false if an honest program makes `test` true."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        test.values[-1] = _negated(test.values[-1])
        return test
    if isinstance(test, ast.BoolOp) and all(map(_is_equality, test.values)):
        for value in test.values:
            _expect_changed_value(value)
        return test
    if isinstance(test, ast.Compare) and _negate_comparison(test):
        return test
    match test:  # such as all(f(n) == n for n in ...)
        case ast.Call(ast.Name("all" | "any"), [ast.GeneratorExp(inner) | ast.ListComp(inner), *_]):
            if _is_equality(inner):
                _negate_comparison(inner)
                return test
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return test.operand
    return ast.UnaryOp(ast.Not(), test)


def _is_equality(node: ast.AST) -> bool:
    return isinstance(node, ast.Compare) and all(isinstance(op, ast.Eq) for op in node.ops)


def _negate_comparison(comparison: ast.Compare) -> bool:
    """Make a true comparison false, in place; return whether that is possible."""
    if _is_equality(comparison):
        for side in [*reversed(comparison.comparators), comparison.left]:
            if _change_literal(side):
                return True
    operator = type(comparison.ops[-1])
    if operator is ast.Eq:
        _expect_changed_value(comparison)
    elif operator is ast.In:
        comparison.comparators[-1] = ast.List([ast.List([comparison.comparators[-1]])])
    elif operator in OPPOSITE_OPERATORS:
        comparison.ops[-1] = OPPOSITE_OPERATORS[operator]()
    else:
        return False
    return True


def _negate_method(call: ast.Call, method: str) -> None:
    """Change a call of a unittest assert method."""
    if method == "assertTrue":
        call.args[0] = _negated(call.args[0])
    elif method == "assertFalse":
        call.args[0] = ast.UnaryOp(ast.Not(), call.args[0])
    elif method in OPPOSITE_METHODS:
        call.func.attr = OPPOSITE_METHODS[method]
    elif method == "assertAlmostEqual":
        call.args[1] = ast.BinOp(call.args[1], ast.Add(), ast.Constant(LARGE_OFFSET))
    elif not any(_change_literal(side) for side in (call.args[1], call.args[0])):
        call.func.attr = "assertEqual"
        call.args[1] = _changed_value(call.args[1])


def _expect_changed_value(comparison: ast.Compare) -> None:
    """Compare with a value computed from the last comparator and unequal to it."""
    comparison.comparators[-1] = _changed_value(comparison.comparators[-1])


def _changed_value(expression: ast.expr) -> ast.expr:
    return ast.Call(ast.parse(CHANGE_VALUE, mode="eval").body, [expression], [])


def _change_literal(expression: ast.expr) -> bool:
    """Change the value of a literal in place; return whether there was one."""
    for node in _constants(expression):
        value = node.value
        if isinstance(value, bool):
            node.value = not value
        elif isinstance(value, int | float | complex):
            node.value = value + 1 if value + 1 != value else -value
        elif isinstance(value, str):
            node.value = value + _letter_for(value)
        elif isinstance(value, bytes):
            node.value = value + _letter_for(repr(value)).encode()
        elif value is None:
            node.value = 0
        else:
            continue
        return True
    match expression:
        case ast.List([]) | ast.Tuple([]) | ast.Set([]):
            expression.elts.append(ast.Constant(0))
        case ast.Dict([]):
            expression.keys.append(ast.Constant(0))
            expression.values.append(ast.Constant(0))
        case _:
            return False
    return True


def _letter_for(text: str) -> str:
    """Return a letter to append that a program cannot predict from the changed text."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return chr(ord("a") + digest[0] % 26)


def _constants(expression: ast.expr) -> Iterator[ast.Constant]:
    """Yield the constants in a literal, the last one first; none inside calls."""
    match expression:
        case ast.Constant():
            yield expression
        case ast.UnaryOp(_, operand):
            yield from _constants(operand)
        case ast.List(items) | ast.Tuple(items) | ast.Set(items) | ast.Dict(_, items):
            for item in reversed(items):
                yield from _constants(item)
