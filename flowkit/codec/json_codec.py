"""`JsonCodec`: values to JSON text and back, so that what is read is what was written (rule D5)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flowkit.codec.base import LARGE_TEXT, Json, Unencodable, quoted, text_encoder
from flowkit.codec.exceptions import decode_as_value, encode_as_value
from flowkit.codec.paths import describe, find_cycle, find_path, remedy
from flowkit.errors import SerializationError

if TYPE_CHECKING:
    from cattrs import Converter  # loaded by the first codec, not by `import flowkit`: docs/decisions/0007-records.md

_to_text = text_encoder(ensure_ascii=False)
# As `JSONDecoder.decode` does, without its two searches for white space, which cost more than a small document.
_scan: Callable[[str, int], tuple[Json, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # not in the stubs


class _Ways(dict[object, Callable[[Any], Any]]):
    """One way (to JSON or from it) of each annotation, made when it is first asked for: one look-up on the hot path."""

    def __init__(self, make: Callable[[object], Callable[[Any], Any]]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, hint: object) -> Callable[[Any], Any]:
        self[hint] = way = self._make(hint)
        return way


class JsonCodec:
    """Stores values as JSON that people can read; each comes back equal and of the same type.

    JSON's types (with dict keys of any type, NaN, infinities, integers of any size), tuples, sets, frozensets, bytes,
    dates and times, Decimals, UUIDs, paths, complex numbers, enums, attrs classes, dataclasses, TypedDicts and
    NamedTuples survive, nested in one another. Where an annotation says what a value is, its form is shorter; a value
    that is something else than its annotation says still comes back as what it is.

    Args:
        converter: a cattrs converter with hooks for further classes, or other hooks for some of these. It is copied.
            Hooks that are registered for a class come before flowkit's own.

    Raises:
        SerializationError: from `to_json`, where a value would not come back as itself, naming the path to it; from
            `loads` and `from_json`, for data that this codec has not written.

    Example:
        >>> codec = JsonCodec()
        >>> codec.dumps(codec.to_json({"sizes": (1, 2)}))
        b'{"sizes":{"$":"tuple","=":[1,2]}}'
        >>> codec.from_json(codec.loads(b'[1,2]'), tuple[int, ...])
        (1, 2)
    """

    def __init__(self, converter: Converter | None = None) -> None:
        from cattrs import Converter  # noqa: PLC0415  # as above

        from flowkit.codec.plans import Plans  # noqa: PLC0415  # loads cattrs as well

        self._plans = Plans(Converter() if converter is None else converter.copy())
        self._plans.tagging.add_family(
            BaseException, "error", lambda error: encode_as_value(self, error), lambda data: decode_as_value(self, data)
        )

        self._encoders = _Ways(lambda hint: self._plans.plan(hint).encode)
        self._decoders = _Ways(lambda hint: self._plans.plan(hint).decode)

    def to_json(self, value: object, hint: object = Any) -> Json:
        """The value as a JSON document that shares nothing with it."""
        encode: Callable[[object], Json]
        try:
            encode = self._encoders[hint]
        except TypeError:  # an annotation that cannot be hashed
            encode = self._plans.plan(hint).encode
        try:
            return encode(value)
        except Unencodable as error:
            path, what = find_path(value, error.value), describe(error.value)
            raise SerializationError(f"{path}: {what} {error.reason}; {remedy(error.value)}") from None
        except SerializationError:
            raise
        except RecursionError:
            cycle = find_cycle(value)
            what = f"{cycle}: contains itself" if cycle else "$: nested too deeply"
            raise SerializationError(f"{what}; store it in parts, or by id") from None
        except Exception as error:  # hooks of users are any code at all
            raise SerializationError(
                f"$: {describe(value)} cannot be stored: {type(error).__name__}: {error}"
            ) from error

    def from_json(self, data: Json, hint: object = Any) -> object:
        """The value that `to_json` was given."""
        try:
            decode = self._decoders[hint]
        except TypeError:  # an annotation that cannot be hashed
            decode = self._plans.plan(hint).decode
        try:
            return decode(data)
        except SerializationError:
            raise
        except Exception as error:  # D5: data is untrusted, so anything can be wrong with it
            raise SerializationError(f"stored data does not make a value: {type(error).__name__}: {error}") from error

    def dumps(self, document: Json) -> bytes:
        """The document as JSON text in UTF-8. Override it, together with `loads`, to encrypt or compress."""
        if type(document) is str and len(document) >= LARGE_TEXT and (text := quoted(document)) is not None:
            return text
        try:
            # Lone surrogates, as in the names of undecodable files, are kept.
            return _to_text(document).encode("utf-8", "surrogatepass")
        except (TypeError, ValueError, RecursionError) as error:
            raise SerializationError(f"a document cannot be written as JSON: {error}") from error

    def loads(self, data: bytes) -> Json:
        """The document that `dumps` was given."""
        try:
            text = data.decode("utf-8", "surrogatepass")
            document, end = _scan(text, 0)
            if end != len(text):
                raise ValueError(f"something follows it at {end}")
            return document
        except (StopIteration, ValueError, RecursionError) as error:
            why = f"nothing can be read at {error}" if isinstance(error, StopIteration) else error
            msg = f"stored bytes are not the JSON that this codec writes ({why}); were they written with another codec?"
            raise SerializationError(msg) from error
