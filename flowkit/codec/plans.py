"""Values with an annotation: written shorter, because the annotation says what they are (rule D5).

A plan never trusts its annotation. A value that is exactly what the annotation says is written in the short form; any
other value is written as if it had none, and recognised as such when it is read. So nothing is coerced, nothing lost.
"""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from threading import RLock
from typing import Any, TypeVar, cast, get_args, get_origin

import typing_extensions
from cattrs import Converter

from flowkit.codec.base import Json, Plan, Unencodable
from flowkit.codec.classes import is_record, record_plan, with_declared_types
from flowkit.codec.containers import Containers
from flowkit.codec.hooks import hooks_of, install
from flowkit.codec.scalars import PATH_HINTS, SCALARS, Scalar
from flowkit.codec.tagging import Tagging
from flowkit.hints import class_hints

_WRAPPERS = {
    typing.Annotated,
    typing.Required,
    typing.NotRequired,
    typing.Final,
    typing.ClassVar,
    typing_extensions.ReadOnly,
}
"""Annotations that say something about the place of a value, not about the value."""

_UNIONS = {typing.Union, types.UnionType}
_SAY_NOTHING: set[object] = {Any, object, None, type(None), str, bool, int, float}
_SCALARS: dict[object, Scalar] = {scalar.cls: scalar for scalar in SCALARS}
_SCALARS.update({hint: _SCALARS[cls] for hint, cls in PATH_HINTS.items()})


class Plans:
    """Makes the plan of each annotation and class once, and keeps it.

    cattrs decides which hooks a class has: the user's, registered on the converter, come before flowkit's own.
    """

    def __init__(self, converter: Converter) -> None:
        self.tagging = Tagging(self)
        self.untyped = Plan(self.tagging.encode, self.tagging.decode)
        self._containers = Containers(self.tagging)
        self._lock = RLock()
        self._pending: set[object] = set()
        # JSON's own scalars look the same with and without an annotation.
        self._hints: dict[object, Plan] = dict.fromkeys(_SAY_NOTHING, self.untyped)
        self._records: dict[object, Plan] = {}
        self._classes: dict[type, Plan | None] = {}
        self._own_hooks: set[object] = set()  # as opposed to those that a user has registered
        self._converter = converter
        install(converter, self._record)

    def plan(self, hint: object) -> Plan:
        """The plan of an annotation; one that says nothing usable is treated as `Any`."""
        try:
            found = self._hints.get(hint)
        except TypeError:  # an annotation that cannot be hashed, such as Annotated[int, []]
            return self._make(hint)
        return found or self._once(self._hints, hint, lambda: self._make(hint))

    def class_plan(self, cls: type) -> Plan | None:
        """The plan of a class that can be stored, or None."""
        if cls not in self._classes:
            self._classes[cls] = self._make_class_plan(cls)
        return self._classes[cls]

    def _once(self, table: dict[object, Plan], key: object, make: Callable[[], Plan], *, flat: bool = False) -> Plan:
        """Make a plan that may need itself, as a tree's does."""
        with self._lock:
            if key in table:
                return table[key]
            mark = (id(table), key)
            if mark in self._pending:
                return _later(table, key, flat=flat)
            self._pending.add(mark)
            try:
                table[key] = make()
            finally:
                self._pending.discard(mark)
            return table[key]

    # ---- classes -----------------------------------------------------------------------------------------------------

    def _record(self, cls: type, arguments: tuple[object, ...] = ()) -> Plan:
        flat = not issubclass(cls, enum.Enum)
        plan = self._once(self._records, (cls, arguments), lambda: self._make_record(cls, arguments), flat=flat)
        self._own_hooks.add(plan.encode)
        return plan

    def _make_record(self, cls: type, arguments: tuple[object, ...]) -> Plan:
        known = dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False))
        hints = with_declared_types(cls, class_hints(cls))
        return record_plan(
            cls, {name: substitute(hint, known) for name, hint in hints.items()}, self.plan, self.untyped
        )

    def _make_class_plan(self, cls: type) -> Plan | None:
        if cls in self.tagging.own or cls.__module__ == "builtins":
            return None
        hooks = hooks_of(self._converter, cls)
        if hooks is None or (
            isinstance(hooks.unstructure, types.FunctionType) and hooks.unstructure in self._own_hooks
        ):
            return self._record(cls) if is_record(cls) else None
        unstructure, structure, tagging = hooks.unstructure, hooks.structure, self.tagging

        def encode(value: object) -> Json:
            document = unstructure(value)
            if document is value:
                raise Unencodable(value, "has a structure hook in the codec's converter, but no unstructure hook")
            return tagging.encode(document)

        return Plan(encode, lambda data: structure(tagging.decode(data), cls))

    # ---- annotations -------------------------------------------------------------------------------------------------

    def _make(self, hint: object) -> Plan:
        hint = unwrap(hint)
        if isinstance(hint, Hashable):
            if hint in _SAY_NOTHING:
                return self.untyped
            if hint in _SCALARS:
                return self._scalar(_SCALARS[hint])
        origin, arguments = get_origin(hint), get_args(hint)
        if origin in _UNIONS:
            return self._union([unwrap(argument) for argument in arguments if argument is not type(None)])
        if origin is None:
            return self._bare(hint)
        if isinstance(origin, type) and is_record(origin):
            return self._generic(origin, arguments)
        return self._containers.plan(origin, [self.plan(argument) for argument in arguments], arguments) or self.untyped

    def _bare(self, hint: object) -> Plan:
        if typing_extensions.is_typeddict(hint):
            hints = class_hints(cast("type", hint))
            return self._containers.typed_dict({name: self.plan(each) for name, each in hints.items()})
        if isinstance(hint, type):
            if (plan := self._containers.plan(hint, [], ())) is not None:
                return plan
            if (plan := self.class_plan(hint)) is not None:
                return self.tagging.members({hint: plan}, short=hint)
        return self.untyped

    def _generic(self, cls: type, arguments: tuple[object, ...]) -> Plan:
        plan = self.class_plan(cls)
        if plan is None or plan.encode in self._own_hooks:
            plan = self._record(cls, arguments)
        return self.tagging.members({cls: plan}, short=cls)

    def _union(self, members: list[object]) -> Plan:
        if len(members) == 1:  # Optional: no short form is null, so null is None under every annotation
            return self.plan(members[0])
        known = {cls: plan for cls in members if isinstance(cls, type) and (plan := self.class_plan(cls))}
        return self.tagging.members(known) if known else self.untyped

    def _scalar(self, scalar: Scalar) -> Plan:
        cls, form, to_form, from_form = scalar.cls, scalar.form, scalar.encode, scalar.decode
        foreign, untyped = self.tagging.foreign, self.tagging.decode
        return Plan(
            lambda value: to_form(value) if type(value) is cls else foreign(value),
            lambda data: from_form(data) if type(data) is form else untyped(data),
        )


def unwrap(hint: object) -> object:
    """The annotation of the value itself: without Annotated, Required, NewType, type aliases and the like."""
    for _ in range(100):  # an alias of an alias, not a circle
        origin = get_origin(hint)
        if origin in _WRAPPERS:
            hint = get_args(hint)[0]
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        elif isinstance(hint, typing_extensions.TypeAliasType):
            hint = hint.__value__
        elif isinstance(origin, typing_extensions.TypeAliasType):
            hint = substitute(origin.__value__, dict(zip(origin.__type_params__, get_args(hint), strict=False)))
        else:
            return hint
    return Any


def substitute(hint: object, known: Mapping[object, object]) -> object:
    """The annotation with its type variables replaced; one that is not known becomes `Any`."""
    if isinstance(hint, TypeVar):
        return known.get(hint, Any)
    parameters = getattr(hint, "__parameters__", ())
    if not parameters or isinstance(hint, type):
        return hint
    try:
        return cast("Any", hint)[tuple(known.get(parameter, Any) for parameter in parameters)]
    except TypeError:
        return Any


def _later(table: dict[object, Plan], key: object, *, flat: bool) -> Plan:
    """A plan that is being made: it is looked up when it is used."""

    def encode(value: object) -> Json:
        return table[key].encode(value)

    def decode(data: Json) -> object:
        return table[key].decode(data)

    return Plan(encode, decode, flat)
