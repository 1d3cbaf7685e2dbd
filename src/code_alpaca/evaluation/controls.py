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
import math

from code_alpaca.evaluation import assertions

MAX_CONTROLS = 8  # for one test; each is run for a program
PARSER_ERRORS = (SyntaxError, ValueError, RecursionError, MemoryError)


def make_negative_controls(test: str, *, include_helpers: bool = False) -> list[str]:
    """Return at most MAX_CONTROLS controls of a test's source, spread over its assertions.

    The last one always fails at its end: programs that exit early pass it. The list is empty if
    the tests do not parse.

    Args:
        include_helpers: also change comparisons outside assertions, such as in a helper of the
            tests; use these controls only if a correct program is known to fail them.
    """
    try:
        tree = ast.parse(test)
    except PARSER_ERRORS:
        return []
    places = assertions.find_assertions(tree) + assertions.find_expected_values(tree)
    if include_helpers:
        places += assertions.find_helper_comparisons(tree)
    step = max(1, math.ceil(len(places) / (MAX_CONTROLS - 1)))
    # The selection depends on the text only, so that verdicts are reproducible.
    start = int(hashlib.sha256(test.encode("utf-8", "replace")).hexdigest(), 16) % step
    controls = [_change_copy(tree, place) for place in [*places[start::step], None]]
    return list(dict.fromkeys(control for control in controls if control is not None))


def make_positive_control(test: str) -> str | None:
    """Return the same tests in the formatting of a control; None if they do not parse."""
    try:
        return ast.unparse(ast.parse(test))
    except PARSER_ERRORS:
        return None


def _change_copy(tree: ast.Module, assertion: ast.AST | None) -> str | None:
    """Return the source of the tests with one assertion changed; with None they fail at the end.

    Some f-strings cannot be printed, and an expression of hundreds of terms is too deep to copy:
    then the result is None.
    """
    memo: dict[int, object] = {}
    try:
        changed = copy.deepcopy(tree, memo)
        if assertion is not None:
            assertions.negate(memo[id(assertion)])
        else:
            functions = [node for node in changed.body if isinstance(node, ast.FunctionDef)]
            check = next((node for node in functions if node.name == "check"), changed)
            check.body += ast.parse("raise AssertionError('control')").body
        return ast.unparse(ast.fix_missing_locations(changed))
    except PARSER_ERRORS:
        return None
