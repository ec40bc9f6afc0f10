"""Exceptions in stored data (rule D6).

An exception comes back as its class, its args and its attributes, put together without its `__init__`: the `__new__` of
the builtin class that it derives from makes it, and no code of the class itself runs. Whether that gives the same
exception again is tried when it is recorded, and recorded too; if not, a `StepError` stands for it ever after.
"""

from __future__ import annotations

import json
from typing import cast

from flowkit.codec.base import ClassNotFound, Codec, Json
from flowkit.codec.exceptions import cause_of, decode_exception, encode_exception, traceback_of
from flowkit.codec.names import class_name
from flowkit.errors import RunBlocked, SerializationError, StepError
from flowkit.notes import text_of

_CAUSES = 8  # how many causes of causes are kept
_LONGEST_LOST = 10_000  # characters of an error's text, where no more is kept of it


def error_to_json(codec: Codec, error: BaseException) -> Json:
    """The exception as a JSON document; never fails, whatever the exception is like.

    Args:
        codec: encodes the args and attributes.
        error: the exception; its cause is kept too, its traceback and context are not.
    """
    return _record(codec, error, _CAUSES)[0]


def live_error(codec: Codec, error: BaseException, most_bytes: int | None = None) -> tuple[Json, BaseException]:
    """What to record of an exception, and the exception that a replay will raise.

    The second is `error` itself where nothing of it is lost; otherwise what the record gives, with the traceback of
    `error`: the same class without the attributes that cannot be stored, or a `StepError`, whose cause is `error`.

    Args:
        codec: encodes the args and attributes.
        error: the exception.
        most_bytes: how large its record may be. An error may hold all the data that it complains of, as a
            `UnicodeDecodeError` does; that must not keep its run from ending.
    """
    document, complete = _record(codec, error, _CAUSES)
    if most_bytes is not None and len(codec.dumps(document)) > most_bytes:
        document, complete = _short_record(codec, error, most_bytes), False
    if complete:
        return document, error
    seen = error_from_json(codec, document)
    if "lost" in document:
        seen.__cause__ = error
        return document, seen
    return document, BaseException.with_traceback(seen, traceback_of(error))


def error_from_json(codec: Codec, data: Json) -> BaseException:
    """The exception that `error_to_json` was given, or the `StepError` that stands for it.

    Raises:
        RunBlocked: its class is not imported in this process; the message names the module to import.
        SerializationError: the data does not come from `error_to_json`.
    """
    try:
        return _read(codec, data)
    except ClassNotFound as error:
        msg = f"a recorded error cannot be raised again: {error}"
        raise RunBlocked(msg) from None
    except SerializationError:
        raise
    except Exception as error:  # D5: data is untrusted, so anything can be wrong with it
        msg = f"stored data does not make an error: {type(error).__name__}: {error}"
        raise SerializationError(msg) from error


def error_text(data: Json) -> str:
    """A recorded exception in one line, such as `ValueError: too large`; nothing is imported or made for it."""
    if not isinstance(data, dict):
        return "unknown error"
    name = _short(str(data.get("error") or data.get("lost") or "unknown error"))
    args = data.get("args")
    text = data.get("text") or (args[0] if isinstance(args, list) and args else "")
    return f"{name}: {text}" if text else name


def _short_record(codec: Codec, error: BaseException, most_bytes: int) -> dict[str, Json]:
    """The document of an exception that is too large: what is large in it, or else all of it, is lost."""
    document, _ = _record(codec, error, _CAUSES, most_bytes // 64)
    if (size := len(codec.dumps(document))) > most_bytes:
        return _lost(error, _too_large(size))
    return document


def _too_large(size: int) -> SerializationError:
    return SerializationError(f"it takes {size:,} bytes, too many to be kept")


def _record(
    codec: Codec, error: BaseException, causes: int, most_bytes: int | None = None
) -> tuple[dict[str, Json], bool]:
    """The document of an exception, and whether it gives the very same one."""
    try:
        document, complete = encode_exception(codec, error)
        _prove(codec, error, document)
        if most_bytes is not None and (size := len(codec.dumps(document))) > most_bytes:
            raise _too_large(size)
        if "group" in document:
            inner = [_record(codec, each, causes, most_bytes) for each in cast("BaseExceptionGroup", error).exceptions]
            document["inner"] = [each for each, _ in inner]
            complete = complete and all(whole for _, whole in inner)
    except Exception as reason:  # noqa: BLE001  # D6: whatever is wrong with it, there is a record of it
        return _lost(error, reason), False
    cause = cause_of(error)
    if cause is not None and causes:
        document["cause"] = _record(codec, cause, causes - 1, most_bytes)[0]
    return document, complete


def _prove(codec: Codec, error: BaseException, document: dict[str, Json]) -> None:
    """D6: make the exception from its record, and see that it gives the same record."""
    inner = list(error.exceptions) if isinstance(error, BaseExceptionGroup) else []
    again, _ = encode_exception(codec, decode_exception(codec, codec.loads(codec.dumps(document)), inner))
    if _comparable(again) != _comparable(document):
        msg = "it does not come back the same"
        raise SerializationError(msg)


def _comparable(document: dict[str, Json]) -> str:
    return json.dumps({key: value for key, value in document.items() if key != "text"}, sort_keys=True)


def _short(name: str) -> str:
    """The class's own name, from `module:Outer.Inner`."""
    return name.rpartition(":")[2].rpartition(".")[2]


def _lost(error: BaseException, reason: Exception) -> dict[str, Json]:
    return {"lost": class_name(type(error)), "text": _cut(text_of(error)), "why": _cut(text_of(reason))}


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_LOST else f"{text[:_LONGEST_LOST]}..."


def _read(codec: Codec, data: Json) -> BaseException:
    document = cast("dict[str, Json]", data)
    if "lost" in document:
        name, text, why = (cast("str", document[key]) for key in ("lost", "text", "why"))
        return StepError(f"{_short(name)}: {text} (it cannot be raised again as itself: {why})", name, text)
    inner = [_read(codec, each) for each in cast("list[Json]", document.get("inner", []))]
    error = decode_exception(codec, data, inner)
    if "cause" in document:
        BaseException.__setattr__(error, "__cause__", _read(codec, document["cause"]))
    return error
