"""Where in a value the part is that cannot be stored, and what to do about it: only for the error message."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from contextlib import suppress
from types import MemberDescriptorType

from flowkit.codec.classes import field_names, is_named_tuple
from flowkit.codec.names import class_name

_LONGEST = 40


Trail = tuple["Trail", str] | None
"""How a part is reached: the way to what it is in, and its place there. As text, deep values would cost a square."""


def find_path(root: object, part: object) -> str:
    """The path from a value to a part of it, as in `$.items[3].socket`; `$` alone if it is not found."""
    queue: deque[tuple[object, Trail]] = deque([(root, None)])
    seen: set[int] = set()
    while queue:
        value, trail = queue.popleft()
        if value is part:
            return _path(trail)
        if id(value) not in seen:
            seen.add(id(value))
            queue.extend((child, (trail, label)) for label, child in _children(value))
    return "$"


def find_cycle(root: object) -> str | None:
    """The path to a part that contains itself, or None if no part does."""
    ancestors = {id(root)}
    done: set[int] = set()
    stack: list[tuple[object, Trail, Iterator[tuple[str, object]]]] = [(root, None, iter(_children(root)))]
    while stack:
        value, trail, children = stack[-1]
        for label, child in children:
            if id(child) in ancestors:
                return _path((trail, label))
            if id(child) not in done:
                ancestors.add(id(child))
                stack.append((child, (trail, label), iter(_children(child))))
                break
        else:
            stack.pop()
            ancestors.discard(id(value))
            done.add(id(value))
    return None


def describe(value: object) -> str:
    """The class of a value, for a message."""
    cls = type(value)
    return cls.__qualname__ if cls.__module__ == "builtins" else class_name(cls)


def remedy(value: object) -> str:
    """What to do about a value that cannot be stored."""
    cls = type(value)
    if inspect.iscoroutine(value) or inspect.isawaitable(value):
        return "await it first"
    if isinstance(value, BaseException):
        return "give it args that can be stored"
    if inspect.isroutine(value) or isinstance(value, type):
        return "pass its name, or look it up inside the step"
    if any(hasattr(value, name) for name in ("acquire", "fileno", "read", "connect")):
        return "open it inside the step that uses it, and pass what it is opened with"
    if isinstance(value, (Iterator, KeysView, ValuesView, ItemsView)):
        return "make it a list first"
    if "<locals>" in cls.__qualname__:
        return "define the class at module level, or name it in the annotation"
    for base in (bool, int, float, complex, str, bytes, dict, list, tuple, set, frozenset, Mapping):
        if isinstance(value, base):
            return f"convert it with {'dict' if base is Mapping else base.__name__}(...) first"
    return "make it an attrs class or a dataclass, or register hooks for it: JsonCodec(converter=...)"


def _path(trail: Trail) -> str:
    labels = []
    while trail is not None:
        trail, label = trail
        labels.append(label)
    labels.append("$")
    return "".join(reversed(labels))


def _children(value: object) -> list[tuple[str, object]]:
    """The parts of a value and how each is reached from it."""
    cls = type(value)
    if isinstance(value, dict):
        keys = [(f".keys()[{_text(key)}]", key) for key in value]
        return keys + [(_key(key), item) for key, item in value.items()]
    if isinstance(value, tuple) and is_named_tuple(cls):
        return [(f".{name}", item) for name, item in zip(field_names(cls), value, strict=False)]
    if isinstance(value, (list, tuple, deque)):
        return [(f"[{i}]", item) for i, item in enumerate(value)]
    if isinstance(value, (set, frozenset)):
        return [(f"{{{_text(item)}}}", item) for item in value]
    if isinstance(value, BaseException):
        return [(f".args[{i}]", item) for i, item in enumerate(value.args)] + _attributes(value)
    return _attributes(value)


def _attributes(value: object) -> list[tuple[str, object]]:
    found: dict[str, object] = {}
    for cls in type(value).__mro__:
        for name, slot in vars(cls).items():
            if isinstance(slot, MemberDescriptorType):
                with suppress(AttributeError):
                    found[f".{name}"] = slot.__get__(value, cls)
    with suppress(AttributeError):
        found.update({f".{name}": item for name, item in object.__getattribute__(value, "__dict__").items()})
    return list(found.items())


def _key(key: object) -> str:
    return f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{_text(key)}]"


def _text(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  # a broken __repr__ must not hide the error that is being told
        text = f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
