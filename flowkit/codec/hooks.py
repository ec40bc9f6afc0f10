"""Which hooks a class has in a cattrs converter: a user's, flowkit's, or none that keep all of a value (rule D5).

cattrs by itself coerces what it is given to the annotation, and keeps only a part of an instance whose class derives
from a builtin one. So what it does by default for such classes is taken back; hooks that a user registers are not.
"""

from __future__ import annotations

import dataclasses
from collections import abc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from cattrs import Converter
from cattrs.errors import StructureHandlerNotFoundError

from flowkit.codec.base import Json, Plan
from flowkit.codec.classes import is_record
from flowkit.frozen import frozen

_BUILTIN_KINDS = (int, float, complex, abc.Iterable, abc.Awaitable, BaseException)


@frozen
class Hooks:
    """How a class becomes plainer values, and how those become an instance again."""

    unstructure: Callable[[Any], object]
    structure: Callable[[Any, type], object]


def install(converter: Converter, record: Callable[[type], Plan]) -> None:
    """Make flowkit's plans the converter's hooks for classes that no hook was registered for by class."""
    for builtin in (str, bytes, int, float, Path):
        converter.register_unstructure_hook(builtin, _no_hook)
        converter.register_structure_hook(builtin, _no_hook)
    converter.register_structure_hook_factory(_is_more_than_its_fields, lambda _: _no_hook)

    def unstructure_hook(cls: type) -> Callable[[object], Json]:
        return record(cls).encode

    def structure_hook(cls: type) -> Callable[[Any, type], object]:
        plan = record(cls)
        return lambda data, _: plan.decode(data)

    converter.register_unstructure_hook_factory(is_record, unstructure_hook)
    converter.register_structure_hook_factory(is_record, structure_hook)


def hooks_of(converter: Converter, cls: type) -> Hooks | None:
    """The hooks of a class, None if it has none that keep all of a value."""
    try:
        hooks = Hooks(converter.get_unstructure_hook(cls), converter.get_structure_hook(cls))
    except StructureHandlerNotFoundError:
        return None
    return None if hooks.unstructure is _no_hook or hooks.structure is _no_hook else hooks


def _is_more_than_its_fields(cls: object) -> bool:
    if not isinstance(cls, type) or is_record(cls):
        return False
    return issubclass(cls, _BUILTIN_KINDS) or attrs.has(cls) or dataclasses.is_dataclass(cls)


def _no_hook(*_: object) -> object:
    raise NotImplementedError  # `hooks_of` looks at it, nothing calls it
