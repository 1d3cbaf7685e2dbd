"""Rewrite equivalent spellings of Python code to one term (see `python_terms`)."""

from __future__ import annotations

Term = tuple  # (kind, *children): children are terms
NAME = "name"
SWAPPED = {"Gt": "Lt", "GtE": "LtE"}
NEGATED = {"Eq": "NotEq", "NotEq": "Eq", "In": "NotIn", "NotIn": "In", "Is": "IsNot", "IsNot": "Is"}
ZERO_OR_ONE = ("constant:0", "constant:1")
NONE: Term = ("constant:None",)


def simplify_block(block: list[Term]) -> list[Term]:
    """Return a block with its last two statements in their shortest form."""
    if len(block) >= 2:
        first, last = block[-2:]
        if first[0] == "assign" and last == ("return", first[1]) and first[1][0] == NAME:
            return simplify_block([*block[:-2], ("return", first[2])])
        if first[0] == "if" and len(first) == 3 and last[0] == "return" and len(first[2]) == 2:
            inner = first[2][1]
            if inner[0] == "return":
                test = conditional_as_test(first[1], inner[1], last[1])
                return block if test is None else [*block[:-2], ("return", test)]
    return block


def strip_continue(block: list[Term]) -> list[Term]:
    """Return the body of a loop without `continue` at its end."""
    return block[:-1] if block and block[-1][0] in ("continue", "Continue") else block


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
                is_length = _is_length(operand) and other[0] in ZERO_OR_ONE
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
    if other in (("List",), ("Dict",), ("Tuple",), ("constant:''",), ("constant:False",)):
        return kind == "Eq"
    return kind != "Eq" if other == ("constant:True",) else None


def _is_length(term: Term) -> bool:
    return len(term) == 3 and term[:2] == ("call", ("global:len",))
