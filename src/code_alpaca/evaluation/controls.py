"""Make negative controls: variants of a problem's tests that a correct program must fail.

Where tests run in the program's own process, a program can cheat them: with an object that equals
everything, an early exit, a patched built-in, a value read from the tests' frames. All of these
also pass tests that expect something wrong. So each control changes one assertion of the tests:
`assert f(2) == 4` becomes `assert f(2) == 5`, `assert ok` becomes `assert not ok`, and an
expected value that is computed is changed after its computation. A program that passes the tests
honestly returns 4, which differs from 5, and fails the control; one that passes both is forged.
The idea is the negative control of experiments; the closest published form is mutation testing
applied to the tests themselves.

Controls are printed from a syntax tree, so a program could recognize them by their formatting.
Hence the positive control: the unchanged tests in the same formatting, which it has to pass.

Not detected: a program that reads the tests' source and knows the changes made here, or one that
is wrong only in later rounds of a loop whose expected values are computed.
"""

from __future__ import annotations

import ast
import copy
import hashlib
from collections.abc import Callable

from code_alpaca.evaluation import assertions

MAX_CONTROLS = 8  # for one test; each is run for a program
PARSER_ERRORS = (SyntaxError, ValueError, RecursionError, MemoryError)


def make_negative_controls(test: str, *, include_helpers: bool = False) -> list[str]:
    """Return at most MAX_CONTROLS controls of a test's source, spread over its assertions.

    The last one always fails at its end: programs that exit early pass it.

    Args:
        include_helpers: also change comparisons outside assertions, such as in a helper of the
            tests; use these controls only if a correct program is known to fail them.

    Returns:
        An empty list if the tests do not parse.
    """
    tree = _parse(test)
    if tree is None:
        return []
    places = assertions.find_assertions(tree) + assertions.find_expected_values(tree)
    if include_helpers:
        places += assertions.find_helper_comparisons(tree)
    step = max(1, -(-len(places) // (MAX_CONTROLS - 1)))
    # The selection depends on the text only, so that verdicts are reproducible.
    start = int(hashlib.sha256(test.encode("utf-8", "replace")).hexdigest(), 16) % step
    controls = [_print(_negate_at, tree, place) for place in places[start::step]]
    controls.append(_print(_fail_at_end, tree))
    return list(dict.fromkeys(control for control in controls if control is not None))


def make_positive_control(test: str) -> str | None:
    """Return the same tests in the formatting of a control; None if they do not parse."""
    tree = _parse(test)
    return None if tree is None else _print(lambda: tree)


def _parse(test: str) -> ast.Module | None:
    try:
        return ast.parse(test)
    except PARSER_ERRORS:
        return None


def _print(make: Callable[..., ast.Module], *arguments: ast.AST) -> str | None:
    """Return the source of a tree; None if Python cannot copy or print it.

    Some f-strings cannot be printed, and an expression of hundreds of terms is too deep.
    """
    try:
        return ast.unparse(make(*arguments))
    except PARSER_ERRORS:
        return None


def _negate_at(tree: ast.Module, place: ast.AST) -> ast.Module:
    """Return a copy of the tests with one assertion changed."""
    memo: dict[int, object] = {}
    changed = copy.deepcopy(tree, memo)
    assertions.negate(memo[id(place)])
    return ast.fix_missing_locations(changed)


def _fail_at_end(tree: ast.Module) -> ast.Module:
    """Return a copy of the tests that fails after its last statement."""
    changed = copy.deepcopy(tree)
    (fail,) = ast.parse("raise AssertionError('control')").body
    check = next(
        (n for n in changed.body if isinstance(n, ast.FunctionDef) and n.name == "check"), changed
    )
    check.body.append(fail)
    return ast.fix_missing_locations(changed)
