"""What kind of function a user has handed over."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from flowkit.errors import ConfigurationError


def require_function(fn: object, where: str) -> Callable[..., Any]:
    """The function, or an error that says what was given instead."""
    if not callable(fn) or isinstance(fn, type):
        raise ConfigurationError(f"{where} takes a function, not {fn!r}")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise ConfigurationError(f"{where} cannot take a generator ({function_name(fn)}): return a list instead")
    return fn


def is_async_function(fn: Callable[..., object]) -> bool:
    """True if calling it gives a coroutine."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    if getattr(getattr(fn, "spec", None), "is_async", False):  # an async step or task
        return True
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004  # an object whose __call__ is async


def function_name(fn: Callable[..., object]) -> str:
    """What to call it."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    return str(getattr(fn, "__name__", type(fn).__name__))
