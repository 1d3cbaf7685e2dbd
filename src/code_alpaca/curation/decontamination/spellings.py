"""Equivalent spellings of Python code as one term: what `curation.python_terms` builds with."""

from __future__ import annotations

Term = tuple  # (kind, *children): children are terms
NAME = "name"
SWAPPED = {"Gt": "Lt", "GtE": "LtE"}
NEGATED = {"Eq": "NotEq", "NotEq": "Eq", "In": "NotIn", "NotIn": "In", "Is": "IsNot", "IsNot": "Is"}
ZERO_OR_ONE = ("constant:0", "constant:1")
NONE: Term = ("constant:None",)


def simplified_block(block: list[Term]) -> list[Term]:
    """A block with its last two statements in their shortest form."""
    if len(block) >= 2:
        first, last = block[-2:]
        if first[0] == "assign" and last == ("return", first[1]) and first[1][0] == NAME:
            return simplified_block([*block[:-2], ("return", first[2])])
        if first[0] == "if" and len(first) == 3 and last[0] == "return" and len(first[2]) == 2:
            inner = first[2][1]
            if inner[0] == "return" and (found := truth(first[1], inner[1], last[1])) is not None:
                return [*block[:-2], ("return", found)]
    return block


def loop_body(block: list[Term]) -> list[Term]:
    return block[:-1] if block and block[-1][0] in ("continue", "Continue") else block


def truth(test: Term, body: Term, other: Term) -> Term | None:
    """`True if test else False` is the test."""
    if (body, other) == (("constant:True",), ("constant:False",)):
        return test
    if (body, other) == (("constant:False",), ("constant:True",)):
        return negation(test)
    return None


def negation(term: Term) -> Term:
    if term[0] == "Not":
        return term[1]
    if term[0] in ("Lt", "LtE"):
        return ("LtE" if term[0] == "Lt" else "Lt", term[2], term[1])
    return (NEGATED[term[0]], *term[1:]) if term[0] in NEGATED else ("Not", term)


def comparison(kind: str, left: Term, right: Term) -> Term:
    if kind in SWAPPED:
        kind, left, right = SWAPPED[kind], right, left
    if right == NONE and kind in ("Is", "IsNot"):
        kind = "Eq" if kind == "Is" else "NotEq"
    if kind in ("Eq", "NotEq", "Lt", "LtE"):
        for one, other, of_left in ((left, right, True), (right, left, False)):
            if (empty := _is_empty(kind, one, other, of_left)) is not None:
                term = one[2] if _is_length(one) and other[0] in ZERO_OR_ONE else one
                return negation(term) if empty else term
    return (kind, left, right)


def _is_empty(kind: str, one: Term, other: Term, on_the_left: bool) -> bool | None:
    """Whether a comparison says that `one` is empty (True) or is not (False); None: neither."""
    if _is_length(one):
        if other == ("constant:0",):
            if kind in ("Eq", "NotEq"):
                return kind == "Eq"
            return False if kind == "Lt" and not on_the_left else None
        return True if other == ("constant:1",) and kind == "Lt" and on_the_left else None
    if kind in ("Eq", "NotEq") and other in (("List",), ("Dict",), ("Tuple",), ("constant:''",)):
        return kind == "Eq"
    if kind in ("Eq", "NotEq") and other == ("constant:True",):
        return kind != "Eq"
    if kind in ("Eq", "NotEq") and other == ("constant:False",):
        return kind == "Eq"
    return None


def _is_length(term: Term) -> bool:
    return len(term) == 3 and term[:2] == ("call", ("global:len",))
