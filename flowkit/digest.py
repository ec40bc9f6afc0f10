"""A short digest of a call's arguments, to tell whether a replay calls a step as the record says (rule I3)."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from zlib import crc32

from flowkit.codec_base import TAG, VALUE, Codec, Json

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
        self._only_positional = frozenset(p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_ONLY)
        self._defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
        self._names = tuple(p.name for p in parameters if p.kind in _POSITIONAL)
        # For each parameter: how the text of an integer begins, that of a string, and the text of the default.
        self._simple = tuple((f"{name}=", f"{name}=s", self._default_part(name)) for name in self._names)

    def __call__(self, args: tuple[object, ...], kwargs: Mapping[str, object], codec: Codec) -> str:
        """The digest of one call, as 8 hexadecimal digits."""
        if kwargs or len(args) > len(self._names):
            return self._any_call(args, kwargs, codec)
        whole, i = "", 0
        for value in args:
            name, string, default = self._simple[i]
            i += 1  # noqa: SIM113  # measured: enumerate and zip cost a tenth of the call
            if type(value) is str:
                text = f"{string}{len(value)}:{value};"
            elif type(value) is int and -_WIDEST < value < _WIDEST:
                text = f"{name}{value};"
            else:
                return self._any_call(args, kwargs, codec)
            if text != default:
                whole += text
        return f"{crc32(whole.encode('utf-8', 'surrogatepass')):08x}"

    def _any_call(self, args: tuple[object, ...], kwargs: Mapping[str, object], codec: Codec) -> str:
        """The digest of a call with other than plain strings and integers by position."""
        names = self._names
        parts = dict(zip(names, args, strict=False))
        texts = dict.fromkeys(names, "")  # whatever way the arguments are given, the signature's order is kept
        for name in sorted(kwargs):
            # A keyword with the name of a positional-only parameter is one of the function's **kwargs.
            label = f"**{name}" if name in self._only_positional else name
            parts[label] = kwargs[name]
        if len(args) > len(names):
            parts["*"] = args[len(names) :]
        for name, value in parts.items():
            texts[name] = self._part(name, value, codec)
        return f"{crc32(''.join(texts.values()).encode('utf-8', 'surrogatepass')):08x}"

    def _default_part(self, name: str) -> str | None:
        text = _scalar_text(self._defaults.get(name, _MISSING))
        return None if text is None else f"{name}={text};"

    def _part(self, name: str, value: object, codec: Codec) -> str:
        """The text of one argument, empty if it is to be left out."""
        default = self._defaults.get(name, _MISSING)
        if value is default:
            return ""
        text = _text(value, codec)
        if text is None or (default is not _MISSING and text == _text(default, codec)):
            return ""
        return f"{name}={text};"


def _parameters(fn: Callable[..., object]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):  # some builtins
        return []


def _text(value: object, codec: Codec) -> str | None:
    """The value as text; None if it cannot be encoded."""
    text = _scalar_text(value)
    if text is not None:
        return text
    try:
        return "j" + json.dumps(_canonical(codec.to_json(value)), sort_keys=True)
    except Exception:  # noqa: BLE001  # I3: what cannot be encoded is left out; a codec is any code at all
        return None


def _scalar_text(value: object) -> str | None:
    """The text of a string or integer; no `repr`, as what it shows as printable differs between Python versions."""
    match value:
        case str() if type(value) is str:
            return f"s{len(value)}:{value}"
        case int() if type(value) is int and -_WIDEST < value < _WIDEST:
            return str(value)
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
