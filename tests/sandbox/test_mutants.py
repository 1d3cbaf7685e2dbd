"""A mutant has one small change that tests should detect; a stub has functions that return None."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from code_alpaca.sandbox.inside.mutants import (
    OPERATORS,
    find_constant_stubs,
    find_mutations,
    make_stub,
)


def list_mutants(source: str, *operators: str) -> list[str]:
    """Return the source of each mutant, in their order; by default those of all operators."""
    tree = ast.parse(source)
    mutants = []
    for mutation in find_mutations(tree, source):
        with mutation.applied():
            if mutation.operator in (operators or OPERATORS):
                mutants.append(ast.unparse(tree))
    assert ast.unparse(tree) == ast.unparse(ast.parse(source)), "the tree is as it was"
    return mutants


@pytest.mark.parametrize(
    ("operator", "expression", "changed"),
    [
        ("comparison", "a < b", {"a >= b"}),
        ("comparison", "a == b <= c", {"a != b <= c", "a == b > c"}),
        ("comparison", "a in b", {"a not in b"}),
        ("comparison", "a is not b", {"a is b"}),
        ("boundary", "a < b", {"a <= b"}),
        ("boundary", "a == b", set()),
        ("boundary", "range(a, b)", {"range(a, b - 1)"}),
        ("boundary", "range(*a)", set()),
        ("arithmetic", "a + b * c", {"a - b * c", "a + (b + c)"}),
        ("arithmetic", "a // b % c", {"a * b % c", "a // b // c"}),
        ("arithmetic", "a | b", {"a & b"}),
        ("arithmetic", "a + 'x'", {"'x' + a"}),
        ("arithmetic", "[0] * a", set()),
        ("arithmetic", "'%s' % a", set()),
        ("boolean", "a and b", {"a or b"}),
        ("boolean", "not a", {"a"}),
        ("boolean", "b if a else c", {"b if not a else c"}),
        ("boolean", "b if a < 1 else c", set()),
        ("boolean", "[a for a in b if a]", {"[a for a in b if not a]"}),
        ("slice", "a[1:b]", {"a[:b]", "a[1:]", "a[2:b]"}),
        ("slice", "a[::-1]", {"a[:]", "a[::-2]"}),
        ("slice", "a[0] + b[-1]", {"a[1] + b[-1]", "a[0] + b[-2]"}),
        ("slice", "a['x']", set()),
        ("constant", "a['x']", {"a['']"}),
        ("constant", "(1, 0.5, True, '', b'x', None)", {
            "(2, 0.5, True, '', b'x', None)", "(1, 1.5, True, '', b'x', None)",
            "(1, 0.5, False, '', b'x', None)", "(1, 0.5, True, 'changed', b'x', None)",
            "(1, 0.5, True, '', b'', None)",
        }),
    ],
)  # fmt: skip
def test_each_operator_changes_one_place(operator, expression, changed):
    assert set(list_mutants(expression, operator)) == changed


def test_a_result_becomes_none():
    source = "def f(x):\n    if x:\n        return g(x)\n    return None\n\ndef h():\n    yield 1"
    assert set(list_mutants(source, "return")) == {
        source.replace("g(x)", "None"),
        source.replace("yield 1", "yield None"),
    }


def test_what_tests_cannot_check_is_not_changed():
    source = '''
"""Documentation 1."""
import os

@cache(maxsize=3)
def f(x: "int" = None) -> Literal[1]:
    """Return 2."""
    print("result", 4)
    if x:
        raise ValueError("must not be 5")
    assert x, "must be set"
    return f"{x:.2f}"

if __name__ == "__main__":
    main(1 + 2)
'''
    assert list_mutants(source, "constant", "arithmetic", "comparison") == []


def test_operators_take_turns_and_their_places_are_spread():
    source = "\n".join(f"x{number} = a{number} + {number}" for number in range(50))
    mutations = find_mutations(ast.parse(source), source)
    assert [mutation.operator for mutation in mutations[:4]] == ["arithmetic", "constant"] * 2
    lines = [mutation.parent.lineno for mutation in mutations[:12:2]]
    for start in range(0, 50, 25):
        assert any(start < line <= start + 25 for line in lines)


@pytest.mark.parametrize(
    ("source", "stub"),
    [
        ("def f(x):\n    'Double.'\n    return 2 * x",
         'def f(x):\n    """Double."""\n    return None'),
        ("import re\nLIMIT = 3\nasync def f():\n    await g()",
         "import re\nLIMIT = 3\n\nasync def f():\n    return None"),
        ("class A(B):\n    size: int = 3\n    @property\n    def x(self):\n        return 1",
         "class A(B):\n    size: int = 3\n\n    @property\n    def x(self):\n        return None"),
        ("f = lambda x: x + 1", "f = lambda x: None"),
        ("def f():\n    return 1\nx = y = f()\nprint(f())\nz = g()",
         "def f():\n    return None\nx = y = None\nz = g()"),
        ("words = ['b', 'a']\nfirst, second = sorted(words)\nfor word in words:\n    print(word)",
         "words = ['b', 'a']\nfirst = second = None"),
    ],
)  # fmt: skip
def test_a_stub_has_the_definitions_of_the_program(source, stub):
    tree = ast.parse(source)
    make_stub(tree)
    assert ast.unparse(tree) == stub


def test_a_constant_stub_repeats_the_first_value_of_one_function_with_arguments():
    source = "def f(x):\n    return x\n\ndef g():\n    return 1\n\ndef h(*x):\n    return 2"
    tree = ast.parse(source)
    stubs = []
    for change in find_constant_stubs(tree):
        with change.applied():
            stubs.append(ast.unparse(tree))
    assert stubs == [
        source.replace(f"def {name}", f"@__first_value__\ndef {name}") for name in ("f", "h")
    ]


NAMES = st.sampled_from(["a", "b", "items"])
CONSTANTS = st.sampled_from(["0", "1", "-2", "0.5", "True", "None", "''", "'x'", "b'y'"])
EXPRESSIONS = st.recursive(
    NAMES | CONSTANTS,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "*", "%", "//", "&"]), inner),
        st.builds("({} {} {})".format, inner, st.sampled_from(["<", ">=", "==", "in"]), inner),
        st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or"]), inner),
        st.builds("(not {})".format, inner),
        st.builds("items[{}:{}]".format, inner, inner),
        st.builds("items[{}]".format, inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("[a for a in range({}) if {}]".format, inner, inner),
        st.builds("f(a={}, *{})".format, inner, inner),
    ),
    max_leaves=12,
)
STATEMENTS = st.one_of(
    st.builds("    return {}".format, EXPRESSIONS),
    st.builds("    a += {}".format, EXPRESSIONS),
    st.builds("    while {}:\n        a = {}".format, EXPRESSIONS, EXPRESSIONS),
    st.builds("    if {}:\n        yield {}".format, EXPRESSIONS, EXPRESSIONS),
)
PROGRAMS = st.lists(STATEMENTS, min_size=1, max_size=4).map(
    lambda lines: "\n".join(["def f(a, b, items):", *lines])
)


@settings(max_examples=150, deadline=None)
@given(PROGRAMS)
def test_every_mutant_of_a_program_parses_differs_and_is_always_the_same(source):
    mutants = list_mutants(source)
    original = ast.dump(ast.parse(ast.unparse(ast.parse(source))))
    for mutant in mutants:
        assert ast.dump(ast.parse(mutant)) != original
    assert mutants == list_mutants(source)
