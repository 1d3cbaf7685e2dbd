"""Values as JSON between two sandboxes: one that tests a solution, and one that runs it.

Only values of trusted types come out of `Graph.load`, whatever was sent: built-in and standard
library types, and named tuples and enum members of classes that the receiving side already has.
An object that claims to equal everything arrives as the plain value underneath, or not at all
(`Unplain`). So the tests compare values, never objects that the tested code made.

A `Graph` is the state of one call. Mutable containers (lists, dicts, sets, ...) are numbered on
first sight and both sides keep the numbers, so shared and cyclic references, changes to an
argument at any depth, and an argument that is returned arrive as such.

A message is `[form, changes]`: the value, and `[number, contents]` of each container that is new
or differs from what the other side last saw. In a form, `{"r": 3}` is container 3,
`{"t": tag, "v": ...}` a value of another type, and everything else stands for itself.
"""

from __future__ import annotations

import builtins
import collections
import datetime
import decimal
import enum
import fractions
import types

MAX_ITEMS = 1_000_000  # read from an iterator
LARGE = 1 << 62


class Unplain(Exception):
    """A value that cannot cross: an object of a custom class, a function, an endless iterator."""


class Graph:
    """The containers of one call, numbered alike on both sides.

    Args:
        names: the receiving side's namespace, where classes of named tuples and enums are
            looked up by name.
    """

    def __init__(self, names: dict | None = None) -> None:
        self._names = names if names is not None else {}
        self._containers: list = []
        self._numbers: dict[int, int] = {}  # id -> number
        self._known: list = []  # contents of each container as both sides last saw them

    def dump(self, value: object) -> list:
        """The message that carries a value, and every change to known containers.

        Raises:
            Unplain: it cannot cross.
        """
        known = len(self._known)
        try:
            form = self._form(value)
            changes = self._changes()
        except (Unplain, RecursionError):  # the other side never sees what was numbered since
            for container in self._containers[known:]:
                del self._numbers[id(container)]
            del self._containers[known:]
            raise
        for number, contents in changes:
            self._known[number : number + 1] = [contents]
        return [form, changes]

    def _changes(self) -> list:
        changes = []
        number = 0
        while number < len(self._containers):  # which grows while contents are read
            contents = self._contents(self._containers[number])
            if number >= len(self._known) or contents != self._known[number]:
                changes.append([number, contents])
            number += 1
        return changes

    def load(self, message: object) -> object:
        """The value of a message; known containers are changed in place.

        Raises:
            Unplain: a class that this side does not have.
            ValueError: not a message that `dump` makes.
        """
        try:
            form, changes = message
            for number, (tag, body) in changes:
                if number == len(self._containers):
                    self._add(CONTAINERS[tag].make(body))
                    self._known.append([tag, body])
                elif type(number) is int and 0 <= number < len(self._containers):
                    self._known[number] = [tag, body]
                else:
                    raise ValueError("no such container")
            for number, (tag, body) in changes:
                CONTAINERS[tag].fill(self._containers[number], self._body(tag, body))
            return self._value(form)
        except (LookupError, TypeError, AttributeError, RecursionError, ArithmeticError) as error:
            raise ValueError(f"not a plain value: {type(error).__name__}") from None

    # -- values to forms -------------------------------------------------------------------

    def _form(self, value: object) -> object:
        kind = type(value)
        if value is None or kind is bool or kind is float:
            return value
        if kind is str:
            return _text(value)
        if kind is int:
            return value if -LARGE < value < LARGE else {"t": "int", "v": hex(value)}
        if kind is list or kind is dict or kind is set:
            return {"r": self._number(value)}
        return self._other(value, kind)

    def _other(self, value: object, kind: type) -> object:
        """Subclasses are read through the methods of their base, not their own."""
        if isinstance(value, enum.Enum):
            return self._enum_member(value)
        if isinstance(value, MUTABLE):
            return {"r": self._number(value)}
        if isinstance(value, tuple):
            items = [self._form(item) for item in tuple.__iter__(value)]
            fields = getattr(kind, "_fields", None)
            if kind is tuple or not isinstance(fields, tuple):
                return {"t": "tuple", "v": items}
            return {"t": "namedtuple", "v": [kind.__name__, [str(f) for f in fields], items]}
        if isinstance(value, int):
            return self._form(int.__pos__(value))
        if isinstance(value, str):
            return _text(str.__getitem__(value, slice(None)))
        if isinstance(value, float):
            return float.__pos__(value)
        for base, tag, read in READERS:
            if isinstance(value, base):
                return {"t": tag, "v": read(self._form, value)}
        if kind is type and value in PLAIN_TYPES.values():
            return {"t": "type", "v": value.__name__}
        if kind.__module__ == "numpy" and getattr(value, "ndim", None) == 0:
            scalar = value.item()
            if type(scalar) in (bool, int, float, complex, str, bytes):
                return self._form(scalar)
        if hasattr(kind, "__next__"):
            return {"t": "iterator", "v": _items(self._form, value)}
        raise Unplain(kind.__name__)

    def _enum_member(self, value: enum.Enum) -> object:
        kind, name = type(value), value._name_
        if name is None or kind.__members__.get(name) is not value:
            raise Unplain(kind.__name__)
        return {"t": "enum", "v": [kind.__name__, name]}

    def _number(self, value: object) -> int:
        number = self._numbers.get(id(value))
        return self._add(value) if number is None else number

    def _add(self, value: object) -> int:
        number = len(self._containers)
        self._containers.append(value)  # kept alive, so that its id stays its own
        self._numbers[id(value)] = number
        return number

    def _contents(self, value: object) -> list:
        form = self._form
        kind = type(value)
        if kind is list or (kind is not dict and isinstance(value, list)):
            return ["list", [form(item) for item in list.__iter__(value)]]
        if isinstance(value, dict):
            pairs = [[form(key), form(item)] for key, item in dict.items(value)]
            if kind is dict:
                return ["dict", pairs]
            if isinstance(value, collections.defaultdict):
                return ["defaultdict", [self._factory(value.default_factory), pairs]]
            for base in (collections.Counter, collections.OrderedDict):
                if isinstance(value, base):
                    return [base.__name__, pairs]
            return ["dict", pairs]
        if isinstance(value, set):
            return ["set", [form(item) for item in set.__iter__(value)]]
        if isinstance(value, collections.deque):
            items = [form(item) for item in collections.deque.__iter__(value)]
            return ["deque", [value.maxlen, items]]
        return ["bytearray", bytearray.hex(value)]

    def _factory(self, factory: object) -> str | None:
        if factory is None:
            return None
        if PLAIN_TYPES.get(getattr(factory, "__name__", "")) is factory:
            return factory.__name__
        raise Unplain("defaultdict")

    # -- forms to values -------------------------------------------------------------------

    def _value(self, form: object) -> object:
        if type(form) is not dict:
            if type(form) is list:
                raise ValueError("a list outside of a container")
            return form
        if "r" in form:
            number = form["r"]
            if type(number) is not int or number < 0:
                raise ValueError("no such container")
            return self._containers[number]
        tag, body = form["t"], form["v"]
        if tag == "namedtuple":
            return self._named_tuple(*body)
        if tag == "enum":
            name, member = body
            kind = self._names.get(name)
            if not (isinstance(kind, type) and issubclass(kind, enum.Enum)):
                raise Unplain(str(name))
            return kind.__members__[member]
        if tag == "type":
            return PLAIN_TYPES[body]
        return WRITERS[tag](self._value, body)

    def _named_tuple(self, name: object, fields: list, items: list) -> object:
        values = [self._value(item) for item in items]
        kind = self._names.get(name)
        mine = isinstance(kind, type) and issubclass(kind, tuple)
        if not mine or list(getattr(kind, "_fields", ())) != fields:
            kind = collections.namedtuple(name, fields)
        return tuple.__new__(kind, values)

    def _body(self, tag: str, body: object) -> object:
        if tag == "bytearray":
            return bytes.fromhex(body)
        if tag in ("deque", "defaultdict"):
            body = body[1]
        if tag in ("list", "set", "deque"):
            return [self._value(item) for item in body]
        return [(self._value(key), self._value(item)) for key, item in body]


# -- containers ------------------------------------------------------------------------------


class _Container:
    """How a kind of container is made empty from its contents, and filled in place."""

    def __init__(self, make, fill) -> None:
        self.make, self.fill = make, fill


def _fill_list(value, items):
    list.__setitem__(value, slice(None), items)


def _fill_dict(value, pairs):
    dict.clear(value)
    dict.update(value, pairs)


def _fill_ordered(value, pairs):
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


def _default_dict(body):
    factory = body[0]
    return collections.defaultdict(None if factory is None else PLAIN_TYPES[factory])


CONTAINERS = {
    "list": _Container(lambda body: [], _fill_list),
    "dict": _Container(lambda body: {}, _fill_dict),
    "defaultdict": _Container(_default_dict, _fill_dict),
    "Counter": _Container(lambda body: collections.Counter(), _fill_dict),
    "OrderedDict": _Container(lambda body: collections.OrderedDict(), _fill_ordered),
    "set": _Container(lambda body: set(), _fill_set),
    "deque": _Container(lambda body: collections.deque(maxlen=body[0]), _fill_deque),
    "bytearray": _Container(lambda body: bytearray(), _fill_bytearray),
}
MUTABLE = (list, dict, set, collections.deque, bytearray)
PLAIN_TYPES = {
    name: getattr(builtins, name)
    for name in ("bool", "bytes", "bytearray", "complex", "dict", "float", "frozenset", "int",
                 "list", "object", "range", "set", "str", "tuple")
} | {"NoneType": type(None)}  # fmt: skip


# -- immutable values ------------------------------------------------------------------------


def _text(value):
    """Lone surrogates travel apart: two that meet would be one character after JSON."""
    if value.isascii():
        return value
    try:
        value.encode()
        return value
    except UnicodeEncodeError:
        return {"t": "surrogates", "v": value.encode("utf-32-le", "surrogatepass").hex()}


def _items(form, value):
    items = []
    for item in value:
        items.append(form(item))
        if len(items) > MAX_ITEMS:
            raise Unplain("an iterator without end")
    return items


def _moment(kind):
    """Read a time with a fixed offset; the rules of a named time zone cannot cross."""

    def read(form, value):
        if value.tzinfo is not None and type(value.tzinfo) is not datetime.timezone:
            raise Unplain(type(value.tzinfo).__name__)
        return [kind.isoformat(value), value.fold]

    return read


READERS = (
    (frozenset, "frozenset", lambda form, value: [form(n) for n in frozenset.__iter__(value)]),
    (bytes, "bytes", lambda form, value: bytes.hex(value)),
    (complex, "complex", lambda form, value: [value.real, value.imag]),
    (range, "range", lambda form, value: [form(n) for n in (value.start, value.stop, value.step)]),
    (type({}.keys()), "keys", _items),
    (type({}.values()), "values", _items),
    (type({}.items()), "items", _items),
    (decimal.Decimal, "decimal", lambda form, value: decimal.Decimal.__str__(value)),
    (fractions.Fraction, "fraction", lambda form, value: [hex(value.numerator),
                                                          hex(value.denominator)]),
    (datetime.datetime, "datetime", _moment(datetime.datetime)),
    (datetime.date, "date", lambda form, value: datetime.date.isoformat(value)),
    (datetime.time, "time", _moment(datetime.time)),
    (datetime.timedelta, "timedelta", lambda form, value: [value.days, value.seconds,
                                                           value.microseconds]),
    (type(...), "ellipsis", lambda form, value: 0),
    (types.NotImplementedType, "not_implemented", lambda form, value: 0),
)  # fmt: skip


def _each(value, body):
    return [value(item) for item in body]


WRITERS = {
    "surrogates": lambda value, body: bytes.fromhex(body).decode("utf-32-le", "surrogatepass"),
    "int": lambda value, body: int(body, 16),
    "tuple": lambda value, body: tuple(_each(value, body)),
    "frozenset": lambda value, body: frozenset(_each(value, body)),
    "bytes": lambda value, body: bytes.fromhex(body),
    "complex": lambda value, body: complex(*body),
    "range": lambda value, body: range(*_each(value, body)),
    "keys": lambda value, body: dict.fromkeys(_each(value, body)).keys(),
    "values": lambda value, body: dict(enumerate(_each(value, body))).values(),
    "items": lambda value, body: dict(_each(value, body)).items(),
    "decimal": lambda value, body: decimal.Decimal(body),
    "fraction": lambda value, body: fractions.Fraction(int(body[0], 16), int(body[1], 16)),
    "datetime": lambda value, body: datetime.datetime.fromisoformat(body[0]).replace(fold=body[1]),
    "date": lambda value, body: datetime.date.fromisoformat(body),
    "time": lambda value, body: datetime.time.fromisoformat(body[0]).replace(fold=body[1]),
    "timedelta": lambda value, body: datetime.timedelta(*body),
    "ellipsis": lambda value, body: ...,
    "not_implemented": lambda value, body: NotImplemented,
    "iterator": lambda value, body: iter(_each(value, body)),
}
