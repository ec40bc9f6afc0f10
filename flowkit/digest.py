"""A short digest of a call's arguments, to tell whether a replay calls a step as the record says (rule I3)."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import cast
from zlib import crc32

from flowkit.codec_base import TAG, VALUE, Codec, Json
from flowkit.errors import SerializationError

_MISSING = object()
_WIDEST = 1 << 64
_POSITIONAL = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}


class ArgumentDigest:
    """Digests the arguments of calls of one function.

    The digest is the same in every process and on every Python version, whether an argument is given by position or by
    keyword, and whatever the order of a dict or set. Arguments that equal the parameter's default are left out, so that
    a new parameter with a default changes nothing; so is what cannot be encoded. It is a checksum against mistakes, of
    32 bits, and holds off no attacker.

    Args:
        fn: the function; one without a readable signature is digested by position.

    Example:
        >>> from flowkit.codec import JsonCodec
        >>> def add(a: int, b: int = 0) -> int: ...
        >>> digest, codec = ArgumentDigest(add), JsonCodec()
        >>> digest((1,), {}, codec) == digest((), {"b": 0, "a": 1}, codec)
        True
    """

    def __init__(self, fn: Callable[..., object]) -> None:
        parameters = _parameters(fn)
        self._names = tuple(p.name for p in parameters if p.kind in _POSITIONAL)
        self._only_positional = frozenset(p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_ONLY)
        self._defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}

    def __call__(self, args: tuple[object, ...], kwargs: Mapping[str, object], codec: Codec) -> str:
        """The digest of one call, as 8 hexadecimal digits."""
        names, defaults = self._names, self._defaults
        parts: list[str] = []
        for name, value in zip(names, args, strict=False):
            default = defaults.get(name, _MISSING)
            if value is not default and (text := _part(name, value, default, codec)):
                parts.append(text)
        if len(args) > len(names) and (text := _part("*", args[len(names) :], _MISSING, codec)):
            parts.append(text)
        for name, value in kwargs.items():
            # A keyword with the name of a positional-only parameter is one of the function's **kwargs.
            default = _MISSING if name in self._only_positional else defaults.get(name, _MISSING)
            label = "**" + name if name in self._only_positional else name
            if value is not default and (text := _part(label, value, default, codec)):
                parts.append(text)
        parts.sort()
        return f"{crc32(''.join(parts).encode('utf-8', 'surrogatepass')):08x}"


def _parameters(fn: Callable[..., object]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):  # some builtins
        return []


def _part(name: str, value: object, default: object, codec: Codec) -> str:
    """The text of one argument, empty if it is to be left out."""
    text = _text(value, codec)
    if text is None or (default is not _MISSING and text == _text(default, codec)):
        return ""
    return f"{name}={text};"


def _text(value: object, codec: Codec) -> str | None:
    """The value as text, never as `repr` of a string: what counts as printable differs between Python versions."""
    kind = type(value)
    if kind is str:
        text = cast("str", value)
        return f"s{len(text)}:{text}"
    if kind is int:
        number = cast("int", value)
        return str(number) if -_WIDEST < number < _WIDEST else hex(number)
    try:
        document = codec.to_json(value)
        return "j" + json.dumps(_canonical(document), sort_keys=True)
    except (SerializationError, RecursionError, ValueError, TypeError):
        return None


def _canonical(document: Json) -> Json:
    """The document with the pairs of dicts, which are written in the dict's order, sorted."""
    if type(document) is list:
        return [_canonical(item) for item in document]
    if type(document) is not dict:
        return document
    sorted_ = {key: _canonical(item) for key, item in document.items()}
    pairs = sorted_.get(VALUE)
    if sorted_.get(TAG) in {"dict", "map", "counter"} and type(pairs) is list:
        pairs.sort(key=lambda pair: json.dumps(pair, sort_keys=True))
    return sorted_
