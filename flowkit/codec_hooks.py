"""Which hooks a class has in a cattrs converter: a user's, flowkit's, or none that keep all of a value (rule D5).

cattrs by itself coerces what it is given to the annotation, and keeps only a part of an instance whose class derives
from a builtin one. So what it does by default for such classes is taken back; hooks that a user registers are not.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import frozen
from cattrs import Converter
from cattrs.errors import StructureHandlerNotFoundError

from flowkit.codec_base import Json, Plan
from flowkit.codec_classes import is_record


@frozen
class Hooks:
    """How a class becomes plainer values, and how those become an instance again."""

    unstructure: Callable[[Any], object]
    structure: Callable[[Any, type], object]


def install(converter: Converter, record: Callable[[type], Plan]) -> None:
    """Make flowkit's plans the converter's hooks for classes that no hook was registered for by class."""
    for builtin in (str, bytes, int, float, Path):
        converter.register_unstructure_hook(builtin, _no_unstructure)
        converter.register_structure_hook(builtin, _no_structure)
    converter.register_structure_hook_factory(_is_builtin_kind, lambda _: _no_structure)

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
    return None if hooks.unstructure is _no_unstructure or hooks.structure is _no_structure else hooks


def _is_builtin_kind(cls: object) -> bool:
    return isinstance(cls, type) and issubclass(cls, (int, float, complex, abc.Iterable, abc.Awaitable))


def _no_unstructure(value: object) -> object:
    raise NotImplementedError(value)  # only ever looked at, by `hooks_of`


def _no_structure(data: object, cls: type) -> object:
    raise NotImplementedError(data, cls)  # only ever looked at, by `hooks_of`
