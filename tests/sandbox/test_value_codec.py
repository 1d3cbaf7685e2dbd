"""Plain values arrive unchanged; everything else arrives as a plain value or is refused."""

from __future__ import annotations

import collections
import copy
import datetime
import decimal
import enum
import fractions
import json
import math
import zoneinfo

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from code_alpaca.sandbox.inside.plain_types import CONTAINERS, DECODERS, UnsupportedValue
from code_alpaca.sandbox.inside.value_codec import ValueCodec


def transmit(message):
    return json.loads(json.dumps(message))


def send(value, names=None):
    """Return a value as it arrives at the other side."""
    return ValueCodec(names).decode(transmit(ValueCodec().encode(value)))


def call_remotely(function, *args):
    """Return what a remote call returns; changes to the arguments are transmitted back."""
    here, there = ValueCodec(), ValueCodec()
    reply = there.encode(function(*there.decode(transmit(here.encode(list(args))))))
    return here.decode(transmit(reply))


ATOMS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers(allow_nan=False)
    | st.text() | st.text(st.characters(categories=["Cs"])) | st.binary() | st.decimals()
    | st.fractions() | st.datetimes() | st.dates() | st.times() | st.timedeltas()
    | st.datetimes(timezones=st.just(datetime.UTC))
)  # fmt: skip
HASHABLE = st.integers() | st.text() | st.tuples(st.integers(), st.text())
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(HASHABLE, inner, max_size=4)
        | st.dictionaries(HASHABLE, inner, max_size=3).map(collections.OrderedDict)
        | st.dictionaries(HASHABLE, inner, max_size=3).map(
            lambda items: collections.defaultdict(list, items)
        )
        | st.sets(HASHABLE, max_size=4)
        | st.frozensets(HASHABLE, max_size=4)
        | st.lists(inner, max_size=3).map(lambda items: collections.deque(items, maxlen=3))
        | st.binary(max_size=3).map(bytearray)
    ),
    max_leaves=20,
)


def shape(value):
    """Return types and values at every depth: -0.0 is not 0.0, nan is nan, sets have no order."""
    if isinstance(value, dict):
        return type(value), [(shape(k), shape(v)) for k, v in value.items()]
    if isinstance(value, set | frozenset):
        return type(value), sorted(repr(shape(item)) for item in value)
    if isinstance(value, list | tuple | collections.deque):
        return type(value), [shape(item) for item in value]
    return type(value), repr(value), getattr(value, "fold", 0)


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_a_plain_value_arrives_unchanged(value):
    received = send(value)
    assert type(received) is type(value)
    assert shape(received) == shape(value)
    if isinstance(value, collections.deque):
        assert received.maxlen == value.maxlen


@settings(max_examples=150, deadline=None)
@given(VALUES, st.data())
def test_a_remote_call_changes_its_arguments_as_a_local_call_does(value, data):
    """The same change, at a random depth, locally and remotely."""
    path = data.draw(st.lists(st.integers(0, 3), max_size=4))

    def change(argument):
        place = argument
        for step in path:
            inner = list(place.values()) if isinstance(place, dict) else place
            if not isinstance(inner, list | tuple | collections.deque) or not len(inner):
                break
            place = inner[step % len(inner)]
        if isinstance(place, list):
            place.append([place[:1], "new"])
        elif isinstance(place, dict):
            place["new"] = [1]
        elif isinstance(place, set):
            place.add("new")
        return place

    expected = copy.deepcopy(value)
    expected_result = change(expected)
    result = call_remotely(change, value)
    assert shape(value) == shape(expected)
    assert shape(result) == shape(expected_result)


def test_shared_and_cyclic_references_are_preserved():
    row = [0]
    received = send([row, row, [0]])
    assert received[0] is received[1] and received[0] is not received[2]
    cycle = [1]
    cycle.append(cycle)
    received = send(cycle)
    assert received[1] is received
    argument = [[1], {"k": [2]}]
    assert call_remotely(lambda a: a, argument) is argument
    assert call_remotely(lambda a: a[1]["k"], argument) is argument[1]["k"]
    assert call_remotely(lambda a: list(a), argument) is not argument
    assert call_remotely(lambda a: list(a), argument)[0] is argument[0]


def test_a_refused_value_leaves_the_codec_usable():
    here, there = ValueCodec(), ValueCodec()
    (argument,) = there.decode(transmit(here.encode([[1]])))
    with pytest.raises(UnsupportedValue):
        there.encode([[2], object()])
    argument.append(3)
    mine = here.decode(transmit(there.encode([argument, [4]])))
    assert mine == [[1, 3], [4]]


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
        (type("T", (tuple,), {"__eq__": lambda s, o: True})((1,)), (1,)),
        pytest.param(10**5000, 10**5000, id="5000 digits"),
        (range(10**18), range(10**18)),
        (decimal.Decimal("1.10"), decimal.Decimal("1.10")),
        (fractions.Fraction(1, 3), fractions.Fraction(1, 3)),
        (datetime.timedelta(days=1), datetime.timedelta(days=1)),
        (math.inf, math.inf),
        (int, int),
    ],
)
def test_a_subclass_arrives_as_its_plain_base(value, plain):
    received = send(value)
    assert received == plain and type(received) is type(plain)


def test_numpy_scalars_arrive_as_plain_numbers():
    received = send([numpy.int64(3), numpy.float32(0.5), numpy.bool_(True), numpy.str_("x")])
    assert received == [3, 0.5, True, "x"]
    assert [type(item) for item in received] == [int, float, bool, str]


def test_named_tuples_and_enums_get_the_class_of_the_receiving_side():
    Point = collections.namedtuple("Point", "x y")
    Color = enum.Enum("Color", "RED BLUE")
    names = {"Point": Point, "Color": Color}
    assert type(send(Point(1, [2]), names)) is Point
    assert send(Color.BLUE, names) is Color.BLUE
    elsewhere = send(Point(1, 2))  # a class with the same fields is created
    assert (elsewhere.x, elsewhere.y) == elsewhere == (1, 2)
    with pytest.raises(UnsupportedValue, match="Level"):
        send(enum.IntEnum("Level", "LOW HIGH").HIGH)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        lambda: 0,
        [print],
        {1: {2: object()}},
        iter(int, 1),
        collections.defaultdict(lambda: 0),
        datetime.datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo("UTC")),
    ],
)
def test_a_value_without_a_plain_form_is_refused(value):
    with pytest.raises(UnsupportedValue):
        ValueCodec().encode(value)


def test_iterators_are_read_to_their_end():
    assert list(send(map(str, range(3)))) == ["0", "1", "2"]


FORGED = st.recursive(
    st.none() | st.integers() | st.text(max_size=3) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.fixed_dictionaries({"t": st.sampled_from([*DECODERS, "enum", "x"]), "v": inner})
        | st.fixed_dictionaries({"r": st.integers(-2, 2)})
        | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(FORGED, st.lists(st.tuples(st.integers(-1, 2), st.sampled_from(list(CONTAINERS)), FORGED)))
def test_any_forged_message_is_a_plain_value_or_an_error(form, containers):
    message = [form, [[number, [tag, body]] for number, tag, body in containers]]
    try:
        value = ValueCodec().decode(transmit(message))
    except (ValueError, UnsupportedValue):
        return
    modules = ("builtins", "collections", "datetime", "decimal", "fractions")
    assert type(value).__module__ in modules
