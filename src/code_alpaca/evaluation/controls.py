"""Negative controls: versions of a problem's tests that a right program must fail.

Where tests run in the program's own process, a program can cheat them: an object that equals
everything, an early exit, a patched built-in, a value read from the tests' frames. All of these
also pass tests that ask for something wrong. So each control changes one assertion of the tests:
`assert f(2) == 4` becomes `assert f(2) == 5`, `assert found` becomes `assert not found`, and
where the expected value is computed, the control computes another one. A program that passes the
tests by honest values has a value equal to 4, therefore unequal to 5, and fails the control; one
that passes both is judged as forged. The idea is the negative control of experiments; the closest
published form is mutation testing turned on the tests themselves.

Controls are printed from a syntax tree, so a program could tell them by their form. Hence the
positive control: the unchanged tests, printed in the same way, which it has to pass.

What remains possible: a program that reads the tests' source and knows which changes are made
here, or that is wrong only in later rounds of a loop whose expected values are computed.
"""

from __future__ import annotations

import ast
import copy
import hashlib
from collections.abc import Callable, Iterator

MAX_CONTROLS = 8  # run for one program
NOT_PARSED = (SyntaxError, ValueError, RecursionError, MemoryError)


def make_negative_controls(test: str, *, checked: bool = False) -> list[str]:
    """The controls of a test's source text, at most MAX_CONTROLS, spread over its assertions.

    The last one fails at the very end, whatever was compared before: it catches programs that
    leave early. Where the tests do not parse there are none.

    Args:
        checked: also make controls of comparisons outside of assertions (in a helper of the
            tests, say), which are to be used only if a right program is seen to fail them.
    """
    tree = _parsed(test)
    if tree is None:
        return []
    places = [place for place in ast.walk(tree) if _can_change(place)]
    places += _expected_values(tree)
    if checked:
        places += _other_comparisons(tree)
    step = max(1, -(-len(places) // (MAX_CONTROLS - 1)))
    # Which assertions are changed depends on the text alone, so that a verdict is repeatable.
    start = int(hashlib.sha256(test.encode("utf-8", "replace")).hexdigest(), 16) % step
    made = [_printed(_changed, tree, place) for place in places[start::step]]
    made.append(_printed(_failing_at_end, tree))
    return list(dict.fromkeys(control for control in made if control is not None))


def make_positive_control(test: str) -> str | None:
    """The same tests in the form of a control; None where they do not parse."""
    tree = _parsed(test)
    return None if tree is None else _printed(lambda: tree)


def _printed(make: Callable[..., ast.Module], *arguments: ast.AST) -> str | None:
    """The source text of a tree that is made; None where Python cannot copy or print it.

    Some f-strings have no such text, and an expression of hundreds of terms is too deep.
    """
    try:
        return ast.unparse(make(*arguments))
    except NOT_PARSED:
        return None


def _parsed(test: str) -> ast.Module | None:
    try:
        return ast.parse(test)
    except NOT_PARSED:
        return None


def _can_change(node: ast.AST) -> bool:
    return isinstance(node, ast.Assert) or _is_refusal(node) or _unittest_name(node) is not None


def _is_refusal(node: ast.AST) -> bool:
    """`if got != want: raise ...`, which is an assertion in other words."""
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Compare)
        and isinstance(node.test.ops[-1], ast.NotEq)
        and len(node.test.ops) == 1
        and isinstance(node.body[-1], ast.Raise)
    )


def _other_comparisons(tree: ast.Module) -> list[ast.expr]:
    """Comparisons whose outcome a helper of the tests returns or keeps."""
    values = [n.value for n in ast.walk(tree) if isinstance(n, ast.Return | ast.Assign)]
    return [
        part
        for value in values
        if value is not None
        for part in ast.walk(value)
        if isinstance(part, ast.Compare) and isinstance(part.ops[-1], ast.Eq | ast.NotEq)
    ]


def _changed(tree: ast.Module, place: ast.AST) -> ast.Module:
    """A copy of the tests in which one assertion asks for something else."""
    memo: dict[int, object] = {}
    made = copy.deepcopy(tree, memo)
    node = memo[id(place)]
    if isinstance(node, ast.Assert):
        node.test = _opposite(node.test)
    elif isinstance(node, ast.If):
        _expect_another(node.test)
    elif isinstance(node, ast.Compare):
        _expect_another(node)
    elif _unittest_name(node):
        _change_unittest(node)
    else:
        _change_literal(node)
    return ast.fix_missing_locations(made)


def _opposite(test: ast.expr) -> ast.expr:
    """An expression that is false wherever the given one is honestly true.

    Wherever possible it compares once more, with something else: an object that equals all, or
    is smaller than all, passes that, while a negation would give it away to itself.
    """
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        test.values[-1] = _opposite(test.values[-1])
        return test
    if isinstance(test, ast.BoolOp) and all(map(_is_equality, test.values)):
        for value in test.values:
            _expect_another(value)
        return test
    if isinstance(test, ast.Compare) and _change_comparison(test):
        return test
    if inner := _in_all_or_any(test):
        _change_comparison(inner)
        return test
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return test.operand
    return ast.UnaryOp(ast.Not(), test)


def _is_equality(node: ast.AST) -> bool:
    return isinstance(node, ast.Compare) and all(isinstance(op, ast.Eq) for op in node.ops)


def _in_all_or_any(test: ast.expr) -> ast.Compare | None:
    """The equality in `all(f(n) == n for n in ...)`."""
    if not (isinstance(test, ast.Call) and isinstance(test.func, ast.Name) and test.args):
        return None
    over = test.args[0]
    if test.func.id in ("all", "any") and isinstance(over, ast.GeneratorExp | ast.ListComp):
        return over.elt if _is_equality(over.elt) else None
    return None


REVERSED = {
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.NotEq: ast.Eq,
    ast.NotIn: ast.In,
}


def _change_comparison(comparison: ast.Compare) -> bool:
    """Make an honestly true comparison a false one, in place; whether that can be done."""
    if _is_equality(comparison):
        for side in [*reversed(comparison.comparators), comparison.left]:
            if _change_literal(side):
                return True
    last = type(comparison.ops[-1])
    if last is ast.Eq:
        _expect_another(comparison)
    elif last is ast.In:
        container = comparison.comparators[-1]
        comparison.comparators[-1] = _list_of(_list_of(container))
    elif last in REVERSED:
        comparison.ops[-1] = REVERSED[last]()
    else:
        return False
    return True


ANOTHER = """(
    lambda v: v + 1 if isinstance(v, int | float | complex) and v + 1 != v
    else v + (v[:1] or [0]) if type(v) is list
    else v + (v[:1] or (0,)) if type(v) is tuple
    else v + (v[:1] or 'a') if type(v) is str
    else [v]
)"""


def _expect_another(comparison: ast.Compare) -> None:
    """Compare with a value that is computed to be another one than the last."""
    comparison.comparators[-1] = _another(comparison.comparators[-1])


def _another(expression: ast.expr) -> ast.expr:
    return ast.Call(ast.parse(ANOTHER, mode="eval").body, [expression], [])


def _list_of(expression: ast.expr) -> ast.expr:
    return ast.List([expression], ast.Load())


def _change_literal(expression: ast.expr) -> bool:
    """Make the value of a literal another one, in place; whether there was one to change."""
    for node in _literals(expression):
        value = node.value
        if isinstance(value, bool):
            node.value = not value
        elif isinstance(value, int | float | complex):
            node.value = value + 1 if value + 1 != value else -value
        elif isinstance(value, str):
            node.value = value + _letter(value)
        elif isinstance(value, bytes):
            node.value = value + _letter(repr(value)).encode()
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


def _letter(text: str) -> str:
    """One that no rule on the changed text alone gives away."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return chr(ord("a") + digest[0] % 26)


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
        return name if name not in ("assertNotEqual", "assertNotAlmostEqual") else None
    return name if name in ORDERS and len(node.args) >= 2 else None


ORDERS = {
    "assertLess": "assertGreaterEqual",
    "assertLessEqual": "assertGreater",
    "assertGreater": "assertLessEqual",
    "assertGreaterEqual": "assertLess",
}
FAR = 10**9  # more than a tolerance of assertAlmostEqual


def _change_unittest(call: ast.Call) -> None:
    name = _unittest_name(call)
    assert isinstance(call.func, ast.Attribute)
    if name == "assertTrue":
        call.args[0] = _opposite(call.args[0])
    elif name == "assertFalse":
        call.args[0] = ast.UnaryOp(ast.Not(), call.args[0])
    elif name in ORDERS:
        call.func.attr = ORDERS[name]
    elif name == "assertAlmostEqual":
        call.args[1] = ast.BinOp(call.args[1], ast.Add(), ast.Constant(FAR))
    elif not any(_change_literal(side) for side in (call.args[1], call.args[0])):
        call.func.attr = "assertEqual"
        call.args[1] = _another(call.args[1])


def _failing_at_end(tree: ast.Module) -> ast.Module:
    made = copy.deepcopy(tree)
    (fail,) = ast.parse("raise AssertionError('control')").body
    for node in made.body:
        if isinstance(node, ast.FunctionDef) and node.name == "check":
            node.body.append(fail)
            return ast.fix_missing_locations(made)
    made.body.append(fail)
    return ast.fix_missing_locations(made)
