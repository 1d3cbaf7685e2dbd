"""Plain values cross unchanged; nothing else arrives as anything but a plain value."""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from code_alpaca.sandbox.inside import wire


def cross(value):
    return wire.loads_form(json.loads(json.dumps(wire.encode(value))))


def unfolded(moment):
    return moment.replace(fold=0)  # an hour that comes twice: JSON does not tell which


ATOMS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers(allow_nan=False)
    | st.text() | st.text(st.characters(categories=["Cs"])) | st.binary() | st.decimals()
    | st.fractions() | st.datetimes().map(unfolded) | st.dates() | st.times().map(unfolded)
    | st.timedeltas()
)  # fmt: skip
HASHABLE = st.integers() | st.text() | st.tuples(st.integers(), st.text())
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(HASHABLE, inner, max_size=4)
        | st.sets(HASHABLE, max_size=4)
        | st.frozensets(HASHABLE, max_size=4)
        | st.lists(inner, max_size=3).map(collections.deque)
    ),
    max_leaves=20,
)


def shape(value):
    """Types and values throughout: -0.0 is not 0.0, nan is nan, a set has no order."""
    if isinstance(value, dict):
        return type(value), [(shape(k), shape(v)) for k, v in value.items()]
    if isinstance(value, set | frozenset):
        return type(value), sorted(repr(shape(item)) for item in value)
    if isinstance(value, list | tuple | collections.deque):
        return type(value), [shape(item) for item in value]
    return type(value), repr(value)


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_a_plain_value_crosses_unchanged(value):
    got = cross(value)
    assert type(got) is type(value)
    assert shape(got) == shape(value)


class Liar(int):
    def __eq__(self, other):
        return True

    def __hash__(self):
        return 0


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Liar(5), 5),
        ([Liar(5)], [5]),
        (type("L", (list,), {"__eq__": lambda s, o: True})([1]), [1]),
        (type("S", (str,), {"__eq__": lambda s, o: True, "__hash__": None})("x"), "x"),
        (collections.namedtuple("P", "x y")(1, 2), (1, 2)),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        pytest.param(10**5000, 10**5000, id="5000 digits"),
        (range(10**18), range(10**18)),
        (decimal.Decimal("1.10"), decimal.Decimal("1.10")),
        (fractions.Fraction(1, 3), fractions.Fraction(1, 3)),
        (datetime.timedelta(days=1), datetime.timedelta(days=1)),
        (math.inf, math.inf),
    ],
)
def test_a_subclass_arrives_as_what_it_is_underneath(value, plain):
    got = cross(value)
    assert got == plain and type(got) is type(plain)


def test_iterators_are_taken_and_endless_ones_refused():
    assert list(cross(map(str, range(3)))) == ["0", "1", "2"]
    with pytest.raises(wire.Unplain):
        wire.encode(iter(int, 1))
    for value in (object(), lambda: 0, [print]):
        with pytest.raises(wire.Unplain):
            wire.encode(value)


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=3) | st.floats(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.fixed_dictionaries({"t": st.sampled_from([*wire.WRITERS, "x"]), "v": inner})
            | st.dictionaries(st.text(max_size=2), inner, max_size=2)
        ),
        max_leaves=8,
    )
)
def test_any_forged_form_is_a_plain_value_or_a_value_error(form):
    try:
        value = wire.loads_form(form)
    except ValueError:
        return
    assert type(value).__module__ in (
        "builtins", "collections", "datetime", "decimal", "fractions"
    )  # fmt: skip
