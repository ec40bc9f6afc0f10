"""How attrs classes, dataclasses, NamedTuples and enums are taken apart and put together again.

An instance is put together from its fields, without its `__init__`: no converter, validator or `__post_init__` runs a
second time, so the value is what it was, and stored data cannot make them run either (rule D5). Only a field that was
not recorded, because the class had no such field then, is given its default as the class says.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, cast

import attrs

from flowkit.codec.base import Json, Plan, Unencodable
from flowkit.errors import SerializationError
from flowkit.frozen import frozen

EXTRAS = "$attrs"
"""Where an instance's attributes are kept that are no fields of its class."""

_HASH_CACHE = "_attrs_cached_hash"  # attrs sets it in the `__init__` that is not called here
_new = object.__new__
_set = object.__setattr__


@frozen
class Field:
    """One field of a class: its name, how its values are written, and what it is where it was not recorded."""

    name: str
    encode: Callable[[object], Json]
    decode: Callable[[Json], object]
    default: Callable[[object], object] | None  # is given the unfinished instance
    required: bool


def is_named_tuple(cls: type) -> bool:
    """Whether the class is a NamedTuple (or a `collections.namedtuple`)."""
    return issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple)


def is_record(cls: object) -> bool:
    """Whether flowkit knows by itself how instances of the class are stored."""
    if not isinstance(cls, type):
        return False
    if issubclass(cls, enum.Enum) or is_named_tuple(cls):
        return True
    return (attrs.has(cls) or dataclasses.is_dataclass(cls)) and _made_of_attributes(cls)


def with_declared_types(cls: type, hints: Mapping[str, object]) -> dict[str, object]:
    """The annotations, and where those say nothing, what attrs was told: by `type=`, or by `attrs.resolve_types`."""
    if not attrs.has(cls):
        return dict(hints)
    told = {a.name: a.type for a in attrs.fields(cls) if a.type is not None and not isinstance(a.type, str)}
    return {**told, **{name: hint for name, hint in hints.items() if hint is not Any or name not in told}}


def record_plan(cls: type, hints: Mapping[str, object], plan_of: Callable[[object], Plan], untyped: Plan) -> Plan:
    """The plan of a class for which `is_record` holds.

    Args:
        cls: the class.
        hints: the annotations of its fields.
        plan_of: gives the plan of an annotation.
        untyped: the plan of values without one.
    """
    if issubclass(cls, enum.Flag):
        return Plan(lambda v: untyped.encode(v.value), lambda data: cls(untyped.decode(data)))  # type: ignore[attr-defined]  # an enum
    if issubclass(cls, enum.Enum):
        return _enum_plan(cls)
    plans = {name: plan_of(hints.get(name, Any)) for name in field_names(cls)}
    if is_named_tuple(cls):
        return _tuple_plan(cls, plans)
    fields = _attrs_fields(cls, plans) if attrs.has(cls) else _dataclass_fields(cls, plans)
    return _fields_plan(cls, fields, untyped)


def _made_of_attributes(cls: type) -> bool:
    """False for a subclass of a builtin with contents of its own, such as dict: its fields are not all of it."""
    try:
        _new(cls)
    except TypeError:
        return False
    return True


def field_names(cls: type) -> tuple[str, ...]:
    """The names of the fields of a NamedTuple, attrs class or dataclass."""
    if is_named_tuple(cls):
        return cast("tuple[str, ...]", cls._fields)  # type: ignore[attr-defined]  # a NamedTuple
    fields = attrs.fields(cls) if attrs.has(cls) else dataclasses.fields(cls)
    return tuple(field.name for field in fields)


# ---- enums and NamedTuples -------------------------------------------------------------------------------------------


def _enum_plan(cls: type[enum.Enum]) -> Plan:
    members = cls.__members__

    def encode(value: object) -> Json:
        name: str = value._name_  # type: ignore[attr-defined]  # a member; `.name` is slower
        if members.get(name) is not value:
            raise Unencodable(value, f"is no member of {cls.__qualname__}")
        return name

    def decode(data: Json) -> object:
        member = members.get(data)  # type: ignore[arg-type]  # whatever it is
        if member is None:
            raise SerializationError(f"{cls.__qualname__} has no member {data!r} (any more)")
        return member

    return Plan(encode, decode)


def _tuple_plan(cls: type, plans: dict[str, Plan]) -> Plan:
    encoders = [(name, plan.encode) for name, plan in plans.items()]
    decoders = [(name, plan.decode) for name, plan in plans.items()]
    defaults: dict[str, object] = cls._field_defaults  # type: ignore[attr-defined]  # a NamedTuple

    def encode(value: object) -> Json:
        items: Any = value
        if len(items) != len(encoders):
            raise Unencodable(value, "does not have as many items as its class has fields")
        return {name: encode(item) for (name, encode), item in zip(encoders, items, strict=True)}

    def decode(data: Json) -> object:
        document: Any = data
        return tuple.__new__(
            cls, [decode(document[name]) if name in document else defaults[name] for name, decode in decoders]
        )

    return Plan(encode, decode, flat=True)


# ---- attrs classes and dataclasses -----------------------------------------------------------------------------------


def _attrs_fields(cls: type, plans: dict[str, Plan]) -> list[Field]:
    return [
        Field(a.name, plans[a.name].encode, plans[a.name].decode, _attrs_default(a), a.init) for a in attrs.fields(cls)
    ]


def _attrs_default(attribute: attrs.Attribute[Any]) -> Callable[[object], object] | None:
    default: Any = attribute.default
    if default is attrs.NOTHING:
        return None

    def make(instance: object) -> object:
        value = default
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]  # typed as a function, but it is a class
            value = default.factory(instance) if default.takes_self else default.factory()
        convert: Any = attribute.converter
        if isinstance(attribute.converter, attrs.Converter):
            more = ([instance] if convert.takes_self else []) + ([attribute] if convert.takes_field else [])
            return convert.converter(value, *more)
        return value if convert is None else convert(value)

    return make


def _dataclass_fields(cls: type, plans: dict[str, Plan]) -> list[Field]:
    return [
        Field(f.name, plans[f.name].encode, plans[f.name].decode, _dataclass_default(f), f.init)
        for f in dataclasses.fields(cls)
    ]


def _dataclass_default(field: dataclasses.Field[Any]) -> Callable[[object], object] | None:
    if field.default_factory is not dataclasses.MISSING:
        factory = field.default_factory
        return lambda _: factory()
    if field.default is not dataclasses.MISSING:
        default = field.default
        return lambda _: default
    return None


def _fields_plan(cls: type, fields: list[Field], untyped: Plan) -> Plan:
    encoders = [(field.name, field.encode) for field in fields]
    decoders = [(field.name, field.decode, field) for field in fields]
    known = _known_names(cls, fields)
    has_dict = cls.__dictoffset__ != 0
    caches_hash = _HASH_CACHE in getattr(getattr(cls.__hash__, "__code__", None), "co_names", ())

    def encode(value: object) -> Json:
        try:
            document: dict[str, Json] = {name: encode(getattr(value, name)) for name, encode in encoders}
        except AttributeError:
            document = _encode_set_fields(value, fields)
        if has_dict and not known.issuperset(value.__dict__):
            document[EXTRAS] = {k: untyped.encode(v) for k, v in value.__dict__.items() if k not in known}
        return document

    def decode(data: Json) -> object:
        document: Any = data
        instance: object = _new(cls)
        for name, decode, field in decoders:
            if name in document:
                _set(instance, name, decode(document[name]))
            else:
                _fill_in(instance, field)
        if caches_hash:
            _set(instance, _HASH_CACHE, None)
        if has_dict and EXTRAS in document:
            instance.__dict__.update({k: untyped.decode(v) for k, v in document[EXTRAS].items()})
        return instance

    return Plan(encode, decode, flat=True)


def _known_names(cls: type, fields: list[Field]) -> frozenset[str]:
    """The attributes that need no place of their own: fields, and what is computed again when it is asked for."""
    cached = {name for base in cls.__mro__ for name, v in vars(base).items() if isinstance(v, cached_property)}
    return frozenset({field.name for field in fields} | cached | {_HASH_CACHE})


def _encode_set_fields(value: object, fields: list[Field]) -> dict[str, Json]:
    """The fields that are set; one that `__init__` does not set may be missing."""
    document: dict[str, Json] = {}
    for field in fields:
        try:
            item = getattr(value, field.name)
        except AttributeError:
            if field.required:
                raise Unencodable(value, f"has no value for its field {field.name!r}") from None
            continue
        document[field.name] = field.encode(item)
    return document


def _fill_in(instance: object, field: Field) -> None:
    """A field that was not recorded: unset then, or added to the class since."""
    if field.default is not None:
        _set(instance, field.name, field.default(instance))
    elif field.required:
        raise SerializationError(
            f"a stored {type(instance).__qualname__} has no field {field.name!r}; give it a default"
        )
