"""Whether a value is of a type, all through, and whether a value of one type may be used as another.

Both look only at what annotations say plainly; what they do not know (protocols, callables, type variables) fits.
"""

from __future__ import annotations

import collections.abc
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Any, Literal, get_args, get_origin

import attrs
import typing_extensions

from flowkit.codec.paths import describe
from flowkit.codec.plans import unwrap
from flowkit.hints import class_hints

_UNIONS = {typing.Union, types.UnionType}
_ANYTHING: tuple[object, ...] = (Any, object)
_MAPPINGS = (dict, Mapping, collections.abc.MutableMapping)
_SHOWN = 60
_AS_FLOAT = {float: (int, float), complex: (int, float, complex)}  # PEP 484: an int will do for a float


def mismatch(value: object, hint: object) -> str | None:
    """Where in the value it is not of the type, and what is there instead; None if it is of the type.

    Example:
        >>> mismatch({"items": [1, "two"]}, dict[str, list[int]])
        "$['items'][1] is 'two' (str), not int"
    """
    found = next(_mismatches(value, hint, "$"), None)
    if found is None:
        return None
    path, part, wanted = found
    shown = repr(part)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
    return f"{path} is {shown} ({describe(part)}), not {text_of(wanted)}"


_Found = tuple[str, object, object]


def _mismatches(value: object, hint: object, path: str) -> Iterator[_Found]:
    hint = unwrap(hint)
    if hint in _ANYTHING or isinstance(hint, typing.TypeVar | str):
        return
    if hint is None or hint is type(None):
        if value is not None:
            yield path, value, None
        return
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in _UNIONS:
        yield from _in_union(value, hint, arguments, path)
    elif origin is Literal:
        if value not in arguments:
            yield path, value, hint
    elif typing_extensions.is_typeddict(hint):
        yield from _in_typed_dict(value, hint, path)
    elif isinstance(origin if origin is not None else hint, type):
        cls: Any = origin if origin is not None else hint
        if not _is_instance(value, cls):
            yield path, value, hint
        else:
            yield from _in_parts(value, cls, arguments, path)


def _is_instance(value: object, cls: type) -> bool:
    try:
        return isinstance(value, _AS_FLOAT.get(cls, cls))
    except TypeError:  # a protocol that cannot be asked
        return True


def _in_union(value: object, hint: object, members: Sequence[object], path: str) -> Iterator[_Found]:
    nearest: _Found | None = None
    for member in members:
        found = next(_mismatches(value, member, path), None)
        if found is None:
            return
        if found[0] != path:  # of that member as such, with something wrong inside
            nearest = nearest or found
    yield nearest or (path, value, hint)


def _in_typed_dict(value: object, hint: Any, path: str) -> Iterator[_Found]:  # noqa: ANN401  # a TypedDict's class
    if not isinstance(value, dict):
        yield path, value, hint
        return
    hints = class_hints(hint)
    for key in sorted(hint.__required_keys__ - value.keys()):
        yield path, value, f"{text_of(hint)}, which has {key!r}"
    for key in value.keys() - hints.keys():
        yield f"{path}[{key!r}]", value[key], f"a key of {text_of(hint)}"
    for key, item in value.items():
        if key in hints:
            yield from _mismatches(item, hints[key], f"{path}[{key!r}]")


def _in_parts(value: Any, cls: type, arguments: tuple[object, ...], path: str) -> Iterator[_Found]:  # noqa: ANN401  # of cls
    if attrs.has(cls) or hasattr(cls, "__dataclass_fields__"):
        yield from _in_fields(value, path)
    elif not arguments:
        return
    elif isinstance(value, Mapping):
        yield from _in_mapping(value, arguments, path)
    elif isinstance(value, tuple) and arguments[-1] is not Ellipsis and issubclass(cls, tuple):
        if len(value) != len(arguments):
            yield path, value, f"a tuple of {len(arguments)}"
        for index, (item, hint) in enumerate(zip(value, arguments, strict=False)):
            yield from _mismatches(item, hint, f"{path}[{index}]")
    elif isinstance(value, list | tuple | set | frozenset | collections.deque):
        for index, item in enumerate(value):
            yield from _mismatches(item, arguments[0], f"{path}[{index}]")


def _in_fields(value: object, path: str) -> Iterator[_Found]:
    for name, hint in class_hints(type(value)).items():
        if hasattr(value, name):
            yield from _mismatches(getattr(value, name), hint, f"{path}.{name}")


def _in_mapping(value: Mapping[object, object], arguments: tuple[object, ...], path: str) -> Iterator[_Found]:
    if len(arguments) == 2:  # noqa: PLR2004  # of keys and of values
        for key, item in value.items():
            yield from _mismatches(key, arguments[0], f"{path}.keys()[{key!r}]")
            yield from _mismatches(item, arguments[1], f"{path}[{key!r}]")


# ---- types against types --------------------------------------------------------------------------------------------


def assignable(given: object, wanted: object) -> bool:
    """False only if no value of the one type is plainly a value of the other."""
    given, wanted = unwrap(given), unwrap(wanted)
    if given in _ANYTHING or wanted in _ANYTHING or isinstance(given, _VAGUE) or isinstance(wanted, _VAGUE):
        return True
    if get_origin(given) in _UNIONS:
        return all(assignable(member, wanted) for member in get_args(given))
    if get_origin(wanted) in _UNIONS:
        return any(assignable(given, member) for member in get_args(wanted))
    if get_origin(given) is Literal:
        return all(mismatch(value, wanted) is None for value in get_args(given))
    if get_origin(wanted) is Literal:
        return False
    given, wanted = (type(None) if hint is None else hint for hint in (given, wanted))
    if typing_extensions.is_typeddict(wanted) or typing_extensions.is_typeddict(given):
        return _typed_dicts(given, wanted)
    return _classes(given, wanted)


_VAGUE = (typing.TypeVar, str)


def _typed_dicts(given: Any, wanted: Any) -> bool:  # noqa: ANN401  # annotations
    if not typing_extensions.is_typeddict(wanted):
        return (get_origin(wanted) or wanted) in {*_MAPPINGS, collections.abc.Iterable, collections.abc.Collection}
    if not typing_extensions.is_typeddict(given):
        return False
    theirs, ours = class_hints(given), class_hints(wanted)
    return wanted.__required_keys__ <= theirs.keys() and all(
        assignable(theirs[key], hint) for key, hint in ours.items() if key in theirs
    )


def _classes(given: object, wanted: object) -> bool:
    mine, theirs = get_origin(given) or given, get_origin(wanted) or wanted
    if not isinstance(mine, type) or not isinstance(theirs, type):
        return True
    try:
        if not issubclass(mine, _AS_FLOAT.get(theirs, theirs)):
            return False
    except TypeError:  # a protocol that cannot be asked
        return True
    ours, others = get_args(given), get_args(wanted)
    if mine is theirs and len(ours) == len(others) and Ellipsis not in {*ours, *others}:
        return all(assignable(one, other) for one, other in zip(ours, others, strict=True))
    return not (len(ours) == len(others) == 1) or assignable(ours[0], others[0])


def either(hints: Iterable[object]) -> object:
    """The type of a value that is of one of these types."""
    members = list(dict.fromkeys(type(None) if hint is None else hint for hint in hints))
    if not members or any(member in _ANYTHING for member in members):
        return Any
    try:
        return reduce(or_, members)
    except TypeError:  # an annotation that knows no `|`
        return Any


def item_of(hint: object) -> object:
    """The type of the items of a collection of this type."""
    hint = unwrap(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if not isinstance(origin, type) or not arguments or not issubclass(origin, collections.abc.Iterable):
        return Any
    if issubclass(origin, tuple) and arguments[-1] is not Ellipsis:
        return either(arguments)
    return arguments[0]


def text_of(hint: object) -> str:
    """A type as a person writes it."""
    if isinstance(hint, str):
        return hint
    if hint is None or hint is type(None):
        return "None"
    return hint.__qualname__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")
