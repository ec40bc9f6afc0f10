"""Containers with an annotation: their items are written by the plans of the items' annotations."""

from __future__ import annotations

from collections import abc
from collections.abc import Callable
from typing import Any, cast

from flowkit.codec.base import TAG, VALUE, Json, Plan
from flowkit.codec.tagging import Tagging, in_order, is_plain

_LISTS = {list, abc.Sequence, abc.MutableSequence, abc.Iterable, abc.Collection}
_DICTS = {dict, abc.Mapping, abc.MutableMapping}
_STRING_KEYS: set[object] = {str, Any, object}


class Containers:
    """Makes the plans of container annotations."""

    def __init__(self, tagging: Tagging) -> None:
        self._tagging = tagging
        self._untyped = Plan(tagging.encode, tagging.decode)

    def plan(self, origin: object, items: list[Plan], arguments: tuple[object, ...]) -> Plan | None:
        """The plan of a container annotation, or None if it is no container that flowkit has a short form for.

        Args:
            origin: the container, such as `list`.
            items: the plans of what is between its brackets.
            arguments: what is between its brackets.
        """
        if origin in _LISTS:
            return self._list(items[0] if items else self._untyped)
        if origin in _DICTS:
            key, value = items or (self._untyped, self._untyped)
            return self._strings(value) if not arguments or arguments[0] in _STRING_KEYS else self._pairs(key, value)
        if origin in {set, frozenset}:
            return self._sequence(cast("type", origin), items[0] if items else self._untyped, in_order)
        if origin is tuple:
            if not arguments or Ellipsis in arguments:
                return self._sequence(tuple, items[0] if items else self._untyped, _as_is)
            return self._tuple(items)
        return None

    def typed_dict(self, items: dict[str, Plan]) -> Plan:
        """The plan of a TypedDict: a dict, each key with a plan of its own."""
        encoders = {key: plan.encode for key, plan in items.items()}
        decoders = {key: plan.decode for key, plan in items.items()}
        encode_other, decode_other, foreign = self._tagging.encode, self._tagging.decode, self._tagging.foreign

        def encode(value: object) -> Json:
            if type(value) is dict and is_plain(value):
                return {k: encoders.get(k, encode_other)(v) for k, v in value.items()}
            return foreign(value)

        def decode(data: Json) -> object:
            if type(data) is dict and TAG not in data:
                return {k: decoders.get(k, decode_other)(v) for k, v in data.items()}
            return decode_other(data)

        return Plan(encode, decode)

    def _list(self, item: Plan) -> Plan:
        to_json, from_json = item.encode, item.decode
        foreign, untyped = self._tagging.foreign, self._tagging.decode
        return Plan(
            lambda value: [to_json(x) for x in value] if type(value) is list else foreign(value),
            lambda data: [from_json(x) for x in data] if type(data) is list else untyped(data),
        )

    def _sequence(self, cls: type, item: Plan, order: Callable[[list[Json]], list[Json]]) -> Plan:
        to_json, from_json = item.encode, item.decode
        foreign, untyped = self._tagging.foreign, self._tagging.decode
        return Plan(
            lambda value: order([to_json(x) for x in value]) if type(value) is cls else foreign(value),  # type: ignore[attr-defined]  # a sequence
            lambda data: cls([from_json(x) for x in data]) if type(data) is list else untyped(data),
        )

    def _tuple(self, items: list[Plan]) -> Plan:
        encoders, decoders = [plan.encode for plan in items], [plan.decode for plan in items]
        foreign, untyped = self._tagging.foreign, self._tagging.decode

        def encode(value: object) -> Json:
            if type(value) is tuple and len(value) == len(encoders):
                return [encode(x) for encode, x in zip(encoders, value, strict=True)]
            return foreign(value)

        def decode(data: Json) -> object:
            if type(data) is list:
                return tuple([decode(x) for decode, x in zip(decoders, data, strict=True)])
            return untyped(data)

        return Plan(encode, decode)

    def _strings(self, item: Plan) -> Plan:
        to_json, from_json = item.encode, item.decode
        foreign, untyped = self._tagging.foreign, self._tagging.decode

        def encode(value: object) -> Json:
            if type(value) is dict and is_plain(value):
                return {k: to_json(v) for k, v in value.items()}
            return foreign(value)

        def decode(data: Json) -> object:
            if type(data) is dict and TAG not in data:
                return {k: from_json(v) for k, v in data.items()}
            return untyped(data)

        return Plan(encode, decode)

    def _pairs(self, key: Plan, item: Plan) -> Plan:
        foreign, untyped = self._tagging.foreign, self._tagging.decode

        def encode(value: object) -> Json:
            if type(value) is dict:
                return {TAG: "map", VALUE: [[key.encode(k), item.encode(v)] for k, v in value.items()]}
            return foreign(value)

        def decode(data: Json) -> object:
            if type(data) is dict and data.get(TAG) == "map":
                pairs: Any = data[VALUE]
                return {key.decode(k): item.decode(v) for k, v in pairs}
            return untyped(data)

        return Plan(encode, decode)


def _as_is(items: list[Json]) -> list[Json]:
    return items
