"""How values of each trusted type are encoded as JSON and decoded, for `value_codec`."""

from __future__ import annotations

import builtins
import collections
import datetime
import decimal
import fractions
import types
from collections.abc import Callable
from typing import Any, NamedTuple

MAX_ITEMS = 1_000_000  # read from an iterator
LARGE_INT = 1 << 62  # larger ones are sent in hexadecimal: Python limits decimal digits


class UnsupportedValue(Exception):
    """A value that cannot be sent: an object of a custom class, a function, an endless iterator."""


# -- mutable containers ----------------------------------------------------------------------


class ContainerType(NamedTuple):
    """How a container is made empty from its encoded contents, and then filled in place."""

    make: Callable[[Any], Any]
    fill: Callable[[Any, Any], None]


def _fill_list(value, items):
    list.__setitem__(value, slice(None), items)


def _fill_dict(value, pairs):
    dict.clear(value)
    dict.update(value, pairs)


def _fill_ordered_dict(value, pairs):
    collections.OrderedDict.clear(value)
    for key, item in pairs:
        collections.OrderedDict.__setitem__(value, key, item)


def _fill_set(value, items):
    set.clear(value)
    set.update(value, items)


def _fill_deque(value, items):
    collections.deque.clear(value)
    collections.deque.extend(value, items)


def _fill_bytearray(value, data):
    bytearray.__setitem__(value, slice(None), data)


def _make_defaultdict(body):
    factory = body[0]
    return collections.defaultdict(None if factory is None else PLAIN_TYPES[factory])


CONTAINERS = {
    "list": ContainerType(lambda body: [], _fill_list),
    "dict": ContainerType(lambda body: {}, _fill_dict),
    "defaultdict": ContainerType(_make_defaultdict, _fill_dict),
    "Counter": ContainerType(lambda body: collections.Counter(), _fill_dict),
    "OrderedDict": ContainerType(lambda body: collections.OrderedDict(), _fill_ordered_dict),
    "set": ContainerType(lambda body: set(), _fill_set),
    "deque": ContainerType(lambda body: collections.deque(maxlen=body[0]), _fill_deque),
    "bytearray": ContainerType(lambda body: bytearray(), _fill_bytearray),
}
MUTABLE_TYPES = (list, dict, set, collections.deque, bytearray)
PLAIN_TYPES = {
    name: getattr(builtins, name)
    for name in ("bool", "bytes", "bytearray", "complex", "dict", "float", "frozenset", "int",
                 "list", "object", "range", "set", "str", "tuple")
} | {"NoneType": type(None)}  # fmt: skip


# -- immutable values ------------------------------------------------------------------------


def encode_text(value):
    """Encode a string; lone surrogates need a form of their own, since JSON would join two."""
    if value.isascii():
        return value
    try:
        value.encode()
        return value
    except UnicodeEncodeError:
        return {"t": "surrogates", "v": value.encode("utf-32-le", "surrogatepass").hex()}


def encode_items(encode, value):
    """Encode everything that an iterable yields.

    Raises:
        UnsupportedValue: more than `MAX_ITEMS`.
    """
    items = []
    for item in value:
        items.append(encode(item))
        if len(items) > MAX_ITEMS:
            raise UnsupportedValue("an endless iterator")
    return items


def _time_encoder(kind):
    """Return an encoder of times with a fixed offset; named time zones cannot be sent."""

    def encode_time(encode, value):
        if value.tzinfo is not None and type(value.tzinfo) is not datetime.timezone:
            raise UnsupportedValue(type(value.tzinfo).__name__)
        return [kind.isoformat(value), value.fold]

    return encode_time


# Type (and its subclasses), tag, encoder: a function of the codec's `encode` and the value.
ENCODERS = (
    (frozenset, "frozenset", lambda encode, value: [encode(n) for n in frozenset.__iter__(value)]),
    (bytes, "bytes", lambda encode, value: bytes.hex(value)),
    (complex, "complex", lambda encode, value: [value.real, value.imag]),
    (range, "range", lambda encode, value: [encode(n) for n in (value.start, value.stop,
                                                                value.step)]),
    (type({}.keys()), "keys", encode_items),
    (type({}.values()), "values", encode_items),
    (type({}.items()), "items", encode_items),
    (decimal.Decimal, "decimal", lambda encode, value: decimal.Decimal.__str__(value)),
    (fractions.Fraction, "fraction", lambda encode, value: [hex(value.numerator),
                                                            hex(value.denominator)]),
    (datetime.datetime, "datetime", _time_encoder(datetime.datetime)),
    (datetime.date, "date", lambda encode, value: datetime.date.isoformat(value)),
    (datetime.time, "time", _time_encoder(datetime.time)),
    (datetime.timedelta, "timedelta", lambda encode, value: [value.days, value.seconds,
                                                             value.microseconds]),
    (type(...), "ellipsis", lambda encode, value: 0),
    (types.NotImplementedType, "not_implemented", lambda encode, value: 0),
)  # fmt: skip


def _decode_items(decode, body):
    return [decode(item) for item in body]


# Tag -> decoder: a function of the codec's `decode` and the encoded value.
DECODERS = {
    "surrogates": lambda decode, body: bytes.fromhex(body).decode("utf-32-le", "surrogatepass"),
    "int": lambda decode, body: int(body, 16),
    "tuple": lambda decode, body: tuple(_decode_items(decode, body)),
    "frozenset": lambda decode, body: frozenset(_decode_items(decode, body)),
    "bytes": lambda decode, body: bytes.fromhex(body),
    "complex": lambda decode, body: complex(*body),
    "range": lambda decode, body: range(*_decode_items(decode, body)),
    "keys": lambda decode, body: dict.fromkeys(_decode_items(decode, body)).keys(),
    "values": lambda decode, body: dict(enumerate(_decode_items(decode, body))).values(),
    "items": lambda decode, body: dict(_decode_items(decode, body)).items(),
    "decimal": lambda decode, body: decimal.Decimal(body),
    "fraction": lambda decode, body: fractions.Fraction(int(body[0], 16), int(body[1], 16)),
    "datetime": lambda decode, body: datetime.datetime.fromisoformat(body[0]).replace(fold=body[1]),
    "date": lambda decode, body: datetime.date.fromisoformat(body),
    "time": lambda decode, body: datetime.time.fromisoformat(body[0]).replace(fold=body[1]),
    "timedelta": lambda decode, body: datetime.timedelta(*body),
    "ellipsis": lambda decode, body: ...,
    "not_implemented": lambda decode, body: NotImplemented,
    "iterator": lambda decode, body: iter(_decode_items(decode, body)),
}
