"""Negative controls: versions of a problem's tests that a right program must fail.

Where tests run in the program's own process, a program can cheat them: an object that equals
everything, an early exit, a patched built-in, a value read from the tests' frames. All of these
also pass tests that ask for something wrong. So each control changes one assertion of the tests:
`assert f(2) == 4` becomes `assert f(2) == 5`, `assert found` becomes `assert not found`. A
program that passes the tests by honest values has a value equal to 4, therefore unequal to 5,
and fails the control; one that passes both is judged as forged. The idea is the negative control
of experiments; the closest published form is mutation testing turned on the tests themselves.

What remains possible: a program that recognizes these very tests and tells them from a control.
"""

from __future__ import annotations

import ast
import copy
import hashlib
from collections.abc import Iterator

MAX_CONTROLS = 8  # run for one program


def controls(test: str) -> list[str]:
    """The controls of a test's source text, at most MAX_CONTROLS, spread over its assertions.

    The last one fails at the very end, whatever was compared before: it catches programs that
    leave early. Where the tests do not parse there are none.
    """
    try:
        tree = ast.parse(test)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    places = [place for place in ast.walk(tree) if _can_change(place)]
    places += _expected_values(tree)
    step = max(1, -(-len(places) // (MAX_CONTROLS - 1)))
    # Which assertions are changed depends on the text alone, so that a verdict is repeatable.
    start = int(hashlib.sha256(test.encode("utf-8", "replace")).hexdigest(), 16) % step
    changed = [_changed(tree, place) for place in places[start::step]]
    return [ast.unparse(made) for made in [*changed, _failing_at_end(tree)] if made is not None]


def _can_change(node: ast.AST) -> bool:
    return isinstance(node, ast.Assert) or _unittest_name(node) is not None


def _changed(tree: ast.Module, place: ast.AST) -> ast.Module:
    """A copy of the tests in which one assertion asks for something else."""
    memo: dict[int, object] = {}
    made = copy.deepcopy(tree, memo)
    node = memo[id(place)]
    if isinstance(node, ast.Assert):
        node.test = _opposite(node.test)
    elif _unittest_name(node):
        _change_unittest(node)
    else:
        _change_literal(node)
    return ast.fix_missing_locations(made)


def _opposite(test: ast.expr) -> ast.expr:
    """An expression that is false wherever the given one is honestly true."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        test.values[-1] = _opposite(test.values[-1])
        return test
    if isinstance(test, ast.Compare) and all(isinstance(op, ast.Eq) for op in test.ops):
        for side in [*reversed(test.comparators), test.left]:
            if _change_literal(side):
                return test
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return test.operand
    return ast.UnaryOp(ast.Not(), test)


def _change_literal(expression: ast.expr) -> bool:
    """Make the value of a literal another one, in place; whether there was one to change."""
    for node in _literals(expression):
        value = node.value
        if isinstance(value, bool):
            node.value = not value
        elif isinstance(value, int | float | complex):
            node.value = value + 1 if value + 1 != value else -value
        elif isinstance(value, str):
            node.value = value + "a"
        elif isinstance(value, bytes):
            node.value = value + b"a"
        elif value is None:
            node.value = 0
        else:
            continue
        return True
    if isinstance(expression, ast.List | ast.Tuple | ast.Set) and not expression.elts:
        expression.elts.append(ast.Constant(0))
        return True
    if isinstance(expression, ast.Dict) and not expression.keys:
        expression.keys.append(ast.Constant(0))
        expression.values.append(ast.Constant(0))
        return True
    return False


def _literals(expression: ast.expr) -> Iterator[ast.Constant]:
    """The constants that are elements of a literal, last one first; none inside of calls."""
    if isinstance(expression, ast.Constant):
        yield expression
    elif isinstance(expression, ast.UnaryOp):
        yield from _literals(expression.operand)
    elif isinstance(expression, ast.List | ast.Tuple | ast.Set):
        for item in reversed(expression.elts):
            yield from _literals(item)
    elif isinstance(expression, ast.Dict):
        for item in reversed(expression.values):
            yield from _literals(item)


def _expected_values(tree: ast.Module) -> list[ast.expr]:
    """Literals bound to names that nothing but equalities of assertions reads.

    `for x, want in [(1, 2), (2, 3)]: assert candidate(x) == want` has 2 and 3. A program that
    takes `want` from the tests' frames follows a change of these, and an honest one does not.
    """
    sides = [side for node in ast.walk(tree) for side in _equal_sides(node)]
    read_there = {id(side) for side in sides}
    loads = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
    names = {side.id for side in sides if isinstance(side, ast.Name)}
    names -= {node.id for node in loads if id(node) not in read_there}
    return [
        value
        for node in ast.walk(tree)
        for target, value in _bindings(node)
        if target in names and _is_literal(value)
    ]


def _equal_sides(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Assert) and isinstance(node.test, ast.Compare):
        if all(isinstance(op, ast.Eq) for op in node.test.ops):
            return [node.test.left, *node.test.comparators]
    elif _unittest_name(node) and isinstance(node, ast.Call):
        return node.args[:2]
    return []


def _bindings(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Names and the expressions that an assignment or a loop over literals binds to them."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        yield from _paired(node.targets[0], node.value)
    elif isinstance(node, ast.For):
        for value in _elements(node.iter):
            yield from _paired(node.target, value)


def _paired(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple | ast.List) and isinstance(value, ast.Tuple | ast.List):
        for inner, item in zip(target.elts, value.elts, strict=False):
            yield from _paired(inner, item)


def _elements(iterated: ast.expr) -> list[ast.expr]:
    """What a loop over a literal, a `zip` of literals or the items of a dict goes through."""
    if isinstance(iterated, ast.List | ast.Tuple):
        return iterated.elts
    if not isinstance(iterated, ast.Call):
        return []
    if isinstance(iterated.func, ast.Name) and iterated.func.id == "zip":
        columns = [_elements(argument) for argument in iterated.args]
        rows = max(map(len, columns), default=0)
        nothing = ast.Constant(...)
        return [
            ast.Tuple([column[n] if n < len(column) else nothing for column in columns])
            for n in range(rows)
        ]
    function = iterated.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Dict):
        pairs = zip(function.value.keys, function.value.values, strict=True)
        return [ast.Tuple([key, value]) for key, value in pairs if key is not None]
    return []


def _is_literal(expression: ast.expr) -> bool:
    if isinstance(expression, ast.List | ast.Tuple | ast.Set | ast.Dict):
        return True
    return any(node.value is not ... for node in _literals(expression))


def _unittest_name(node: ast.AST) -> str | None:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return None
    name = node.func.attr
    if name in ("assertTrue", "assertFalse") and node.args:
        return name
    if name.startswith("assert") and name.endswith("Equal") and len(node.args) >= 2:
        return name if name not in ("assertNotEqual", "assertAlmostEqual") else None
    return None


def _change_unittest(call: ast.Call) -> None:
    name = _unittest_name(call)
    if name in ("assertTrue", "assertFalse"):
        call.args[0] = ast.UnaryOp(ast.Not(), call.args[0])
    elif not any(_change_literal(side) for side in (call.args[1], call.args[0])):
        call.func = ast.Attribute(call.func.value, "assertNotEqual", ast.Load())


def _failing_at_end(tree: ast.Module) -> ast.Module | None:
    made = copy.deepcopy(tree)
    (fail,) = ast.parse("raise AssertionError('control')").body
    for node in made.body:
        if isinstance(node, ast.FunctionDef) and node.name == "check":
            node.body.append(fail)
            return ast.fix_missing_locations(made)
    made.body.append(fail)
    return ast.fix_missing_locations(made)
