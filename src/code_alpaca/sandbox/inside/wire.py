"""Plain values as JSON lines, between a sandbox that tests and one that answers.

Only values of exact built-in types come out of `decode`, whatever went in: an object that says
it equals everything arrives as what it is underneath, or not at all. So the tests compare
values, never objects that the tested code made.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import types

MOST_ITEMS = 1_000_000  # taken from an iterator
LARGE = 1 << 62


class Unplain(Exception):
    """A value that cannot cross: an object of a class of one's own, a function."""


def loads_form(form: object) -> object:
    """The value of a JSON form that another process wrote; exact built-in types throughout.

    Raises:
        ValueError: not a form that `encode` makes.
    """
    try:
        return decode(form)
    except (LookupError, TypeError, AttributeError, RecursionError, ArithmeticError) as error:
        raise ValueError(f"not a plain value: {type(error).__name__}") from None


def encode(value: object) -> object:
    """The JSON form. Subclasses are read through the methods of their base, not their own."""
    kind = type(value)
    if value is None or kind is bool or kind is float:
        return value
    if kind is str:
        return _text(value)
    if isinstance(value, int):
        value = int.__pos__(value)
        return value if -LARGE < value < LARGE else {"t": "int", "v": hex(value)}
    if kind is list:
        return [encode(item) for item in value]
    for base, tag, read in READERS:
        if isinstance(value, base):
            return {"t": tag, "v": read(value)}
    if isinstance(value, str):
        return _text(str.__getitem__(value, slice(None)))
    if isinstance(value, float):
        return float.__pos__(value)
    if isinstance(value, list):
        return [encode(item) for item in list.__iter__(value)]
    if hasattr(kind, "__next__"):
        return {"t": "iterator", "v": _taken(value)}
    raise Unplain(kind.__name__)


def _text(value):
    """Half surrogates go apart: two that meet would be one character after JSON."""
    try:
        value.encode()
        return value
    except UnicodeEncodeError:
        return {"t": "surrogates", "v": value.encode("utf-32-le", "surrogatepass").hex()}


def _items(value):
    return [[encode(key), encode(item)] for key, item in dict.items(value)]


def _taken(value):
    taken = []
    for item in value:
        taken.append(encode(item))
        if len(taken) > MOST_ITEMS:
            raise Unplain("an iterator without end")
    return taken


def _all(base):
    return lambda value: [encode(item) for item in base.__iter__(value)]


READERS = (
    (tuple, "tuple", _all(tuple)),
    (collections.deque, "deque", _all(collections.deque)),
    (collections.Counter, "counter", _items),
    (dict, "dict", _items),
    (set, "set", _all(set)),
    (frozenset, "frozenset", _all(frozenset)),
    (bytes, "bytes", lambda value: bytes.hex(value)),
    (bytearray, "bytearray", lambda value: bytearray.hex(value)),
    (complex, "complex", lambda value: [value.real, value.imag]),
    (range, "range", lambda value: [encode(n) for n in (value.start, value.stop, value.step)]),
    (type({}.keys()), "keys", _taken),
    (type({}.values()), "values", _taken),
    (type({}.items()), "items", _taken),
    (decimal.Decimal, "decimal", lambda value: decimal.Decimal.__str__(value)),
    (fractions.Fraction, "fraction", lambda value: [hex(value.numerator), hex(value.denominator)]),
    (datetime.datetime, "datetime", lambda value: datetime.datetime.isoformat(value)),
    (datetime.date, "date", lambda value: datetime.date.isoformat(value)),
    (datetime.time, "time", lambda value: datetime.time.isoformat(value)),
    (datetime.timedelta, "timedelta", lambda value: [value.days, value.seconds,
                                                     value.microseconds]),
    (type(...), "ellipsis", lambda value: 0),
    (types.NotImplementedType, "not_implemented", lambda value: 0),
)  # fmt: skip


def decode(form: object) -> object:
    """The value of a JSON form."""
    if type(form) is list:
        return [decode(item) for item in form]
    if type(form) is not dict:
        return form
    return WRITERS[form["t"]](form["v"])


def _pairs(form):
    return {decode(key): decode(item) for key, item in form}


def _each(form):
    return [decode(item) for item in form]


WRITERS = {
    "surrogates": lambda form: bytes.fromhex(form).decode("utf-32-le", "surrogatepass"),
    "int": lambda form: int(form, 16),
    "tuple": lambda form: tuple(_each(form)),
    "deque": lambda form: collections.deque(_each(form)),
    "counter": lambda form: collections.Counter(_pairs(form)),
    "dict": _pairs,
    "set": lambda form: set(_each(form)),
    "frozenset": lambda form: frozenset(_each(form)),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "complex": lambda form: complex(*form),
    "range": lambda form: range(*_each(form)),
    "keys": lambda form: dict.fromkeys(_each(form)).keys(),
    "values": lambda form: dict(enumerate(_each(form))).values(),
    "items": lambda form: dict(_each(form)).items(),
    "decimal": decimal.Decimal,
    "fraction": lambda form: fractions.Fraction(int(form[0], 16), int(form[1], 16)),
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat,
    "timedelta": lambda form: datetime.timedelta(*form),
    "ellipsis": lambda form: ...,
    "not_implemented": lambda form: NotImplemented,
    "iterator": lambda form: iter(_each(form)),
}
