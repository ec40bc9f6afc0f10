"""What every codec promises, and the few words that the codec's modules share."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from flowkit.errors import SerializationError
from flowkit.frozen import frozen

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
"""A plain JSON value; NaN, the infinities and integers of any size among them, as the standard library writes them."""

TAG = "$"
"""The one reserved key: an object that has it says itself what it is. A user's own dict with it is written escaped."""

VALUE = "="
"""Beside `TAG`: what the kind's own form of the value is. No attribute of a class can have this name."""


class Codec(Protocol):
    """Turns values into JSON documents and documents into bytes, and back.

    The two halves are separate so that either can be replaced alone: override `dumps` and `loads` to encrypt or
    compress, `to_json` and `from_json` to store classes of your own in another way. `flowkit.codec.JsonCodec` is the
    one that is used by default.
    """

    def to_json(self, value: object, hint: object = Any) -> Json:
        """The value as a JSON document; raises `SerializationError` where it could not come back as itself."""

    def from_json(self, data: Json, hint: object = Any) -> object:
        """The value that `to_json` was given, equal and of the same type, when it is given the same `hint`."""

    def dumps(self, document: Json) -> bytes:
        """The document as bytes."""

    def loads(self, data: bytes) -> Json:
        """The document that `dumps` was given; raises `SerializationError` if the bytes are not from there."""


@frozen
class Plan:
    """How the values of one annotation or class are written and read."""

    encode: Callable[[object], Json]
    decode: Callable[[Json], object]
    flat: bool = False
    """`encode` gives an object with neither `TAG` nor `VALUE`, and `decode` overlooks a `TAG` in it."""


class Unencodable(SerializationError):
    """Raised deep inside a value by what cannot be stored; the codec adds the path and raises it anew."""

    def __init__(self, value: object, reason: str) -> None:
        super().__init__(reason)
        self.value = value
        self.reason = reason


class ClassNotFound(SerializationError):
    """A stored value names a class that this process has not imported, or that is no longer there."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


def text_encoder(*, ensure_ascii: bool = True, sort_keys: bool = False) -> Callable[[object], str]:
    """What writes documents as JSON text, without spaces.

    It takes no detour as `JSONEncoder.encode` does: that makes the C encoder anew at each call, a third of a small
    document's cost. The C encoder is no public name; without it (PyPy), the public way does the same.
    """
    public = json.JSONEncoder(
        ensure_ascii=ensure_ascii, sort_keys=sort_keys, separators=(",", ":"), check_circular=False
    )
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return public.encode
    string = json.encoder.encode_basestring_ascii if ensure_ascii else json.encoder.encode_basestring
    chunks = make(None, public.default, string, None, ":", ",", sort_keys, False, True)  # noqa: FBT003  # its own signature
    join = "".join
    return lambda document: join(chunks(document, 0))


LARGE_TEXT = 32 * 1024  # characters from which `quoted` is the faster way
PIECE = 64 * 1024  # characters that stay in the processor's cache, in all the forms that they go through
_ESCAPED = ((b"\\", b"\\\\"), (b'"', b'\\"'), (b"\n", b"\\n"), (b"\r", b"\\r"), (b"\t", b"\\t"))
_CONTROL = tuple(bytes([code]) for code in range(32) if code not in b"\n\r\t")


def quoted(text: str, before: bytes = b"") -> bytes | None:
    """A text as a JSON string, as the encoder above writes it, behind some bytes; None if it takes the encoder.

    The encoder looks at each character, 2 ns each, and leaves three copies behind. Here the processor looks for each of
    32 that need something, many bytes at a time, and there are two copies: for a long text a quarter of the time.
    """
    pieces = [before, b'"']
    for start in range(0, len(text), PIECE):
        data = text[start : start + PIECE].encode("utf-8", "surrogatepass")
        for character in _CONTROL:
            if character in data:
                return None
        for character, escape in _ESCAPED:
            data = data.replace(character, escape)
        pieces.append(data)
    pieces.append(b'"')
    return b"".join(pieces)
