"""What annotations say, resolved once; an annotation that cannot be resolved says nothing, and never fails."""

from __future__ import annotations

import functools
import inspect
import sys
import typing
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, get_args, get_origin


def call_hints(
    fn: Callable[..., object], localns: Mapping[str, object] | None = None
) -> tuple[dict[str, object], object]:
    """The annotations of a function's parameters, and of what a call of it gives in the end.

    Reads the function's source annotations, so it is meant to be called once per function, when it is decorated.

    Args:
        fn: the function; partials, wrappers with `__wrapped__`, methods and callable objects are looked through.
        localns: names that only the place of its definition knows, such as a caller's `locals()`.

    Returns:
        The hint of each annotated parameter by name, and the return hint: for an async function what awaiting it
        gives. What cannot be resolved is `Any`.

    Example:
        >>> def total(prices: "list[int]") -> "int": ...
        >>> call_hints(total)
        ({'prices': list[int]}, <class 'int'>)
    """
    function = _function_of(fn)
    if inspect.isclass(function):  # a call of it gives an instance
        return call_hints(function.__init__, localns)[0], function
    names = {**getattr(function, "__globals__", {}), **_closure(function), **_type_params(function), **(localns or {})}
    hints = {name: resolve(hint, names) for name, hint in annotations_of(function).items()}
    result = hints.pop("return", Any)
    if get_origin(result) in {Coroutine, Awaitable} and not inspect.iscoroutinefunction(function):
        result = get_args(result)[-1]
    return hints, result


def class_hints(cls: type) -> dict[str, object]:
    """The annotations of a class and its bases by name; what cannot be resolved is `Any`."""
    hints: dict[str, object] = {}
    for base in reversed(cls.__mro__):
        module = sys.modules.get(base.__module__)
        names = {**getattr(module, "__dict__", {}), **vars(base), **_type_params(base), base.__name__: base}
        own = annotations_of(base) if "__annotations__" in vars(base) or sys.version_info >= (3, 14) else {}
        hints.update({name: resolve(hint, names) for name, hint in own.items()})
    return hints


def resolve(hint: object, names: Mapping[str, object]) -> object:
    """One annotation with the names in it looked up, `Any` if that fails."""

    def holder() -> None: ...

    holder.__annotations__ = {"it": hint}
    try:
        return typing.get_type_hints(holder, dict(names), {}, include_extras=True)["it"]
    except Exception:  # noqa: BLE001  # an annotation is any code at all; a broken one must not break the function
        return Any


def annotations_of(obj: object) -> dict[str, object]:
    """The raw annotations of a function or class itself, names in them not looked up."""
    if sys.version_info >= (3, 14):
        import annotationlib  # noqa: PLC0415  # exists since 3.14 only

        return dict(annotationlib.get_annotations(obj, format=annotationlib.Format.FORWARDREF))
    found = getattr(obj, "__annotations__", None)
    return dict(found) if isinstance(found, Mapping) else {}


def _function_of(fn: object) -> object:
    """The function with the annotations, behind partials, decorators, methods and callable objects."""
    for _ in range(100):  # a chain of wrappers, not a circle
        if isinstance(fn, functools.partial):
            fn = fn.func
        elif hasattr(fn, "__wrapped__"):
            fn = fn.__wrapped__
        elif inspect.ismethod(fn):
            fn = fn.__func__
        elif inspect.isroutine(fn) or inspect.isclass(fn):
            break
        else:
            fn = getattr(type(fn), "__call__", None)  # noqa: B004  # the function itself is wanted
    return fn


def _closure(function: object) -> dict[str, object]:
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None)
    found: dict[str, object] = {}
    for name, cell in zip(getattr(code, "co_freevars", ()), cells or (), strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return found


def _type_params(obj: object) -> dict[str, object]:
    return {param.__name__: param for param in getattr(obj, "__type_params__", ())}
