"""How values of each trusted type are encoded as JSON and decoded, for `value_codec`."""

from __future__ import annotations

import datetime
import decimal
import fractions
import types
from collections import Counter, OrderedDict, defaultdict, deque

MAX_ITEMS = 1_000_000  # read from an iterator
LARGE_INT = 1 << 62  # larger ones are sent in hexadecimal: Python limits decimal digits


class UnsupportedValue(Exception):
    """A value that cannot be sent: an object of a custom class, a function, an endless iterator."""


def _refill(clear, extend):
    """Return a function that replaces the contents of a container."""

    def fill(value, contents):
        clear(value)
        extend(value, contents)

    return fill


def _set_items(value, pairs):
    for key, item in pairs:
        OrderedDict.__setitem__(value, key, item)


def _set_bytes(value, data):
    bytearray.__setitem__(value, slice(None), data)


def _make_defaultdict(body):
    factory = body[0]
    return defaultdict(None if factory is None else PLAIN_TYPES[factory])


_fill_dict = _refill(dict.clear, dict.update)
# Tag -> functions that make a container, empty, from its encoded contents, and that fill it. They
# call methods of the base types, which subclasses cannot override.
CONTAINERS = {
    "list": (lambda body: [], _refill(list.clear, list.extend)),
    "dict": (lambda body: {}, _fill_dict),
    "defaultdict": (_make_defaultdict, _fill_dict),
    "Counter": (lambda body: Counter(), _fill_dict),
    "OrderedDict": (lambda body: OrderedDict(), _refill(OrderedDict.clear, _set_items)),
    "set": (lambda body: set(), _refill(set.clear, set.update)),
    "deque": (lambda body: deque(maxlen=body[0]), _refill(deque.clear, deque.extend)),
    "bytearray": (lambda body: bytearray(), _set_bytes),
}
MUTABLE_TYPES = (list, dict, set, deque, bytearray)
PLAIN_TYPES = {
    kind.__name__: kind
    for kind in (bool, bytes, bytearray, complex, dict, float, frozenset, int, list, object, range,
                 set, str, tuple, type(None))
}  # fmt: skip


def encode_text(value):
    """Encode a string; in hexadecimal if it has lone surrogates, since JSON would join two."""
    if value.isascii():
        return value
    try:
        value.encode()
        return value
    except UnicodeEncodeError:
        return {"t": "surrogates", "v": value.encode("utf-32-le", "surrogatepass").hex()}


def encode_items(encode, value):
    """Encode everything that an iterable yields, unless it yields more than `MAX_ITEMS`."""
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
    (frozenset, "frozenset", lambda encode, x: [encode(item) for item in frozenset.__iter__(x)]),
    (bytes, "bytes", lambda encode, x: bytes.hex(x)),
    (complex, "complex", lambda encode, x: [x.real, x.imag]),
    (range, "range", lambda encode, x: [encode(n) for n in (x.start, x.stop, x.step)]),
    (type({}.keys()), "keys", encode_items),
    (type({}.values()), "values", encode_items),
    (type({}.items()), "items", encode_items),
    (decimal.Decimal, "decimal", lambda encode, x: decimal.Decimal.__str__(x)),
    (fractions.Fraction, "fraction", lambda encode, x: [hex(x.numerator), hex(x.denominator)]),
    (datetime.datetime, "datetime", _time_encoder(datetime.datetime)),
    (datetime.date, "date", lambda encode, x: datetime.date.isoformat(x)),
    (datetime.time, "time", _time_encoder(datetime.time)),
    (datetime.timedelta, "timedelta", lambda encode, x: [x.days, x.seconds, x.microseconds]),
    (type(...), "ellipsis", lambda encode, x: 0),
    (types.NotImplementedType, "not_implemented", lambda encode, x: 0),
)


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
