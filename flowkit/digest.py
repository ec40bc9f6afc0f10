"""A short digest of a call's arguments, to tell whether a replay calls a step as the record says (rule I3)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from zlib import crc32

from flowkit.codec.base import TAG, VALUE, Codec, Json, text_encoder

_MISSING = object()
_WIDEST = 1 << 64
_LEAST = -_WIDEST
_UNORDERED = ("dict", "map", "counter")  # the kinds of values whose pairs are equal in any order
_sorted_text = text_encoder(sort_keys=True)
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
        self._count = len(self._names)
        self._places = {name: i for i, name in enumerate(self._names) if name not in self._only_positional}
        # For each parameter: how the text of an integer begins, that of a string, and the text of the default.
        self._simple = tuple((f"{name}=", f"{name}=s", self._default_part(name)) for name in self._names)

    def __call__(self, args: tuple[object, ...], kwargs: Mapping[str, object], codec: Codec) -> str:
        """The digest of one call, as 8 hexadecimal digits."""
        if kwargs or len(args) > self._count:
            return self._any_call(args, kwargs, codec)
        whole, i, simple = "", 0, self._simple
        for value in args:
            name, string, default = simple[i]
            i += 1  # noqa: SIM113  # measured: enumerate and zip cost a tenth of the call
            if type(value) is str:
                text = f"{string}{len(value)}:{value};"
            elif type(value) is int and _LEAST < value < _WIDEST:
                text = f"{name}{value};"
            else:
                return self._any_call(args, kwargs, codec)
            if text != default:
                whole += text
        try:
            data = whole.encode()
        except UnicodeEncodeError:  # lone surrogates
            data = whole.encode("utf-8", "surrogatepass")
        return crc32(data).to_bytes(4).hex()  # measured: half the time of a format

    def _any_call(self, args: tuple[object, ...], kwargs: Mapping[str, object], codec: Codec) -> str:
        """The digest of a call with other than plain strings and integers by position."""
        count = self._count
        # Whatever way the arguments are given, the signature's order is kept.
        parts = [self._part(name, value, codec) for name, value in zip(self._names, args, strict=False)]
        parts += [""] * (count - len(parts))
        if len(args) > count:
            parts.append(self._part("*", args[count:], codec))
        for name in sorted(kwargs):
            place = self._places.get(name)
            if place is None:
                # A keyword with the name of a positional-only parameter is one of the function's **kwargs.
                label = f"**{name}" if name in self._only_positional else name
                parts.append(self._part(label, kwargs[name], codec))
            else:
                parts[place] = self._part(name, kwargs[name], codec)
        return f"{crc32(''.join(parts).encode('utf-8', 'surrogatepass')):08x}"

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


def combined_digest(digests: Iterable[str]) -> str:
    """One digest of several calls, in order."""
    return f"{crc32(' '.join(digests).encode()):08x}"


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
        document = codec.to_json(value)
        text = _sorted_text(document)
        if '"dict"' in text or '"map"' in text or '"counter"' in text:  # measured: a loop costs more than all three
            text = _sorted_text(_canonical(document))
        return f"j{text}"
    except Exception:  # noqa: BLE001  # I3: what cannot be encoded is left out; a codec is any code at all
        return None


def _scalar_text(value: object) -> str | None:
    """The text of a string or integer; no `repr`, as what it shows as printable differs between Python versions."""
    if type(value) is str:
        return f"s{len(value)}:{value}"
    if type(value) is int and -_WIDEST < value < _WIDEST:
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
    if sorted_.get(TAG) in _UNORDERED and type(pairs) is list:
        pairs.sort(key=_sorted_text)
    return sorted_
