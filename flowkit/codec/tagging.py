"""Values without an annotation: JSON as it is, everything else in an object that says what it is (rule D5).

`{"$": "tuple", "=": [1, 2]}` is a tuple, `{"$": "shop:Order", "id": 7}` an instance of a class. A user's own dict with
the key `$`, or with keys that are no strings, is written as a list of pairs, so nothing is mistaken for a tag.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from flowkit.codec.base import TAG, VALUE, Json, Plan, Unencodable
from flowkit.codec.names import class_name, find_class, reachable
from flowkit.codec.scalars import SCALARS
from flowkit.errors import SerializationError

NATIVE: frozenset[type] = frozenset({str, float, bool, type(None)})
"""Written and read as they are. Integers are not among them: Python refuses to print a very long one."""

_READ_AS_IS = NATIVE | {int}
_STRINGS = frozenset({str})
_WIDEST = 1 << 2000  # well within the fewest digits that sys.set_int_max_str_digits allows (640)


class ClassForms(Protocol):
    """How classes of users are written; the tags and the checks are made here."""

    def class_plan(self, cls: type) -> Plan | None:
        """The plan of a class that can be stored, or None."""


class Tagging:
    """Writes and reads values that no annotation describes."""

    own: frozenset[type]
    """The classes that it knows by itself."""

    def __init__(self, classes: ClassForms) -> None:
        self._classes = classes
        self._encoders: dict[type, Callable[[Any], Json]] = {
            list: self._encode_list,
            dict: self._encode_dict,
        }
        self._families: dict[type, Callable[[Any], Json]] = {}
        self._decoders: dict[str, Callable[[Any], object]] = {
            "any": self.decode,
            "int": lambda text: int(text, 16),
            "dict": lambda pairs: dict(self._pairs(pairs)),
            "map": lambda pairs: dict(self._pairs(pairs)),  # written by an annotation that is gone
        }
        for scalar in SCALARS:
            self.add(scalar.cls, scalar.tag, scalar.encode, scalar.decode)
        self.add(tuple, "tuple", self._encode_list, lambda v: tuple(self._decode_list(v)))
        self.add(set, "set", self.encode_set, lambda v: set(self._decode_list(v)))
        self.add(frozenset, "frozenset", self.encode_set, lambda v: frozenset(self._decode_list(v)))
        self.add(deque, "deque", lambda v: [v.maxlen, self._encode_list(v)], self._decode_deque)
        self.add(OrderedDict, "ordereddict", self._encode_pairs, lambda v: OrderedDict(self._pairs(v)))
        self.add(Counter, "counter", self._encode_pairs, lambda v: Counter(dict(self._pairs(v))))
        self.own = frozenset({*self._encoders, *NATIVE, int})

    def add(self, cls: type, tag: str, encode: Callable[[Any], Json], decode: Callable[[Any], object]) -> None:
        """Teach it one more class, under a tag of its own."""
        self._encoders[cls] = lambda value: {TAG: tag, VALUE: encode(value)}
        self._decoders[tag] = decode

    def add_family(self, base: type, tag: str, encode: Callable[[Any], Json], decode: Callable[[Any], object]) -> None:
        """Teach it all subclasses of a class at once, under one tag."""
        self._families[base] = lambda value: {TAG: tag, VALUE: encode(value)}
        self._decoders[tag] = decode

    def encode(self, value: object) -> Json:
        """The value as JSON that says by itself what it is."""
        kind = type(value)
        if kind in NATIVE:
            return value  # type: ignore[return-value]  # checked; a cast would cost as much as the rest
        if type(value) is int:
            return value if -_WIDEST < value < _WIDEST else {TAG: "int", VALUE: hex(value)}
        encoder = self._encoders.get(kind)
        return (encoder or self._learn(kind, value))(value)

    def decode(self, data: Json) -> object:
        """The value that `encode` was given."""
        if type(data) in _READ_AS_IS:
            return data
        decode = self.decode
        if type(data) is list:
            return [x if type(x) in _READ_AS_IS else decode(x) for x in data]
        if type(data) is not dict:
            raise SerializationError(f"{type(data).__name__} is not a JSON value")
        if TAG in data:
            return self._decode_tagged(data)
        return {k: v if type(v) in _READ_AS_IS else decode(v) for k, v in data.items()}

    def foreign(self, value: object) -> Json:
        """A value that is not what its annotation says, told apart from everything the annotation would give."""
        document = self.encode(value)
        if document is None or (type(document) is dict and TAG in document):
            return document
        return {TAG: "any", VALUE: document}

    def members(self, plans: Mapping[type, Plan], short: type | None = None) -> Plan:
        """The plan of an annotation that names classes: they need not be found by name, wherever they are defined.

        Args:
            plans: the classes that the annotation names, with their plans.
            short: the class whose instances are written without a tag, if there is one.
        """
        names = {cls: class_name(cls) for cls in plans}
        by_name = {names[cls]: plan for cls, plan in plans.items()}
        short_decode = plans[short].decode if short is not None else self.decode

        def encode(value: object) -> Json:
            cls = type(value)
            plan = plans.get(cls)
            if plan is None:
                return self.foreign(value) if short else self.encode(value)
            document = plan.encode(value)
            if cls is not short or document is None or (type(document) is dict and TAG in document):
                return tag_class(names[cls], plan, document)
            return document

        def decode(data: Json) -> object:
            if type(data) is dict and TAG in data:
                plan = by_name.get(data[TAG])  # type: ignore[arg-type]  # whatever it is
                return plan.decode(untag_class(plan, data)) if plan is not None else self.decode(data)
            return None if data is None else short_decode(data)

        return Plan(encode, decode)

    def encode_set(self, value: Iterable[object]) -> list[Json]:
        """The members in an order that is the same in every process, so that equal sets are equal bytes."""
        return in_order([self.encode(item) for item in value])

    # ---- the parts ---------------------------------------------------------------------------------------------------

    def _encode_list(self, value: Iterable[Any]) -> list[Json]:
        encode = self.encode
        return [x if type(x) in NATIVE or (type(x) is int and -_WIDEST < x < _WIDEST) else encode(x) for x in value]

    def _decode_list(self, data: list[Json]) -> list[object]:
        decode = self.decode
        return [x if type(x) in _READ_AS_IS else decode(x) for x in data]

    def _encode_dict(self, value: dict[Any, Any]) -> Json:
        if is_plain(value):
            encode = self.encode
            return {
                k: v if type(v) in NATIVE or (type(v) is int and -_WIDEST < v < _WIDEST) else encode(v)
                for k, v in value.items()
            }
        return {TAG: "dict", VALUE: self._encode_pairs(value)}

    def _encode_pairs(self, value: dict[object, object]) -> Json:
        return [[self.encode(k), self.encode(v)] for k, v in value.items()]

    def _pairs(self, data: list[list[Json]]) -> list[tuple[object, object]]:
        return [(self.decode(k), self.decode(v)) for k, v in data]

    def _decode_deque(self, data: tuple[int | None, list[Json]]) -> deque[object]:
        size, items = data
        return deque(self._decode_list(items), size)

    def _decode_tagged(self, document: dict[str, Json]) -> object:
        tag = document[TAG]
        if type(tag) is not str:
            raise SerializationError(f"a stored object's {TAG!r} is {tag!r}, not the name of a kind")
        decoder = self._decoders.get(tag)
        if decoder is not None:
            return decoder(document[VALUE])
        if ":" in tag:
            return self._decode_instance(tag, document)
        raise SerializationError(f"a value of unknown kind {tag!r} is stored; was it written by a newer flowkit?")

    def _decode_instance(self, name: str, document: dict[str, Json]) -> object:
        cls = find_class(name)
        plan = self._classes.class_plan(cls)
        if plan is None:
            # D5: only classes that are made of their fields; what else a name may lead to is not touched.
            raise SerializationError(
                f"{name} is stored as a value, but is no attrs class, dataclass, enum or NamedTuple"
            )
        return plan.decode(untag_class(plan, document))

    def _learn(self, cls: type, value: object) -> Callable[[Any], Json]:
        """The encoder of a class met for the first time."""
        for base, family in self._families.items():
            if issubclass(cls, base):
                return family
        plan = self._classes.class_plan(cls)
        if plan is None:
            raise Unencodable(value, "cannot be stored")
        if not reachable(cls):
            raise Unencodable(value, f"is of a class that cannot be found again by its name {class_name(cls)}")
        encode, name = plan.encode, class_name(cls)
        self._encoders[cls] = encoder = lambda v: tag_class(name, plan, encode(v))
        return encoder


def tag_class(name: str, plan: Plan, document: Json) -> Json:
    """What a class's plan gave, with the class's name."""
    if plan.flat:
        return {TAG: name, **document}  # type: ignore[dict-item]  # it is an object
    return {TAG: name, VALUE: document}


def untag_class(plan: Plan, document: dict[str, Json]) -> Json:
    """What the class's plan gave, from the tagged object: also if the class has had another kind of plan since."""
    if VALUE in document:
        return document[VALUE]
    return document if plan.flat else {k: v for k, v in document.items() if k != TAG}


def is_plain(value: dict[object, object]) -> bool:
    """Whether a dict can be written as a JSON object as it is."""
    return TAG not in value and _STRINGS.issuperset(map(type, value))


def in_order(items: list[Json]) -> list[Json]:
    """The items sorted: by themselves if they are all strings or all integers, else by their text."""
    kinds = {type(item) for item in items}
    items.sort(key=None if kinds <= {str} or kinds <= {int} else _text)
    return items


def _text(document: Json) -> str:
    return json.dumps(document, sort_keys=True)
