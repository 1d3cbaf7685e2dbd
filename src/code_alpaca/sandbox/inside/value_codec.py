"""Encode Python values as JSON to send them between two sandboxed processes.

`ValueCodec.decode` returns only values of trusted types for any message: built-in and standard
library types, and named tuples and enum members of classes that the receiving side already has.
An object that claims to equal everything arrives as the plain value underneath, or is refused
(`UnsupportedValue`). So tests compare values, never objects that the tested code created. (Pickle
runs code of the sender, and JSON by itself has neither references nor these types.)

A codec is the state of one call. Mutable containers (lists, dicts, sets, ...) get an ID when they
are first sent, the same on both sides, so shared and cyclic references, changes to an argument at
any depth, and an argument that is returned all arrive as such.

A message is `[encoded, changes]`: the value, and `[id, contents]` of each container that is new or
differs from what the other side last received. In an encoded value, `{"r": 3}` refers to container
3, `{"t": tag, "v": ...}` is a value of another type, and everything else is the JSON value itself.
"""

from __future__ import annotations

import collections
import enum

from .plain_types import (
    CONTAINERS,
    DECODERS,
    ENCODERS,
    LARGE_INT,
    MUTABLE_TYPES,
    PLAIN_TYPES,
    UnsupportedValue,
    encode_items,
    encode_text,
)


class ValueCodec:
    """Encode and decode the values of one call.

    Classes of received named tuples and enums are looked up by name in `names`.
    """

    def __init__(self, names: dict | None = None) -> None:
        self._names = names if names is not None else {}
        self._containers: list = []  # by ID
        self._ids: dict[int, int] = {}  # Python's id() -> ID
        self._synced: list = []  # contents of each container that both sides have

    def encode(self, value: object) -> list:
        """Return the message with a value and every change to containers already sent."""
        num_synced = len(self._synced)
        try:
            encoded = self._encode(value)
            changes = self._collect_changes()
        except (UnsupportedValue, RecursionError):  # the other side never gets the new IDs
            for container in self._containers[num_synced:]:
                del self._ids[id(container)]
            del self._containers[num_synced:]
            raise
        for number, contents in changes:
            self._synced[number : number + 1] = [contents]
        return [encoded, changes]

    def decode(self, message: object) -> object:
        """Return the value of a message; containers already received are changed in place.

        Raises UnsupportedValue if this side lacks a class, and ValueError for malformed messages.
        """
        try:
            encoded, changes = message
            for number, (tag, body) in changes:
                if number == len(self._containers):
                    make, _ = CONTAINERS[tag]
                    self._register(make(body))
                    self._synced.append([tag, body])
                elif type(number) is int and 0 <= number < len(self._containers):
                    self._synced[number] = [tag, body]
                else:
                    raise ValueError("no such container")
            for number, (tag, body) in changes:
                _, fill = CONTAINERS[tag]
                fill(self._containers[number], self._decode_contents(tag, body))
            return self._decode(encoded)
        except (LookupError, TypeError, AttributeError, RecursionError, ArithmeticError) as error:
            raise ValueError(f"malformed value: {type(error).__name__}") from None

    def _collect_changes(self) -> list:
        changes = []
        for number, container in enumerate(self._containers):  # grows while contents are encoded
            contents = self._encode_contents(container)
            if number >= len(self._synced) or contents != self._synced[number]:
                changes.append([number, contents])
        return changes

    def _encode(self, value: object) -> object:
        kind = type(value)
        if value is None or kind is bool or kind is float:
            return value
        if kind is str:
            return encode_text(value)
        if kind is int:
            small = -LARGE_INT < value < LARGE_INT
            return value if small else {"t": "int", "v": hex(value)}
        if kind is list or kind is dict or kind is set:
            return {"r": self._get_id(value)}
        return self._encode_other(value, kind)

    def _encode_other(self, value: object, kind: type) -> object:
        """Encode a value; one of a subclass as its base, read by the methods of the base."""
        if isinstance(value, enum.Enum):
            name = value._name_
            if name is None or kind.__members__.get(name) is not value:
                raise UnsupportedValue(kind.__name__)
            return {"t": "enum", "v": [kind.__name__, name]}
        if isinstance(value, MUTABLE_TYPES):
            return {"r": self._get_id(value)}
        if isinstance(value, tuple):
            items = [self._encode(item) for item in tuple.__iter__(value)]
            fields = getattr(kind, "_fields", None)
            if kind is tuple or not isinstance(fields, tuple):
                return {"t": "tuple", "v": items}
            return {"t": "namedtuple", "v": [kind.__name__, [str(f) for f in fields], items]}
        if isinstance(value, int):
            return self._encode(int.__pos__(value))
        if isinstance(value, str):
            return encode_text(str.__getitem__(value, slice(None)))
        if isinstance(value, float):
            return float.__pos__(value)
        for base, tag, encode in ENCODERS:
            if isinstance(value, base):
                return {"t": tag, "v": encode(self._encode, value)}
        if kind is type and value in PLAIN_TYPES.values():
            return {"t": "type", "v": value.__name__}
        if kind.__module__ == "numpy" and getattr(value, "ndim", None) == 0:
            scalar = value.item()
            if type(scalar) in (bool, int, float, complex, str, bytes):
                return self._encode(scalar)
        if hasattr(kind, "__next__"):
            return {"t": "iterator", "v": encode_items(self._encode, value)}
        raise UnsupportedValue(kind.__name__)

    def _encode_contents(self, value: object) -> list:
        encode = self._encode
        if isinstance(value, list):
            return ["list", [encode(item) for item in list.__iter__(value)]]
        if isinstance(value, dict):
            pairs = [[encode(key), encode(item)] for key, item in dict.items(value)]
            if isinstance(value, collections.defaultdict):
                factory = value.default_factory
                name = getattr(factory, "__name__", None)
                if factory is not None and PLAIN_TYPES.get(name) is not factory:
                    raise UnsupportedValue("defaultdict")
                return ["defaultdict", [name, pairs]]
            for base in (collections.Counter, collections.OrderedDict):
                if isinstance(value, base):
                    return [base.__name__, pairs]
            return ["dict", pairs]
        if isinstance(value, set):
            return ["set", [encode(item) for item in set.__iter__(value)]]
        if isinstance(value, collections.deque):
            items = [encode(item) for item in collections.deque.__iter__(value)]
            return ["deque", [value.maxlen, items]]
        return ["bytearray", bytearray.hex(value)]

    def _get_id(self, value: object) -> int:
        number = self._ids.get(id(value))
        return self._register(value) if number is None else number

    def _register(self, value: object) -> int:
        number = len(self._containers)
        self._containers.append(value)  # a reference, so that its id() stays unique
        self._ids[id(value)] = number
        return number

    def _decode(self, encoded: object) -> object:
        if type(encoded) is not dict:
            if type(encoded) is list:
                raise ValueError("a list outside of a container")
            return encoded
        if "r" in encoded:
            number = encoded["r"]
            if type(number) is not int or number < 0:
                raise ValueError("no such container")
            return self._containers[number]
        tag, body = encoded["t"], encoded["v"]
        if tag == "namedtuple":
            return self._decode_named_tuple(*body)
        if tag == "enum":
            name, member = body
            kind = self._names.get(name)
            if not (isinstance(kind, type) and issubclass(kind, enum.Enum)):
                raise UnsupportedValue(str(name))
            return kind.__members__[member]
        if tag == "type":
            return PLAIN_TYPES[body]
        return DECODERS[tag](self._decode, body)

    def _decode_named_tuple(self, name: object, fields: list, items: list) -> object:
        values = [self._decode(item) for item in items]
        kind = self._names.get(name)
        is_tuple = isinstance(kind, type) and issubclass(kind, tuple)
        if not is_tuple or list(getattr(kind, "_fields", ())) != fields:
            kind = collections.namedtuple(name, fields)
        return tuple.__new__(kind, values)

    def _decode_contents(self, tag: str, body: object) -> object:
        if tag == "bytearray":
            return bytes.fromhex(body)
        if tag in ("deque", "defaultdict"):
            body = body[1]
        if tag in ("list", "set", "deque"):
            return [self._decode(item) for item in body]
        return [(self._decode(key), self._decode(item)) for key, item in body]
